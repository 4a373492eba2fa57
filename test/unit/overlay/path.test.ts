/** Direct or carried, on a virtual clock: two hosts with a UDP path that a test opens and closes, and the channel beside it. */
import fc from 'fast-check';
import t from 'tap';
import { type PathFacts, PathMachine } from '../../../src/overlay/path.ts';

const STEP_MS = 250;

/** When a host heard the other by each way, and what it sent. */
interface Ear {
  direct: number | null;
  carried: number | null;
  tx: number;
}

/** Two hosts that talk all the time. What one sends on its path, the other hears, if that path lets it through. */
class Pair {
  now_ms = 0;
  udp = true;
  channel = true;
  isUdpFailing = false;
  hasEndpoint = true;
  talking = true;
  readonly machines = [new PathMachine(0), new PathMachine(0)] as const;
  readonly #heard: readonly [Ear, Ear] = [
    { direct: null, carried: null, tx: 0 },
    { direct: null, carried: null, tx: 0 },
  ];
  /** Every change of the first host's path, as `SECONDS PATH: WHY`. */
  readonly changes: string[] = [];

  run(seconds: number): void {
    for (let step = 0; step < (seconds * 1_000) / STEP_MS; step++) {
      this.now_ms += STEP_MS;
      for (const [index, machine] of this.machines.entries()) this.#send(index === 0 ? 0 : 1, machine.verdict.path);
      for (const [index, machine] of this.machines.entries()) {
        const own = this.#heard[index === 0 ? 0 : 1];
        const before = machine.verdict.path;
        const { path, why } = machine.step(this.now_ms, this.#facts(own, this.machines[index === 0 ? 1 : 0]));
        if (index === 0 && path !== before) this.changes.push(`${this.now_ms / 1_000} ${path}: ${why}`);
      }
    }
  }

  /** Whether what this host sends by UDP arrives. */
  isHeard(_from: 0 | 1): boolean {
    return this.udp;
  }

  #send(from: 0 | 1, path: string): void {
    if (!this.talking) return;
    this.#heard[from].tx += 120;
    const other = this.#heard[from === 0 ? 1 : 0];
    // While it carries, the tunnel sends a copy by UDP now and then.
    if (this.isHeard(from) && (path === 'direct' || this.now_ms % 2_000 === 0)) other.direct = this.now_ms;
    if (this.channel && path === 'carried') other.carried = this.now_ms;
  }

  #facts({ direct, carried, tx }: Ear, other: PathMachine): PathFacts {
    const { channel, isUdpFailing, hasEndpoint } = this;
    // A way is open while either wants it, and both tell each other how things are.
    const isOpen = channel && this.machines.some(({ verdict }) => verdict.path === 'carried');
    return {
      canCarry: channel,
      isUdpFailing,
      hasEndpoint,
      txBytes: tx,
      directHeard_ms: direct,
      carriedHeard_ms: carried,
      peerHears: isOpen ? other.hears : null,
      peerWants: isOpen ? other.verdict.path === 'carried' : null,
    };
  }

  get paths(): string {
    return this.machines.map((machine) => machine.verdict.path).join(' ');
  }
}

t.test('two hosts that hear each other by UDP stay direct', async (t) => {
  const pair = new Pair();
  pair.run(600);
  t.same(pair.changes, []);
  t.equal(pair.machines[0].verdict.why, 'UDP gets through');
});

t.test('silence without a question means nothing', async (t) => {
  const pair = new Pair();
  pair.run(10);
  pair.talking = false;
  pair.run(3_600);
  t.same(pair.changes, []);
});

t.test('where UDP never passed, packets are carried after 3 s; where the channel knows it already, sooner', async (t) => {
  const blocked = new Pair();
  blocked.udp = false;
  blocked.run(60);
  t.same(blocked.changes, ['3.5 carried: no answer by UDP for 3 s']);
  t.equal(blocked.paths, 'carried carried');
  const known = new Pair();
  known.udp = false;
  known.isUdpFailing = true;
  known.run(60);
  t.same(known.changes, ['2 carried: no answer by UDP for 1.5 s, nor for the channel']);
});

t.test('a peer without an address is carried at once, until it is heard by UDP', async (t) => {
  const pair = new Pair();
  pair.udp = false;
  pair.hasEndpoint = false;
  pair.run(5);
  t.equal(pair.paths, 'carried carried');
  pair.udp = true;
  pair.run(20);
  t.equal(pair.paths, 'direct direct');
});

t.test('a path that dies in the middle of a talk is left within a second, and taken again once it is heard', async (t) => {
  const pair = new Pair();
  pair.run(60);
  pair.udp = false;
  pair.run(60);
  pair.udp = true;
  pair.run(60);
  t.equal(pair.changes.length, 2);
  t.match(pair.changes[0], /^60.75 carried: no answer by UDP for 0.8 s/);
  t.match(pair.changes[1], /^12[4-9](\.\d+)? direct: heard by UDP again/);
  t.equal(pair.paths, 'direct direct');
});

