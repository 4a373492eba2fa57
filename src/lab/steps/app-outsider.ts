/**
 * What a host that is no member tries in order to see or reach an app network: its root asks, knows every address, MAC and VNI, forges, and makes its own tunnel
 * lie. The server hears datagrams and requests; whatever it hears of the outsider is a way in.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { NodeState } from '../../enroll/state.ts';
import { loadUnsealKey } from '../../identity/unseal.ts';
import type { AppSnapshot } from '../../overlay/app-snapshot.ts';
import { makeDesired } from '../../overlay/desired.ts';
import { readKeyRing } from '../../overlay/keys.ts';
import { TunnelConnection } from '../../overlay/tunnel-client.ts';
import { ApplyAnswer, checker } from '../../overlay/tunnel-wire.ts';
import { systemTimers } from '../../transport/system.ts';
import { APP_HTTP_PORT, APP_NETWORK, APP_UDP_PORT, type AppLab, type Heard, type Place } from '../app-lab.ts';
import { addressOf } from '../paths.ts';
import { forgedFrame, vxlan } from './app-forge.ts';
import type { World } from './step.ts';
import { join } from 'node:path';

export interface Siege {
  readonly server: Place;
  readonly serverHost: string;
  /** A member whose addresses are borrowed. */
  readonly member: Place;
  readonly outsider: string;
  readonly heard: Heard;
  /** Of which both the outsider and the server's host are members, so that they do have a WireGuard session. */
  readonly otherNetwork: string;
}

export interface SiegeOutcome {
  /** Ways in that were found; empty is as it should be. */
  readonly got: readonly string[];
  /** By kind, how much was tried. */
  readonly tried: Readonly<Record<string, number>>;
  /** What the server's host counted. */
  readonly refused: Readonly<Record<string, number>>;
}

const VXLAN_PORT = 4789;
const WIREGUARD_PORT = 51_820;
const KNOCK_MS = 700;
/** After the last datagram: longer than any of them could be on its way within a site. */
const SETTLE_MS = 300;

export async function tryToGetIn(world: World, app: AppLab, siege: Siege): Promise<SiegeOutcome> {
  const { server, serverHost, member, outsider, heard, otherNetwork } = siege;
  const fleet = world.fleet();
  const got: string[] = [];
  const tried: Record<string, number> = {};
  const isHeard = (mark: string) => heard.datagrams.some((text) => text.startsWith(mark));
  const knock = async (from: string, address: string) => {
    let reached = false;
    await app.run(from, ['knock', `http://${address}:${APP_HTTP_PORT}/knock`, String(KNOCK_MS)], (facts) => {
      reached = facts.reached === true;
    }).ended;
    return reached;
  };
  const count = (kind: string, by = 1) => {
    tried[kind] = (tried[kind] ?? 0) + by;
  };

  // The server does hear: a member's datagram, so that silence later means something.
  await app.run(member.name, ['send', text('member'), String(APP_UDP_PORT), server.address]).ended;
  if (!isHeard('member')) got.push('nothing is known, since the server does not even hear a member');

  // See.
  const mine = await app.factsOf(outsider);
  if (JSON.stringify(mine).includes(APP_NETWORK)) got.push('its status tells of the network');
  const asked = await fleet.atNode(outsider, ['app', 'ping', APP_NETWORK, server.address, '--count', '1']);
  if (asked.code !== 'not_member') got.push(`app ping is answered with ${asked.code ?? 'an echo'}`);
  const state = await loadState(fleet.stateOf(outsider), fleet.keyFileOf(outsider));
  if (JSON.stringify(state.snapshot).includes(`"${APP_NETWORK}"`)) got.push('its snapshot tells of the network');
  count('look', 3);

  // By address: as it is routed, by way of the server's host on the site's network, and by way of its host on the network that they share.
  const under = addressOf(world.lab.topology.hosts.get(serverHost)?.interfaces.find(({ address }) => address !== null)?.address ?? '');
  const shared = (await app.factsOf(serverHost))?.networks.find(({ name }) => name === otherNetwork)?.addresses[0] ?? '';
  const hostAddress = (await app.factsOf(serverHost))?.networks.find(({ name }) => name === APP_NETWORK)?.addresses[0] ?? '';
  const subnet = `${server.address.replace(/\d+$/, '0')}/24`;
  for (const via of [null, under, shared]) {
    if (via !== null) await world.lab.exec(outsider, ['ip', 'route', 'replace', subnet, 'via', via]);
    if (await knock(outsider, server.address)) got.push(`the server answers${via === null ? '' : ` by way of ${via}`}`);
    if ((await world.lab.tryExec(outsider, ['ping', '-n', '-c', '2', '-i', '0.2', '-W', '1', hostAddress])).exitCode === 0)
      got.push(`${serverHost} answers at its own address ${hostAddress}${via === null ? '' : ` by way of ${via}`}`);
    count('address', 2);
  }
  await world.lab.exec(outsider, ['ip', 'route', 'del', subnet]);

  // Forged VXLAN on the site's network, to every port where something of the tunnel could listen.
  const vni = app.vniOf(APP_NETWORK);
  const frame = (mark: string) => forgedFrame({ from: member, to: server, port: APP_UDP_PORT, payload: mark });
  for (const port of [VXLAN_PORT, WIREGUARD_PORT]) {
    await app.run(outsider, ['send', vxlan(vni, frame('vxlan')).toString('hex'), String(port), under]).ended;
    count('forged_vxlan', 5);
  }

  // By another VNI: frames for the network's members in the network that the outsider is in, and then its own tunnel is told that it is a member.
  await lieToTunnel(world, siege, state, app);
  count('forged_member');
  if (await knock(outsider, server.address)) got.push('the server answers a host whose tunnel claims to be a member');
  await app.run(outsider, ['send', text('claims'), String(APP_UDP_PORT), server.address]).ended;
  count('other_vni', 6);
  await pause(SETTLE_MS, undefined, { signal: world.signal });
  for (const mark of ['vxlan', 'claims']) if (isHeard(mark)) got.push(`the server hears what the outsider sent (${mark})`);
  const refused = await refusals(app, serverHost);
  // The daemon again: it puts the tunnel right.
  await fleet.startNode(outsider);
  return { got, tried, refused };
}

