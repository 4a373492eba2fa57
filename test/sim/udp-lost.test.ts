/**
 * UDP goes in the middle of a file (spec 4.1): how long the file stands still, on the simulator's network with 20 ms each way, and that nothing short of a loss makes
 * a channel look for another path.
 */
import t from 'tap';
import { Agenda } from '../../src/lab/sim/agenda.ts';
import { Directory, identityOf, TOWER } from '../../src/lab/sim/directory.ts';
import { SimHost } from '../../src/lab/sim/host.ts';
import { type PathFaults, SimNetwork } from '../../src/lab/sim/network.ts';
import type { FlowHandle, Mesh } from '../../src/peering/mesh.ts';

const PIECE_BYTES = 6_000;
const PIECE_MS = 2;
/** More than the path holds: a round trip's worth is 120 kB. */
const UNDER_WAY_BYTES_MAX = 512 * 1024;
/** Of what a channel does there is nothing finer than this. */
const GRAIN_MS = 1;
const GAP_MS_MAX = 400;

type Sender = 'node' | 'tower';

/** A node that dialed its tower, and a file that one of them sends the other, a piece every other millisecond. */
async function sending(sender: Sender, seed: number, faults: Partial<PathFaults> = {}) {
  const agenda = new Agenda(seed);
  const network = new SimNetwork(agenda);
  const self = identityOf(1, 1);
  const paths = [[self.node, TOWER.node] as const, [TOWER.node, self.node] as const];
  const setPaths = (changed: Partial<PathFaults>): void => {
    for (const [from, to] of paths) network.setPath(from, to, changed);
  };
  setPaths({ delay_ms: 20, jitter_ms: 0, ...faults });
  const carried: string[] = [];
  const note = (who: string, what: string): void => {
    const [, transport] = /^channel carried \S+ (quic|tcp)/.exec(what) ?? [];
    if (who !== 'tower' && transport !== undefined) carried.push(transport);
  };
  const world = { agenda, network, note, directory: new Directory([self]), isFollowing: false };
  const arrived: { at_ms: number; bytes: number }[] = [];
  let isRight = true;
  const receive = async (flow: FlowHandle): Promise<void> => {
    let bytes = 0;
    while (await flow.readable())
      for (let piece = flow.read(); piece !== null; piece = flow.read()) {
        for (const octet of piece) isRight &&= octet === bytes++ % 251;
        arrived.push({ at_ms: agenda.now, bytes });
      }
  };
  const serve = (mesh: Mesh): void => mesh.handle('sink', (flow) => void receive(flow));
  const tower = new SimHost(TOWER, world, serve);
  const node = new SimHost(self, world, serve);
  tower.start();
  node.start();
  const run = (ms: number): Promise<unknown> => agenda.runSettled(agenda.now + ms, () => false, GRAIN_MS);
  await run(1_000);
  const mesh = sender === 'node' ? node.mesh : tower.mesh;
  const flow = mesh?.open(sender === 'node' ? TOWER.node : self.node, 'file_transfer', 'stream', 'sink');
  if (flow === undefined) throw new Error('there is no channel');
  let sent = 0;
  let isSending = false;
  const send = (): void => {
    if (!isSending) return;
    const piece = Uint8Array.from({ length: PIECE_BYTES }, (_, index) => (sent + index) % 251);
    if (flow.written - flow.acknowledged < UNDER_WAY_BYTES_MAX) {
      flow.write(piece);
      sent += PIECE_BYTES;
    }
    agenda.at(agenda.now + PIECE_MS, send);
  };
  const resume = (): void => {
    isSending = true;
    send();
  };
  const pause = (): void => {
    isSending = false;
  };
  resume();
  const close = async (): Promise<void> => {
    pause();
    await run(2_000);
    t.equal(arrived.at(-1)?.bytes, sent, 'nothing is lost');
    t.ok(isRight, 'or out of order');
    void node.mesh?.close();
    void tower.mesh?.close();
    await run(30_000);
  };
  /** The longest time without an octet since then. */
  const gapSince = (from_ms: number): number => {
    const times = arrived.map(({ at_ms }) => at_ms);
    return Math.max(...times.map((at_ms, index) => (at_ms < from_ms ? 0 : at_ms - (times[index - 1] ?? at_ms))));
  };
  return { agenda, network, carried, setPaths, run, close, gapSince, pause, resume };
}

for (const sender of ['node', 'tower'] as const) {
  t.test(`a file that the ${sender} sends stands still for at most ${GAP_MS_MAX} ms when UDP goes, and goes on over TCP`, async (t) => {
    const { agenda, carried, setPaths, run, close, gapSince } = await sending(sender, 3);
    await run(2_000);
    const lost_ms = agenda.now;
    setPaths({ isUdpCut: true });
    await run(2_000);
    t.same(carried, ['quic', 'tcp']);
    const gap_ms = gapSince(lost_ms);
    t.comment(`stood still for ${Math.round(gap_ms)} ms`);
    t.ok(gap_ms <= GAP_MS_MAX, `${gap_ms} ms`);
    const back_ms = agenda.now;
    setPaths({ isUdpCut: false });
    await run(5_000);
    t.same(carried, ['quic', 'tcp', 'quic']);
    t.ok(gapSince(back_ms) <= 50, `and ${gapSince(back_ms)} ms on the way back`);
    await close();
  });
}

t.test('a path that loses every fiftieth piece and takes its time with others is kept, through a file with pauses of any length', async (t) => {
  const { agenda, network, carried, run, close, pause, resume } = await sending('node', 4, { loss_part: 0.02, jitter_ms: 30 });
  const made = network.sessionsMade;
  for (let pause_ms = 1; pause_ms < 2_000; pause_ms *= 3) {
    await run(1_000 + agenda.random.below(100));
    pause();
    await run(pause_ms);
    resume();
  }
  t.same(carried, ['quic']);
  t.equal(network.sessionsMade, made, 'nobody dialed again');
  await close();
});
