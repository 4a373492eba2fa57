/** Whatever happens to sessions, flows go on: nothing lost, nothing twice, in order, both ways. */
import t from 'tap';
import type { Flow } from '../../../src/channel/flow.ts';
import type { FlowKind, TrafficClass } from '../../../src/channel/classes.ts';
import { type End, Pair, type WireOptions } from './pair.ts';
import { seeded } from '../../../src/lab/sim/agenda.ts';

/** Octet `at` of conversation `id`, one way: any octet that is missing, doubled or out of place shows. */
const octet = (id: number, way: number, at: number): number => (at * 31 + (at >>> 8) * 7 + id * 13 + way * 101) & 0xff;

interface Talk {
  readonly id: number;
  readonly kind: FlowKind;
  readonly sizes: readonly [number, number];
}

/** One side of a conversation: writes what it shall as it may, reads and checks what comes, ends when all is written. */
class Speaker {
  readonly #end: End;
  readonly #flow: Flow;
  readonly #talk: Talk;
  readonly #way: 0 | 1;
  readonly #random: ReturnType<typeof seeded>;
  written = 0;
  readCount = 0;
  wrong: string | null = null;
  hasReadAll = false;

  constructor(end: End, flow: Flow, talk: Talk, way: 0 | 1, random: ReturnType<typeof seeded>) {
    this.#end = end;
    this.#flow = flow;
    this.#talk = talk;
    this.#way = way;
    this.#random = random;
  }

  get flow(): Flow {
    return this.#flow;
  }