function text(mark: string): string {
  return Buffer.from(mark).toString('hex');
}

async function loadState(path: string, keyFile: string): Promise<NodeState> {
  return NodeState.load(path, await loadUnsealKey({ keyFile }), Date.now());
}

/** The outsider's root ends the daemon and tells the tunnel that this host is `member`, with its addresses, in the network's VNI; its WireGuard key is its own and good. */
async function lieToTunnel(world: World, { server, member, outsider }: Siege, state: NodeState, app: AppLab): Promise<void> {
  const fleet = world.fleet();
  await fleet.kill(outsider);
  const honest = state.snapshot.app as AppSnapshot | undefined;
  if (honest === undefined) return;
  const { node, name, cluster } = state.identity;
  const peer = honest.hosts.find((host) => host.name === server.host);
  const endpoint = (place: Place, at: string, attachment: string) => ({ node: at, attachment, mac: place.mac, address4: place.address, address6: null });
  const claimed = {
    name: APP_NETWORK,
    vni: app.vniOf(APP_NETWORK),
    mtu: null,
    learning: false,
    subnet4: `${server.address.replace(/\d+$/, '0')}/24`,
    subnet6: null,
    endpoints: [endpoint(member, node, ''), endpoint(server, peer?.node ?? '', server.name)],
  };
  const { desired } = makeDesired({
    owner: `${cluster}/${node}`,
    self: { node, name, underlay: null },
    app: { ...honest, networks: [...honest.networks, claimed] },
    engine: 'auto',
    fwmark: 0,
    keys: readKeyRing(state.secrets).map(({ privateKey, portOffset }) => ({ privateKey, listenPort: WIREGUARD_PORT + portOffset })),
    attachments: [],
    pathOf: () => 'direct',
  });
  const tunnel = await TunnelConnection.open({ path: join(fleet.stateOf(outsider), 'tunnel.sock'), timers: systemTimers, onEvent: () => {} });
  const hello = await tunnel.hello();
  await tunnel.call('apply', { ...desired, generation: (hello.generation ?? 0) + 1 }, checker(ApplyAnswer));
  tunnel.close();
}

async function refusals(app: AppLab, host: string): Promise<Record<string, number>> {
  const total: Record<string, number> = {};
  for (const { refused } of (await app.factsOf(host))?.networks ?? [])
    for (const [cause, count] of Object.entries(refused)) total[cause] = (total[cause] ?? 0) + count;
  return total;
}
