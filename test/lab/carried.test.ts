/** Carried packets with the built programs: UDP dies in the middle of a TCP connection and comes back; two hosts without a channel reach each other through the tower. */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { CarriedLab } from './fixtures/carried-lab.ts';

const FLOW = fileURLToPath(new URL('fixtures/steady-flow.mjs', import.meta.url));
const skip = process.getuid?.() === 0 ? false : 'needs root';
const A = '10.9.0.2';
const B = '10.9.0.3';
const C = '10.9.0.4';

/** A connection from one host to another that goes on until stopped. */
class SteadyFlow {
  /** The longest silence since `fresh`. */
  gap_ms = 0;
  bytes = 0;
  isBroken = false;
  readonly #child;
  #wake = () => {};

  constructor({ lab }: CarriedLab, host: string, address: string) {
    this.#child = lab.spawn(host, [process.execPath, FLOW, 'talk', address], {
      name: `flow-${host}`,
      onLine: (line) => {
        const facts = JSON.parse(line) as { readonly bytes?: number; readonly gap_ms?: number; readonly broken?: boolean };
        this.isBroken ||= facts.broken === true;
        this.bytes = facts.bytes ?? this.bytes;
        this.gap_ms = Math.max(this.gap_ms, facts.gap_ms ?? 0);
        this.#wake();
      },
    });
  }

  fresh(): void {
    this.gap_ms = 0;
  }

  /** Until so many octets more went round. */
  async atLeast(bytes: number): Promise<void> {
    const until = this.bytes + bytes;
    while (this.bytes < until && !this.isBroken) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  /** So many times more it was told what went round. */
  async reports(count: number): Promise<void> {
    for (let each = 0; each < count && !this.isBroken; each++) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

t.test('UDP comes and goes under a connection', { skip, timeout: 120_000 }, async (t) => {
  const carried = await CarriedLab.up('carried.yaml');
  t.teardown(() => carried.down());
  const { lab } = carried;
  for (const host of ['a', 'b', 'c'])
    await new Promise<void>((resolve) => lab.spawn(host, [process.execPath, FLOW, 'serve'], { name: `serve-${host}`, onLine: () => resolve() }));
  await carried.reached('a', B);
  const flow = new SteadyFlow(carried, 'a', B);
  // For a few seconds: only in the middle of a talk is a short silence a sign.
  await flow.reports(30);

  await t.test('where UDP passes, packets go directly', async (t) => {
    t.match(await carried.on('a', 'b', 'direct'), { why: 'UDP gets through' });
  });

  await t.test('UDP dies: the connection goes on, carried, after a second or two', async (t) => {
    flow.fresh();
    await carried.udp('b', false);
    t.match(await carried.on('a', 'b', 'carried'), { why: /UDP.*; (its channel carries them|they are carried through the tower)/ });
    t.match(await carried.on('b', 'a', 'carried'), { why: /UDP/ });
    await flow.atLeast(1_000_000);
    t.equal(flow.isBroken, false);
    t.comment(`gap of ${flow.gap_ms} ms`);
    t.ok(flow.gap_ms < 8_000, `${flow.gap_ms} ms`);
  });

  await t.test('two hosts of different sites, which have no channel with each other, are carried through the tower', async (t) => {
    await carried.reached('b', C);
    t.match(await carried.on('b', 'c', 'carried'), { why: /they are carried through the tower/ });
    const far = new SteadyFlow(carried, 'b', C);
    await far.atLeast(1_000_000);
    t.equal(far.isBroken, false);
    far.stop();
  });

  await t.test('UDP is back: the connection goes on directly, and no octet was late by it', async (t) => {
    flow.fresh();
    await carried.udp('b', true);
    await carried.on('a', 'b', 'direct');
    await carried.on('b', 'a', 'direct');
    await flow.atLeast(1_000_000);
    t.equal(flow.isBroken, false);
    t.comment(`gap of ${flow.gap_ms} ms`);
    t.ok(flow.gap_ms < 1_000, `${flow.gap_ms} ms`);
  });

  await t.test('a node that is taken out of the network is cut off, also from what is carried', async (t) => {
    await carried.udp('b', false);
    await carried.on('a', 'b', 'carried');
    await flow.atLeast(100_000);
    await carried.app('remove', 'shop', 'b');
    const before = flow.bytes;
    while ((await carried.peer('a', 'b')) !== undefined);
    t.notOk((await lab.tryExec('a', ['ping', '-n', '-c', '2', '-W', '1', B])).exitCode === 0);
    t.ok(flow.bytes - before < 100_000_000);
    t.equal((await lab.tryExec('c', ['ping', '-n', '-c', '1', '-W', '2', A])).exitCode, 0, 'the others go on');
  });
});