  write(): void {
    const size = this.#talk.sizes[this.#way];
    while (!this.#flow.isEnded && this.written < size && !this.#flow.wantsDrain) {
      const length = Math.min(size - this.written, 1 + this.#random.below(this.#random.below(3) === 0 ? 100_000 : 700));
      const bytes = new Uint8Array(length);
      for (let index = 0; index < length; index++) bytes[index] = octet(this.#talk.id, this.#way, this.written + index);
      this.written += length;
      if (this.#talk.kind === 'stream') this.#flow.write(bytes);
      else this.#flow.sendMessage(bytes);
    }
    if (this.written === size && !this.#flow.isEnded) this.#flow.end();
  }

  /** Reads a little now and the rest later: a reader is not always there. */
  read(): void {
    for (let count = this.#random.below(8); count > 0 || this.#random.below(3) > 0; count--) {
      const bytes = this.#talk.kind === 'stream' ? this.#flow.read() : this.#flow.readMessage();
      if (bytes === null) {
        this.hasReadAll = this.#flow.isReadDone;
        return;
      }
      for (let index = 0; index < bytes.length; index++) {
        if (bytes[index] !== octet(this.#talk.id, 1 - this.#way, this.readCount + index)) this.wrong ??= `octet ${this.readCount + index} of ${this.#talk.id}`;
      }
      this.readCount += bytes.length;
    }
    this.#end.world.at(this.#end.world.now + this.#random.below(30), () => this.#end.do(() => this.read()));
  }
}

const CLASSES: readonly TrafficClass[] = ['file_transfer', 'input', 'clipboard', 'storage_fetch', 'fabric_control'];

function storm(seed: number): { problems: string[]; cuts: number; migrations: number } {
  const pair = new Pair({ seed, isGoverned: seed % 3 === 0 });
  const { world, a, b } = pair;
  const random = seeded(seed * 77 + 5);
  const speakers = new Map<Flow, Speaker>();
  const talks: Talk[] = [];
  const byService = new Map<string, Talk>();
  const finished: Talk[] = [];
  const problems: string[] = [];

  const join = (end: End, flow: Flow, talk: Talk, way: 0 | 1): void => {
    const speaker = new Speaker(end, flow, talk, way, random);
    speakers.set(flow, speaker);
    speaker.write();
    speaker.read();
  };
  for (const end of pair.ends) {
    end.onEvent = (event) => {
      if (event.type === 'flow') join(end, event.flow, byService.get(event.flow.service) as Talk, 1);
      if (event.type === 'readable') speakers.get(event.flow)?.read();
      if (event.type === 'drained') speakers.get(event.flow)?.write();
      if (event.type === 'ended') {
        const speaker = speakers.get(event.flow);
        if (event.flow.error) problems.push(`${end.name} flow ${event.flow.id}: ${event.flow.error.code} ${event.flow.error.message}`);
        if (speaker) finished.push(byService.get(event.flow.service) as Talk);
      }
      if (event.type === 'state' && event.state === 'failed') problems.push(`${end.name} failed: ${event.error?.message}`);
    };
  }
  const start = (): void => {
    if (a.channel.hasEnded || b.channel.hasEnded) return;
    const id = talks.length;
    const kind = random.below(2) === 0 ? 'stream' : 'messages';
    const big = random.below(3) === 0 ? 600_000 : 3_000;
    const talk: Talk = { id, kind, sizes: [random.below(big), random.below(4) === 0 ? 0 : random.below(big)] };
    talks.push(talk);
    byService.set(`talk-${id}`, talk);
    const end = random.below(2) === 0 ? a : b;
    end.do((channel) => join(end, channel.open(CLASSES[random.below(CLASSES.length)] as TrafficClass, kind, `talk-${id}`), talk, 0));
  };
  const shape = (): WireOptions => ({
    sources: random.below(2) === 0 ? 'streams' : 'lanes',
    delay_ms: 1 + random.below(40),
    jitter_ms: random.below(3) === 0 ? 0 : random.below(60),
    rate: random.below(2) === 0 ? 300 + random.below(3_000) : Number.POSITIVE_INFINITY,
    unsent_bytes_max: 2_000 + random.below(200_000),
    isSplit: random.below(2) === 0,
  });

  let wires = [pair.attach('new', shape())];
  let cuts = 0;
  let migrations = 0;
  const steps = 12 + random.below(12);
  for (let step = 0; step < steps; step++) {
    for (let count = random.below(4); count > 0; count--) start();
    world.run(random.below(150));
    wires = wires.filter((wire) => !wire.isGone);
    world.runWhen(() => !pair.isGreeting, 1_000);
    const choice = random.below(10);
    if (choice < 4) {
      // Any of the sessions is cut; each end notices in its own time, and flows are opened meanwhile.
      cuts++;
      wires[random.below(Math.max(1, wires.length))]?.cut({ a: random.below(60), b: random.below(60) });
      world.run(random.below(100));
      if (random.below(2) === 0) start();
      world.runWhen(() => !pair.isGreeting, 1_000);
      if (a.channel.isSuspended || random.below(2) === 0) wires.push(pair.attach('resume', shape(), random.below(2) * random.below(80)));
    } else if (choice < 8) {
      migrations++;
      wires.push(pair.attach('migrate', shape(), random.below(2) * random.below(80)));
    }
  }
  world.run(200);
  const heal = (): void => {
    world.runWhen(() => !pair.isGreeting, 1_000);
    for (const wire of wires) wire.cut();
    wires = [pair.attach('resume', { delay_ms: 5 })];
  };
  heal();
  // What was consumed may still wait, as a whole message, for its reader.
  const isOver = (): boolean => finished.length === 2 * talks.length && [...speakers.values()].every((speaker) => speaker.hasReadAll);
  if (!world.runWhen(isOver, 60_000)) problems.push(`only ${finished.length} of ${2 * talks.length} ends finished`);
  for (const speaker of speakers.values()) if (speaker.wrong) problems.push(speaker.wrong);
  const perTalk = new Map<string, number>();
  for (const [flow, speaker] of speakers) {
    perTalk.set(flow.service, (perTalk.get(flow.service) ?? 0) + 1);
    const talk = byService.get(flow.service) as Talk;
    const expected = talk.sizes[flow.isOwn ? 1 : 0];
    if (speaker.readCount !== expected) problems.push(`flow ${flow.id} ${flow.service} ${flow.kind}: read ${speaker.readCount} of ${expected}`);
  }
  for (const [service, count] of perTalk) if (count !== 2) problems.push(`${service} has ${count} ends`);
  problems.push(...pair.leftovers());
  return { problems, cuts, migrations };
}

t.test('every octet arrives exactly once and in order over any number of cuts and migrations', async (t) => {
  let cuts = 0;
  let migrations = 0;
  const seeds = Number(process.env.STORMS ?? 60);
  const from = Number(process.env.STORM ?? 1);
  for (let seed = from; seed < from + seeds; seed++) {
    const result = storm(seed);
    cuts += result.cuts;
    migrations += result.migrations;
    if (result.problems.length > 0) t.fail(`seed ${seed}`, { problems: result.problems.slice(0, 6) });
  }
  t.ok(cuts > seeds && migrations > seeds, `${seeds} storms with ${cuts} cuts and ${migrations} migrations`);
});