t.test('who sends and is answered now and then only is given 12 s', async (t) => {
  const machine = new PathMachine(0);
  const changes: number[] = [];
  for (let now_ms = 1_000; now_ms < 60_000; now_ms += 1_000) {
    // WireGuard's own empty answers come every 10 s, until UDP dies.
    const directHeard_ms = now_ms < 30_000 ? Math.floor(now_ms / 10_000) * 10_000 + 1 : 20_001;
    const facts = {
      canCarry: true,
      isUdpFailing: false,
      hasEndpoint: true,
      txBytes: now_ms,
      directHeard_ms,
      carriedHeard_ms: null,
      peerHears: null,
      peerWants: null,
    };
    if (machine.step(now_ms, facts).path === 'carried') changes.push(now_ms);
  }
  t.ok((changes[0] ?? 0) >= 32_000 && (changes[0] ?? 0) <= 35_000, `${changes[0]} ms`);
});

t.test('with the channel’s word that UDP fails, a dead path is left within 3 s', async (t) => {
  const pair = new Pair();
  pair.run(60);
  pair.udp = false;
  pair.isUdpFailing = true;
  pair.run(10);
  t.match(pair.changes, [/^6[0-4](\.\d+)? carried/]);
});

t.test('where UDP gets through one way alone, both hosts carry, whichever way it is; and both return', async (t) => {
  for (const deaf of [0, 1] as const) {
    const pair = new Pair();
    pair.run(60);
    pair.isHeard = (from) => from === deaf;
    pair.run(3);
    t.equal(pair.paths, 'carried carried');
    pair.run(600);
    t.equal(pair.paths, 'carried carried');
    pair.isHeard = () => true;
    pair.run(20);
    t.equal(pair.paths, 'direct direct');
  }
});

t.test('without a channel nothing is carried, and what was carried tries UDP', async (t) => {
  const pair = new Pair();
  pair.channel = false;
  pair.udp = false;
  pair.run(60);
  t.same(pair.changes, []);
  t.equal(pair.machines[0].verdict.why, 'nothing else could carry it');
  pair.channel = true;
  pair.run(10);
  t.equal(pair.paths, 'carried carried');
  pair.channel = false;
  pair.run(2);
  t.equal(pair.paths, 'direct direct');
});

t.test('a path that comes and goes is trusted ever more slowly: the changes become few', async (t) => {
  const pair = new Pair();
  for (let turn = 0; turn < 60; turn++) {
    pair.udp = !pair.udp;
    pair.run(30);
  }
  t.ok(pair.changes.length <= 12, `${pair.changes.length} changes in 30 minutes`);
});

t.test('whatever happened, an hour of a good path ends direct, and an hour without UDP ends carried', async () => {
  const weather = fc.array(
    fc.record({ udp: fc.boolean(), channel: fc.boolean(), isUdpFailing: fc.boolean(), talking: fc.boolean(), seconds: fc.integer({ min: 1, max: 120 }) }),
    {
      maxLength: 20,
    },
  );
  fc.assert(
    fc.property(weather, fc.boolean(), (spells, isGood) => {
      const pair = new Pair();
      for (const { seconds, ...spell } of spells) {
        Object.assign(pair, spell);
        pair.run(seconds);
      }
      Object.assign(pair, { udp: isGood, channel: true, isUdpFailing: false, talking: true });
      pair.run(3_600);
      return pair.paths === (isGood ? 'direct direct' : 'carried carried');
    }),
    { numRuns: 200 },
  );
});

t.test('the first word after a pause is no question that has stood open for the length of the pause', async (t) => {
  const machine = new PathMachine(0);
  const facts = { canCarry: true, isUdpFailing: false, hasEndpoint: true, carriedHeard_ms: null, peerHears: null, peerWants: null };
  let tx = 0;
  const next = () => {
    tx += 120;
    return tx;
  };
  let now = 0;
  for (; now < 10_000; now += STEP_MS) machine.step(now, { ...facts, txBytes: next(), directHeard_ms: now - 10 });
  const heard = now - STEP_MS - 10;
  // Nobody says anything for twenty seconds, and is looked at seldom.
  for (; now < 30_000; now += 5_000) machine.step(now, { ...facts, txBytes: tx, directHeard_ms: heard });
  t.equal(machine.step(now, { ...facts, txBytes: next(), directHeard_ms: heard }).path, 'direct', 'sent just now, not answered yet');
  t.equal(machine.step(now + STEP_MS, { ...facts, txBytes: next(), directHeard_ms: now + 5 }).path, 'direct', 'answered');
});

t.test('a keepalive, which WireGuard sends by itself and nobody answers, is no question', async (t) => {
  const machine = new PathMachine(0);
  const facts = { canCarry: true, isUdpFailing: true, hasEndpoint: true, carriedHeard_ms: null, peerHears: null, peerWants: null };
  let now = 0;
  for (; now < 10_000; now += STEP_MS) machine.step(now, { ...facts, txBytes: now, directHeard_ms: now - 10 });
  const sent = now - STEP_MS;
  const heard = sent - 10;
  for (const until = now + 60_000; now < until; now += 1_000) {
    const keepalives = 32 * Math.floor((now - heard) / 10_000);
    t.equal(machine.step(now, { ...facts, txBytes: sent + keepalives, directHeard_ms: heard }).path, 'direct');
  }
});
