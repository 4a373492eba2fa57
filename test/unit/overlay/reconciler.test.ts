/** The desired state against the tunnel, on a virtual clock: one apply at a time, the newest state, again after a restart, and again for what failed. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { type Apply, Reconciler } from '../../../src/overlay/reconciler.ts';
import type { ApplyAnswer, DesiredState, TunnelFailure } from '../../../src/overlay/tunnel-wire.ts';
import { settle, VirtualTimers } from '../../fixtures/virtual-timers.ts';

function state(owner: string): DesiredState {
  return { owner, wireguard: { engine: 'auto', keys: [], fwmark: 0, vtep: '100.96.0.1' }, peers: [], networks: [] };
}

function setUp() {
  const timers = new VirtualTimers();
  const applied: string[] = [];
  const answers: ApplyAnswer[] = [];
  let outcome: () => Promise<readonly TunnelFailure[]> = async () => [];
  const reconciler = new Reconciler({ timers, onApplied: (answer) => answers.push(answer) });
  const apply: Apply = async ({ generation, owner }) => {
    applied.push(`${generation} ${owner}`);
    return { generation, changed: [], failures: [...(await outcome())] };
  };
  return {
    timers,
    applied,
    answers,
    reconciler,
    apply,
    setOutcome: (next: typeof outcome) => {
      outcome = next;
    },
  };
}

t.test('what is wanted is applied once; the same again is not', async (t) => {
  const { applied, reconciler, apply } = setUp();
  reconciler.want(state('a'));
  t.same(applied, [], 'without a tunnel nothing happens');
  reconciler.up(apply, 7);
  await settle();
  reconciler.want(state('a'));
  await settle();
  t.same(applied, ['8 a'], 'the generation goes on from what the tunnel has');
  t.ok(reconciler.isCurrent);
});

t.test('changes while an apply is under way become one', async (t) => {
  const { applied, reconciler, apply, setOutcome } = setUp();
  const { promise, resolve } = Promise.withResolvers<readonly TunnelFailure[]>();
  setOutcome(() => promise);
  reconciler.up(apply, null);
  for (const owner of ['a', 'b', 'c']) reconciler.want(state(owner));
  t.same(applied, ['1 a']);
  t.notOk(reconciler.isCurrent);
  resolve([]);
  await settle();
  t.same(applied, ['1 a', '2 c']);
  t.ok(reconciler.isCurrent);
});

t.test('a tunnel that was started anew is told everything', async (t) => {
  const { applied, reconciler, apply } = setUp();
  reconciler.want(state('a'));
  reconciler.up(apply, null);
  await settle();
  reconciler.down();
  reconciler.up(async (wanted) => await apply(wanted), null);
  await settle();
  t.same(applied, ['1 a', '2 a']);
});

t.test('a tunnel that goes away in the middle of an apply is forgotten, and the next one told', async (t) => {
  const { applied, answers, reconciler, apply, setOutcome } = setUp();
  const first = Promise.withResolvers<readonly TunnelFailure[]>();
  setOutcome(() => first.promise);
  reconciler.want(state('a'));
  reconciler.up(apply, null);
  reconciler.down();
  setOutcome(async () => []);
  reconciler.up(async (wanted) => await apply(wanted), null);
  first.reject(new SelvedgeError('tunnel_unreachable', { path: 't', why: 'gone' }));
  await settle();
  t.same(applied, ['1 a', '2 a']);
  t.equal(answers.length, 1);
  t.same(reconciler.failures, []);
});

t.test('what failed is told, and tried again ever more seldom until it holds', async (t) => {
  const { timers, applied, reconciler, apply, setOutcome } = setUp();
  const failure = { code: 'address_in_use', what: 'network shop', why: 'eth0 has it' };
  setOutcome(async () => [failure]);
  reconciler.want(state('a'));
  reconciler.up(apply, null);
  await settle();
  t.same(reconciler.failures, [failure]);
  await timers.advance(7_000);
  t.equal(applied.length, 4, 'after 1, 2 and 4 s');
  await timers.advance(600_000);
  t.ok(applied.length <= 18, `${applied.length} in ten minutes`);
  setOutcome(async () => []);
  await timers.advance(60_000);
  t.same(reconciler.failures, []);
  t.equal(timers.waiting, 0);
});

t.test('an apply that is refused as a whole is a failure with a remedy, and tried again', async (t) => {
  const { timers, applied, reconciler, apply, setOutcome } = setUp();
  setOutcome(async () => {
    throw new SelvedgeError('permission_denied', { what: 'making devices' });
  });
  reconciler.want(state('a'));
  reconciler.up(apply, null);
  await settle();
  t.match(reconciler.failures, [{ code: 'permission_denied', why: /making devices/, remedy: /root/ }]);
  setOutcome(async () => []);
  await timers.advance(1_000);
  t.equal(applied.length, 2);
  t.ok(reconciler.isCurrent);
  reconciler.close();
  t.equal(timers.waiting, 0);
});
