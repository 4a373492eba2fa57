/** A path on which UDP comes and goes every few seconds makes no storm of moves (spec 4.1): a node and its tower on the simulator's network, and somebody who talks all the time. */
import t from 'tap';
import { limits } from '../../src/base/limits.ts';
import { Agenda } from '../../src/lab/sim/agenda.ts';
import { Directory, identityOf, TOWER } from '../../src/lab/sim/directory.ts';
import { SimHost } from '../../src/lab/sim/host.ts';
import { SimNetwork } from '../../src/lab/sim/network.ts';
import { serveEcho } from '../../src/services/echo.ts';

const MINUTE_MS = 60_000;
const GRAIN_MS = 50;
/** UDP passes for so long, and then for so long it does not. */
const FLAP_MS = 4_000;

/** A node with a channel to its tower, on which it says something every 100 ms. */
async function talking(seed: number) {
  const agenda = new Agenda(seed);
  const network = new SimNetwork(agenda);
  const self = identityOf(1, 1);
  const carried: { readonly at_ms: number; readonly transport: string }[] = [];
  const note = (who: string, what: string): void => {
    const [, transport] = /^channel carried \S+ (quic|tcp)/.exec(what) ?? [];
    if (who !== 'tower' && transport !== undefined) carried.push({ at_ms: agenda.now, transport });
  };
  const world = { agenda, network, note, directory: new Directory([self]), isFollowing: false };
  const tower = new SimHost(TOWER, world, (mesh) => serveEcho(mesh));
  const node = new SimHost(self, world, () => {});
  tower.start();
  node.start();
  const run = (ms: number): Promise<unknown> => agenda.runSettled(agenda.now + ms, () => false, GRAIN_MS);
  await run(2_000);
  const flow = node.mesh?.open(TOWER.node, 'input', 'messages', 'echo');
  if (flow === undefined) throw new Error('the node is down');
  let said = 0;
  let isTalking = true;
  const say = (): void => {
    if (!isTalking) return;
    flow.send(Uint8Array.of(said >> 8, said & 255));
    said++;
    agenda.at(agenda.now + 100, say);
  };
  say();
  const heard: number[] = [];
  void (async () => {
    for (let bytes = await flow.receive(); bytes !== null; bytes = await flow.receive()) heard.push(((bytes[0] ?? 0) << 8) + (bytes[1] ?? 0));
  })().catch(() => {});
  const cutUdp = (isUdpCut: boolean): void => {
    for (const [from, to] of [[self.node, TOWER.node] as const, [TOWER.node, self.node] as const]) network.setPath(from, to, { isUdpCut });
  };
  const flap = async (ms: number): Promise<void> => {
    for (const end = agenda.now + ms; agenda.now < end; ) {
      cutUdp(true);
      await run(FLAP_MS);
      cutUdp(false);
      await run(FLAP_MS);
    }
  };
  const quiet = async (): Promise<void> => {
    isTalking = false;
    await run(5_000);
  };
  const close = async (): Promise<void> => {
    void node.mesh?.close();
    void tower.mesh?.close();
    await run(30_000);
  };
  return { agenda, carried, cutUdp, run, flap, quiet, close, heard, said: () => said };
}

t.test('on a path that flaps for ten minutes a channel moves a few times, ever more rarely, and loses nothing', async (t) => {
  const { carried, flap, quiet, close, heard, said } = await talking(7);
  await flap(10 * MINUTE_MS);
  await quiet();
  const down = carried.filter(({ transport }) => transport === 'tcp').map(({ at_ms }) => at_ms);
  t.comment(`moved down at ${down.map((ms) => Math.round(ms / 1_000)).join(', ')} s`);
  t.ok(down.length >= 4 && down.length <= 9, `${down.length} times; UDP was lost 75 times`);
  t.ok((down.at(-1) ?? 0) - (down.at(-2) ?? 0) > 8 * FLAP_MS, 'the last ones lie far apart');
  t.equal(heard.length, said());
  t.ok(
    heard.every((number, index) => number === index),
    'in order',
  );
  await close();
});

t.test('a loss of UDP that is the first in a while is made good at once, and a path that keeps UDP is trusted anew', async (t) => {
  const { carried, cutUdp, run, flap, quiet, close } = await talking(8);
  const backAfter = async (): Promise<number> => {
    cutUdp(true);
    await run(5_000);
    cutUdp(false);
    const before = carried.length;
    const began = carried.at(-1)?.at_ms ?? 0;
    await run(limits.udp_hold_ms_max);
    const back = carried.slice(before).find(({ transport }) => transport === 'quic');
    return back === undefined ? Number.POSITIVE_INFINITY : back.at_ms - began;
  };
  const first_ms = await backAfter();
  t.ok(first_ms < 5_000 + 2 * limits.upgrade_probe_ms, `back ${first_ms} ms after the move down`);
  await flap(3 * MINUTE_MS);
  await run(limits.udp_hold_ms_max + limits.udp_settled_ms);
  const later_ms = await backAfter();
  t.ok(later_ms < 5_000 + 2 * limits.upgrade_probe_ms, `and ${later_ms} ms, once it had settled`);
  await quiet();
  await close();
});
