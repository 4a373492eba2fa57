/** Selvedge's own ways: the real selvedge-tunnel on each host, told by its socket what to make, as a daemon does. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withNewKey } from '../../src/overlay/keys.ts';
import { bridgeName, tapName } from '../../src/overlay/names.ts';
import { TunnelConnection } from '../../src/overlay/tunnel-client.ts';
import { ApplyAnswer, checker, type DesiredState, type TunnelNetwork } from '../../src/overlay/tunnel-wire.ts';
import { systemTimers } from '../../src/transport/system.ts';
import { type Hosts, type Side, type Subject, sides, underlay } from './hosts.ts';

const PROGRAM = fileURLToPath(new URL('../../native/tunnel/build/selvedge-tunnel', import.meta.url));
const PORT = 51_820;
/** The underlay may be IPv6, as it is by default. */
const MTU = 1_370;
const APPLY_MS_MAX = 60_000;

export async function startSelvedge(hosts: Hosts): Promise<Subject> {
  const keys = sides.map(newKey);
  const pids: number[] = [];
  for (const side of sides) {
    const { connection, pid } = await startTunnel(hosts, side, 'selvedge');
    pids.push(pid);
    const peer = { node: nodeOf(1 - side), vtep: vtepOf(1 - side), keys: [keys[1 - side]?.publicKey ?? ''], path: 'direct', keepalive_s: 0 } as const;
    await apply(connection, {
      owner: `bench/${nodeOf(side)}`,
      wireguard: { engine: 'user', keys: [{ privateKey: keys[side]?.privateKey ?? '', listenPort: PORT }], fwmark: 0, vtep: vtepOf(side) },
      peers: [{ ...peer, endpoint: { host: underlay[1 - side] ?? '', port: PORT } }],
      networks: [network(1, side, [{ mac: macOf(1, 1 - side), addresses: [`10.9.1.${2 - side}`], vtep: vtepOf(1 - side) }])],
    });
    connection.close();
  }
  return { to: '10.9.1.2', pids };
}

/** How long a tunnel takes for so many networks at once, each with so many peers, until all are there; seconds. */
export async function applyMany(hosts: Hosts, networks: number, peers: number): Promise<number> {
  const { connection } = await startTunnel(hosts, 0, 'many');
  const others = Array.from({ length: peers }, (_, index) => index + 1);
  const desired: DesiredState = {
    owner: 'bench/many',
    wireguard: { engine: 'user', keys: [{ privateKey: newKey().privateKey, listenPort: PORT + 100 }], fwmark: 0, vtep: vtepOf(0) },
    peers: others.map((peer) => ({ node: nodeOf(peer), vtep: vtepOf(peer), keys: [newKey().publicKey], endpoint: null, path: 'direct', keepalive_s: 0 })),
    networks: Array.from({ length: networks }, (_, index) =>
      network(
        index + 2,
        0,
        others.map((peer) => ({ mac: macOf(index + 2, peer), addresses: [`10.9.${index + 2}.${peer + 1}`], vtep: vtepOf(peer) })),
      ),
    ),
  };
  const started = performance.now();
  await apply(connection, desired);
  const seconds = (performance.now() - started) / 1000;
  await connection.call('close', {}, () => null).catch(() => {});
  connection.close();
  return seconds;
}

async function startTunnel(hosts: Hosts, side: Side, name: string): Promise<{ connection: TunnelConnection; pid: number }> {
  const socket = join(hosts.directory, `${name}-${side}.sock`);
  const child = await hosts.start(side, [PROGRAM, 'run', '--socket', socket, '--carry', `${socket}.carry`], { ready: /./ });
  const connection = await TunnelConnection.open({ path: socket, timers: systemTimers, onEvent: () => {} });
  await connection.hello();
  return { connection, pid: child.pid ?? 0 };
}

async function apply(connection: TunnelConnection, desired: DesiredState): Promise<void> {
  const { failures } = await connection.call('apply', { ...desired, generation: 1 }, checker(ApplyAnswer), APPLY_MS_MAX);
  const [first] = failures;
  if (first) throw new Error(`${first.what}: ${first.why}`);
}

function network(number: number, host: number, remote: TunnelNetwork['remote']): TunnelNetwork {
  const vni = 1_000 + number;
  const own = `10.9.${number}.${host + 1}`;
  const mac = macOf(number, host);
  const names = { name: `net${number}`, vni, bridge: bridgeName(vni), tap: tapName(vni) };
  const local = [{ mac, addresses: [own] }];
  return { ...names, mtu: MTU, mac, addresses: [`${own}/24`], learning: false, broadcast_pps: 200, remote, local, attachments: [] };
}

function newKey(): { readonly privateKey: string; readonly publicKey: string } {
  const [key] = withNewKey([], Date.now());
  if (key === undefined) throw new Error('no key was made');
  return key;
}

function nodeOf(host: number): string {
  return `host${host}`;
}

function vtepOf(host: number): string {
  return `100.96.0.${host + 1}`;
}

function macOf(network: number, host: number): string {
  const octet = (value: number) => value.toString(16).padStart(2, '0');
  return `02:00:00:${octet(network)}:00:${octet(host)}`;
}
