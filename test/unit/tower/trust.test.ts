/** The phases of a rotation as a value: what follows what, what is refused, and when enough have followed. */
import t from 'tap';
import { firstTrust, isReached, reissued, retired, rotated, type TrustRow } from '../../../src/tower/trust/phases.ts';
import { missingText } from '../../../src/tower/trust/status.ts';

const asked = { threshold_percent: 90, at_ms: 2 };

t.test('both roots are told of, then leaves are issued, then the new one stays alone; the version moves with the roots', async (t) => {
  const first = firstTrust('old', 95, 1);
  const both = rotated(first, 'new', asked);
  t.strictSame(both, { version: 2, phase: 'distributing', roots: ['old', 'new'], previous: null, threshold_percent: 90, since_ms: 2 });
  const issuing = reissued(both, 3);
  t.strictSame(issuing, { ...both, phase: 'reissuing', since_ms: 3 });
  t.equal(reissued(issuing, 9), issuing, 'once');
  const alone = retired(issuing, 4);
  t.strictSame(alone, { ...issuing, version: 3, phase: 'stable', roots: ['new'], previous: 'old', since_ms: 4 });
  t.match(rotated(alone, 'third', asked), { version: 4, roots: ['new', 'third'], previous: 'old' });
});

t.test('no rotation begins amid another, and none that there is not is ended', async (t) => {
  const first = firstTrust('old', 95, 1);
  for (const row of [rotated(first, 'new', asked), reissued(rotated(first, 'new', asked), 3)])
    t.throws(() => rotated(row, 'third', asked), { code: 'rotation_refused' });
  t.throws(() => retired(first, 1), { code: 'rotation_refused' });
  const broken: TrustRow = { ...first, phase: 'reissuing' };
  t.throws(() => retired(broken, 1), { code: 'rotation_refused' }, 'nor one that leads nowhere');
});

t.test('one node below the threshold is not enough, at it is', async (t) => {
  t.notOk(isReached(94, 100, 95));
  t.ok(isReached(95, 100, 95));
  t.notOk(isReached(9, 10, 95));
  t.ok(isReached(10, 10, 95));
  t.ok(isReached(0, 0, 100), 'nobody is waited for where there is nobody');
});

t.test('who would be cut off is named, a few of many', async (t) => {
  const node = (name: string) => ({ id: '0a0000000001', name, site: 'north', why: 'bundle' as const });
  const ada = { id: '0b0000000001', name: 'ada' };
  t.equal(missingText({ nodes: [], nodes_total: 0, operators: [], operators_total: 0 }), 'nobody would be cut off');
  t.equal(
    missingText({ nodes: 'abcdefg'.split('').map(node), nodes_total: 40, operators: [ada], operators_total: 1 }),
    'it would cut off nodes a, b, c, d, e and 35 more; operators ada',
  );
});
