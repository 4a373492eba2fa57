/** Which checks there are for a host: a node's, a tower's, or one that is neither yet; with its daemon, or without. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { connectPinned } from '../../enroll/https.ts';
import { nodeSecrets, readIdentity, stateFiles } from '../../enroll/state.ts';
import type { Endpoint, IdentityFile } from '../../enroll/wire.ts';
import { fingerprint as fingerprintOf, parseFingerprint } from '../../identity/fingerprint.ts';
import { decodeTrustBundle } from '../../identity/trust-bundle.ts';
import type { UnsealSource } from '../../identity/unseal.ts';
import { callControl } from '../control-client.ts';
import { certificatesCheck } from './certificates.ts';
import { clockCheck } from './clock.ts';
import { type Check, type Finding, faultOf, ok, warning } from './finding.ts';
import { kernelCheck } from './kernel.ts';
import { type OpenedStore, openedStore } from './opened-store.ts';
import { type Listen, portsCheck } from './ports.ts';
import { reachCheck } from './reach.ts';
import { diskCheck, permissionsCheck, storeCheck } from './store.ts';
import { versionsCheck } from './versions.ts';

export type HostRole = 'node' | 'tower' | 'none';

export interface HostRequest {
  readonly state: string;
  readonly source: UnsealSource;
  /** Where the daemon would listen, as command line and configuration say; what a running one says goes before. */
  readonly listen: Listen | null;
  readonly clock: Pick<Clock, 'wall'>;
  readonly tunnelProgram: string;
  /** For each answer over the network. */
  readonly wait_ms: number;
}

const TOWER_FILE = 'tower.json';
const sockets = { node: 'selvedged.sock', tower: 'tower.sock' } as const;
const files: Readonly<Record<Exclude<HostRole, 'none'>, readonly string[]>> = {
  node: [stateFiles.identity, stateFiles.sealed, stateFiles.snapshot, 'boot.json', 'call-home.json', sockets.node],
  tower: [TOWER_FILE, stateFiles.sealed, 'tower.db', 'tower.db-wal', 'audit-head.json', sockets.tower],
};

export function roleIn(state: string): HostRole {
  if (existsSync(join(state, stateFiles.identity))) return 'node';
  return existsSync(join(state, TOWER_FILE)) ? 'tower' : 'none';
}

/** @throws nothing: what cannot be read is a finding */
export async function checksOf(request: HostRequest): Promise<Check[]> {
  const { state, source, clock, wait_ms, tunnelProgram } = request;
  const role = roleIn(state);
  const daemon = role === 'none' ? null : await askDaemon(join(state, sockets[role]));
  const listen = daemon === null ? request.listen : daemon.listen;
  const identity = await readIdentity(state).catch((error: unknown) => ({ error }));
  const node = identity !== null && 'node' in identity ? identity : null;
  const tower = node === null ? ownTower(role, daemon) : node.tower;
  const versions = { daemon: daemon === null ? null : (daemon.version ?? 'of before 0.2'), tunnelProgram, node: process.versions.node };
  const anyway = [portsCheck({ listen, daemon: daemon?.pid ?? null }), kernelCheck()];
  if (role === 'none')
    return [
      one('state', faultOf('state', new SelvedgeError('not_enrolled', { path: state }), 'a node, or a tower')),
      ...anyway,
      versionsCheck({ ...versions, tower: async () => null }),
    ];
  const path = join(state, stateFiles.sealed);
  const opened = openedStore(path, source);
  return [
    one(
      'state',
      identity !== null && 'error' in identity
        ? faultOf('state', identity.error, 'an identity that can be read')
        : ok('state', `a ${role} in ${state}`, 'a node, or a tower'),
    ),
    one('daemon', daemonFinding(role, daemon)),
    clockCheck({ clock, tower: role === 'tower' ? null : tower, files: files[role].map((file) => join(state, file)), wait_ms }),
    reachCheck(tower, wait_ms),
    ...anyway,
    permissionsCheck(state, files[role]),
    diskCheck(state),
    storeCheck(path, opened, daemon !== null),
    certificatesCheck(opened, clock),
    versionsCheck({ ...versions, tower: (signal) => (node === null ? Promise.resolve(null) : towerVersion(node, opened, clock, signal)) }),
  ];
}

interface Daemon {
  readonly pid: number | null;
  /** Null: of a version that does not say. */
  readonly version: string | null;
  readonly listen: Listen | null;
}

/** Null where none answers. */
async function askDaemon(socketPath: string): Promise<Daemon | null> {
  try {
    const signal = AbortSignal.timeout(limits.doctor_check_ms_max);
    const { self } = (await callControl({ socketPath, method: 'GET', path: '/v1/channels', signal })) as { self: Record<string, unknown> };
    const { pid, version, listen_host: host, listen_tcp_port: tcp, listen_udp_port: udp } = self;
    return {
      pid: typeof pid === 'number' ? pid : null,
      version: typeof version === 'string' ? version : null,
      listen: typeof host === 'string' && typeof tcp === 'number' ? { host, tcp, udp: typeof udp === 'number' ? udp : null } : null,
    };
  } catch {
    return null;
  }
}

function daemonFinding(role: HostRole, daemon: Daemon | null): Finding {
  const [program, expected] = [role === 'tower' ? 'selvedge tower run' : 'selvedged', 'a daemon that runs and answers on its socket'];
  if (daemon === null)
    return warning('daemon', `${program} does not run, or this user may not ask it`, expected, `Start \`${program}\`; where it runs, look as its user.`);
  return ok('daemon', `${program} runs${daemon.pid === null ? '' : ` (process ${daemon.pid})`}`, expected);
}

/** A tower that runs is reached where it listens itself. */
function ownTower(role: HostRole, daemon: Daemon | null): Endpoint | null {
  if (role !== 'tower' || daemon?.listen == null) return null;
  const { host, tcp, udp } = daemon.listen;
  return { host: host === '::' || host === '0.0.0.0' ? '127.0.0.1' : host, tcp, udp };
}

/** Asked as the node that this host is. */
async function towerVersion(
  { tower, cluster, fingerprint }: IdentityFile,
  opened: OpenedStore,
  clock: Pick<Clock, 'wall'>,
  signal: AbortSignal,
): Promise<string | null> {
  const result = await opened(signal);
  if (result.kind !== 'opened') return null;
  const [leaf, intermediate, key] = [nodeSecrets.leaf, nodeSecrets.intermediate, nodeSecrets.key].map((name) => result.store.get(name));
  if (!leaf || !intermediate || !key) return null;
  const bundle = result.store.get(nodeSecrets.trust);
  const also = bundle === null ? [] : decodeTrustBundle(bundle).roots.map(fingerprintOf);
  const pinned = { host: tower.host, port: tower.tcp, cluster, fingerprint: parseFingerprint(fingerprint), also };
  const connect = () => connectPinned(pinned, { credentials: { chain: [leaf, intermediate], key }, now_ms: () => clock.wall(), signal });
  const answer = (await callControl({ socketPath: tower.host, remote: { connect }, method: 'GET', path: '/v1/version', signal })) as { version?: unknown };
  return typeof answer.version === 'string' ? answer.version : null;
}

/** A finding that is known already, in its place among the others. */
function one(name: string, finding: Finding): Check {
  return { name, run: async () => [finding] };
}
