/** Rules that could not be read are read again, and nothing that changed meanwhile is missed. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { seeded } from '../../../src/lab/sim/agenda.ts';
import { RulesFollower } from '../../../src/tower/rules-follower.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

function given() {
  const timers = new VirtualTimers();
  const told: (readonly string[] | null)[] = [];
  const state = { failing: 0, failed: 0, reads: 0 };
  const follower = new RulesFollower<string>({
    timers,
    random: seeded(3),
    refresh: async () => {
      state.reads++;
      if (state.failing > 0) {
        state.failing--;
        throw new Error('the disk is full');
      }
    },
    onFresh: (changes) => void told.push(changes),
    onFailure: () => void state.failed++,
  });
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return { timers, told, state, follower, settle };
}

t.test('changes that come together share a reading, later ones have their own', async (t) => {
  const { told, state, follower, settle } = given();
  follower.changed('one');
  follower.changed('two');
  follower.changed('three');
  await settle();
  t.same(told, [['one'], ['two', 'three']]);
  t.equal(state.reads, 2);
});

t.test('what could not be read is read again, later each time, and then concerns everybody', async (t) => {
  const { timers, told, state, follower, settle } = given();
  state.failing = 3;
  follower.changed('one');
  await settle();
  t.same([told.length, state.failed, timers.waiting], [0, 1, 1]);
  follower.changed('two');
  await settle();
  t.equal(state.reads, 1, 'a change meanwhile waits for the same pause');
  for (let turn = 0; turn < 3; turn++) {
    await timers.advance(limits.rules_retry_ms_max);
    await settle();
  }
  t.same(told, [null]);
  t.same([state.failed, state.reads, timers.waiting], [3, 4, 0]);
});

t.test('more changes than are told apart concern everybody', async (t) => {
  const { told, follower, settle } = given();
  follower.changed('first');
  for (let index = 0; index <= limits.rules_changes_max; index++) follower.changed(`change ${index}`);
  await settle();
  t.same(told, [['first'], null]);
});

t.test('once closed nothing is read or told, and no timer is left', async (t) => {
  const { timers, told, state, follower, settle } = given();
  state.failing = 1;
  follower.changed('one');
  await settle();
  follower.close();
  await timers.advance(limits.rules_retry_ms_max);
  t.same([told.length, state.reads, timers.waiting], [0, 1, 0]);
});
