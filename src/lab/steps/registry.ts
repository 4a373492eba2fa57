/** Every step that a topology may name. */
import type { StepSchemas } from '../topology.ts';
import { appNetwork } from './app-network.ts';
import { connect } from './connect.ts';
import { degraded } from './degraded.ts';
import { drain } from './drain.ts';
import { enroll } from './enroll.ts';
import { fallback } from './fallback.ts';
import { membership } from './membership.ts';
import { peers } from './peers.ts';
import { policy } from './policy.ts';
import { link, ping, run, udp } from './plain.ts';
import { qosQuic, qosTcp } from './qos.ts';
import { refuse } from './refuse.ts';
import { restartDaemon } from './restart-daemon.ts';
import { restartTower } from './restart-tower.ts';
import { revoke } from './revoke.ts';
import { rotate } from './rotate.ts';
import { rotateRoot } from './rotate-root.ts';
import type { Step } from './step.ts';
import { unseal } from './unseal.ts';

export const steps: ReadonlyMap<string, Step> = new Map(
  [
    enroll,
    connect,
    peers,
    qosQuic,
    qosTcp,
    fallback,
    restartTower,
    degraded,
    drain,
    refuse,
    appNetwork,
    restartDaemon,
    membership,
    policy,
    rotate,
    rotateRoot,
    unseal,
    revoke,
    ping,
    run,
    udp,
    link,
  ].map((step) => [step.name, step]),
);

export const stepSchemas: StepSchemas = new Map([...steps.values()].map((step) => [step.name, step.parameters]));
