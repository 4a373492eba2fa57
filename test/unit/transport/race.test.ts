import t from 'tap';
import { type Attempt, RaceLost, race } from '../../../src/transport/race.ts';
import { settle, VirtualTimers } from '../../fixtures/virtual-timers.ts';

/** Attempts that a test ends by hand, and what happened to each. */
function lanes(count: number) {
  const timers = new VirtualTimers();
  const outer = new AbortController();
  const discarded: string[] = [];
  const runs: ({ signal: AbortSignal } & PromiseWithResolvers<string>)[] = [];
  const attempts = Array.from(
    { length: count },
    (): Attempt<string> => (signal) => {
      const run = { signal, ...Promise.withResolvers<string>() };
      runs.push(run);
      return run.promise;
    },
  );
  const result = race(attempts, { stagger_ms: 100, timers, signal: outer.signal, discard: (value) => discarded.push(value) });
  result.catch(() => {});
  return { timers, outer, discarded, runs, result };
}

t.test('the next attempt starts after the stagger, not before', async (t) => {
  const { timers, runs, result } = lanes(3);
  t.equal(runs.length, 1);
  await timers.advance(99);
  t.equal(runs.length, 1);
  await timers.advance(1);
  t.equal(runs.length, 2);
  runs[1]?.resolve('second');
  t.equal(await result, 'second');
  t.ok(runs[0]?.signal.aborted, 'the loser is aborted');
  t.equal(timers.waiting, 0, 'no timer is left');
});

t.test('the next attempt starts at once when the latest failed', async (t) => {
  const { runs, result, timers } = lanes(2);
  runs[0]?.reject(new Error('refused'));
  await settle();
  t.equal(runs.length, 2);
  runs[1]?.resolve('second');
  t.equal(await result, 'second');
  t.equal(timers.waiting, 0);
});

t.test('a winner that comes too late is discarded, once', async (t) => {
  const { timers, runs, result, discarded } = lanes(2);
  await timers.advance(100);
  runs[0]?.resolve('first');
  runs[1]?.resolve('late');
  t.equal(await result, 'first');
  await settle();
  t.same(discarded, ['late']);
});

t.test('when all fail, every error is told', async (t) => {
  const { timers, runs, result } = lanes(2);
  await timers.advance(100);
  runs[1]?.reject(new Error('b'));
  await settle();
  runs[0]?.reject(new Error('a'));
  const lost = await result.catch((error: unknown) => error);
  t.ok(lost instanceof RaceLost);
  t.same(
    (lost as RaceLost).errors.map((error) => (error as Error).message),
    ['a', 'b'],
  );
  t.equal(timers.waiting, 0);
});

t.test('giving up ends the race at once and leaves nothing', async (t) => {
  const { timers, runs, result, outer, discarded } = lanes(2);
  outer.abort();
  await t.rejects(result, { name: 'RaceLost', message: 'race given up' });
  t.ok(runs[0]?.signal.aborted);
  t.equal(timers.waiting, 0);
  runs[0]?.resolve('late');
  await settle();
  t.same(discarded, ['late']);
});

t.test('no attempts, no winner', (t) =>
  t.rejects(race([], { stagger_ms: 1, timers: new VirtualTimers(), signal: new AbortController().signal, discard() {} }), { name: 'RaceLost' }),
);
