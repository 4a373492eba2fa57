/** What the attacks of hostile*.test.ts are made with: a victim in a process of its own, sessions that say anything, and an honest neighbour that must notice nothing. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { NodeIdentity } from '../../src/base/ids.ts';
import type { Hello } from '../../src/channel/hello.ts';
import { QuicTransport } from '../../src/transport/quic.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { makeAuthority, type TestAuthority } from '../fixtures/certs.ts';
import type { VictimFacts, VictimSetting } from './fixtures/victim.ts';
import { alpha, beta, type ScenarioHost, startHost } from './hosts.ts';
import { helloOf } from '../../src/lab/hello-of.ts';
import { type Hostile, speakRaw } from './hostile-peer.ts';
import { type ScenarioTransport, transports } from './ways.ts';
import { encodeControl } from '../../src/channel/frame-encoder.ts';
import type { HeartbeatFrame } from '../../src/channel/frames.ts';

export const MIB = 1024 * 1024;
const VICTIM = fileURLToPath(new URL('./fixtures/victim.ts', import.meta.url));

export const mallory: NodeIdentity = { cluster: 'test', site: 'harbor', node: '0e0000000666' };

export interface Victim {
  readonly tcp: number;
  readonly udp: number;
  readonly authority: TestAuthority;
  readonly inbox: string;
  readonly child: ChildProcess;
  facts(): Promise<VictimFacts>;
  /** Ends it and fails the test if it did not end by itself, well, within seconds. */
  stop(): Promise<void>;
}

/** A victim as node `beta` of a cluster of its own. */
export async function startVictim(t: Test): Promise<Victim> {
  const authority = await makeAuthority('test');
  const credentials = await authority.issue({ node: beta.node, site: beta.site });
  const inbox = t.testdir({});
  const child = fork(VICTIM, { execArgv: ['--expose-gc'], serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const setting: VictimSetting = { self: beta, credentials, root: authority.root, inbox };
  child.send(setting);
  const [ports] = (await once(child, 'message')) as [{ tcp: number; udp: number }];
  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      if (child.connected) child.send('stop');
      const late = setTimeout(() => child.kill('SIGKILL'), 9_000);
      t.same(await exited, [0, null], 'the victim ends by itself, and no error went unhandled');
      clearTimeout(late);
    })();
    return stopping;
  };
  // For a test that failed before it stopped its victim.
  t.teardown(() => child.kill('SIGKILL'));
  return {
    ...ports,
    authority,
    inbox,
    child,
    async facts() {
      child.send('facts');
      const [facts] = (await once(child, 'message')) as [VictimFacts];
      return facts;
    },
    stop,
  };
}

/** An honest node with a channel to the victim. */
export interface Honest {
  readonly host: ScenarioHost;
  /** Proves that it works. */
  echo(): Promise<void>;
  /** Says one thing after the other until it is stopped; how many, and how many came back as they were said. */
  talk(): { stop(): Promise<{ readonly said: number; readonly heard: number }> };
}

/** Between two things that it says. */
const TALK_MS = 10;

export async function honestNode(t: Test, victim: Victim, transport: ScenarioTransport = 'quic', node = alpha.node): Promise<Honest> {
  const host = await startHost(t, { self: { ...alpha, node }, authority: victim.authority, transport });
  const endpoint = { host: '127.0.0.1', tcp: transport === 'tcp' ? victim.tcp : null, udp: transport === 'quic' ? victim.udp : null };
  host.host.mesh.setCandidates([{ identity: beta, name: 'victim', endpoints: [endpoint], isDialed: true }]);
  await host.until((status) => status.some(({ state, transport }) => state === 'established' && transport !== null));
  const flow = host.host.mesh.open(beta.node, 'input', 'messages', 'echo');
  let count = 0;
  const ask = async (): Promise<boolean> => {
    count = (count + 1) % 256;
    const said = count;
    flow.send(Uint8Array.of(said));
    const heard = await flow.receive();
    return heard?.length === 1 && heard[0] === said;
  };
  return {
    host,
    async echo() {
      t.ok(await ask(), 'the honest neighbour is served on the channel that it had');
    },
    talk() {
      let isOver = false;
      const talking = (async () => {
        const counts = { said: 0, heard: 0 };
        do {
          counts.said++;
          if (await ask()) counts.heard++;
          await pause(TALK_MS);
        } while (!isOver);
        return counts;
      })();
      return {
        stop() {
          isOver = true;
          return talking;
        },
      };
    },
  };
}

export interface HostileOptions {
  readonly transport: ScenarioTransport;
  readonly identity?: NodeIdentity;
  readonly credentials?: Credentials;
  /** Null: no hello is said. */
  readonly hello?: Partial<Hello> | null;
}

/** A session with the victim that says only what the test says. */
export async function hostile(t: Test, victim: Victim, options: HostileOptions): Promise<Hostile> {
  const identity = options.identity ?? mallory;
  const credentials = options.credentials ?? (await victim.authority.issue({ node: identity.node, site: identity.site }));
  const dialer = options.transport === 'quic' ? new QuicTransport() : new TcpTransport();
  t.teardown(() => dialer.close());
  const port = options.transport === 'quic' ? victim.udp : victim.tcp;
  const session = await dialer.dial({ host: '127.0.0.1', port }, credentials, new AbortController().signal);
  return speakRaw(session, options.hello === null ? null : helloOf(identity, options.hello));
}

/** Runs one attack over each transport, against a victim of its own, beside an honest neighbour that talks to it before, meanwhile and after, and loses nothing. */
export function attack(t: Test, promise: string, run: (t: Test, victim: Victim, transport: ScenarioTransport) => Promise<void>): void {
  for (const transport of transports) {
    t.test(`${promise} (${transport})`, async (t) => {
      const victim = await startVictim(t);
      const honest = await honestNode(t, victim, transport === 'quic' ? 'tcp' : 'quic');
      await honest.echo();
      const talk = honest.talk();
      await run(t, victim, transport);
      const { said, heard } = await talk.stop();
      t.equal(heard, said, 'what the neighbour said meanwhile came back, in order');
      await honest.echo();
      await honest.host.host.close();
      await victim.stop();
    });
  }
}

/** A heartbeat of the attacker to its victim, as an honest one would be but for what is told. */
export function heartbeatOf(channel: Uint8Array, sequence: number, more: Partial<HeartbeatFrame> = {}): Uint8Array {
  return encodeControl({
    type: 'heartbeat',
    channel,
    from: mallory.node,
    to: beta.node,
    sequence,
    stamp_us: 1,
    latency_us: 1,
    jitter_us: 1,
    loss_ppm: 0,
    health: 0,
    draining: false,
    configVersion: 0,
    routeEpoch: 0,
    ...more,
  });
}
