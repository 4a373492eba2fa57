/** Timers that share one: each is told on its tick, at most one timer of the runtime waits for those that are far off, and none is left over. */
import t from 'tap';
import { Wheel } from '../../../src/transport/wheel.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

/** What was told when, by a clock that stands at 1,000 ms in the beginning. */
function watched() {
  const exact = new VirtualTimers();
  const wheel = new Wheel(exact);
  const told: [string, number][] = [];
  const plan = (name: string, delay_ms: number, action = () => {}): (() => void) =>
    wheel.after(delay_ms, () => {
      told.push([name, exact.clock.now()]);
      action();
    });
  return { exact, told, plan };
}

t.test('whoever waits is told once, on the tick, in the order of time, however long the wait is', async (t) => {
  const { exact, told, plan } = watched();
  const waits = [0, 1, 49.5, 199, 200, 201, 249, 250, 1_000, 1_234.5, 7_000, 72_000];
  for (const ms of waits.toReversed()) plan(String(ms), ms);
  await exact.advance(100_000);
  t.same(
    told,
    waits.map((ms) => [String(ms), 1_000 + ms]),
  );
  t.equal(exact.waiting, 0);
});

t.test('a thousand that wait for seconds are one timer, and those of one tick are told together', async (t) => {
  const { exact, told, plan } = watched();
  for (let index = 0; index < 1_000; index++) plan(String(index), 5_000 + 250 * (index % 4));
  t.equal(exact.waiting, 1);
  await exact.advance(5_249);
  t.equal(told.length, 250);
  t.equal(exact.waiting, 1);
  await exact.advance(501);
  t.equal(told.length, 1_000);
  t.equal(exact.waiting, 0);
});

t.test('whoever waits no more is not told, whether long before, in its last step, or by one that is told at the same time', async (t) => {
  const { exact, told, plan } = watched();
  plan('early', 5_000)();
  t.equal(exact.waiting, 0, 'and leaves nothing behind');
  const late = plan('late', 5_020);
  plan('late too', 5_030);
  await exact.advance(5_010);
  late();
  late();
  let cancelSecond = (): void => {};
  plan('first', 1_000, () => cancelSecond());
  cancelSecond = plan('second', 1_000);
  await exact.advance(10_000);
  t.same(
    told.map(([name]) => name),
    ['late too', 'first'],
  );
  t.equal(exact.waiting, 0);
});

t.test('where one throws, the others are told all the same', async (t) => {
  const { exact, told, plan } = watched();
  plan('first', 1_000);
  plan('bad', 1_000, () => {
    throw new Error('test');
  });
  plan('last', 1_000);
  await t.rejects(exact.advance(1_000), /test/);
  await exact.advance(1);
  t.same(
    told.map(([name]) => name),
    ['first', 'bad', 'last'],
  );
  t.equal(exact.waiting, 0);
});

t.test('plans made while others are told fall into their own time', async (t) => {
  const { exact, told, plan } = watched();
  plan('first', 1_000, () => void plan('second', 1_000, () => void plan('third', 20)));
  await exact.advance(5_000);
  t.same(told, [
    ['first', 2_000],
    ['second', 3_000],
    ['third', 3_020],
  ]);
});

t.test('its timers can be had beside another clock', async (t) => {
  const exact = new VirtualTimers();
  const timers = { ...new Wheel(exact), clock: { now: () => 0, wall: () => 0 } };
  let told = 0;
  timers.after(5, () => told++);
  timers.after(5_000, () => told++);
  await exact.advance(5_000);
  t.equal(told, 2);
});
