/** Which leaves of a node are accepted while it is renewed: whatever is lost or asked twice, the one that it has on disk always is. */
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { type LeafRow, type Leaves, offered, otherLeaves, retired, used } from '../../../src/tower/renewing/renewal.ts';

const leaf = (name: string): LeafRow => ({ fingerprint: name, leaf: `der ${name}`, csrHash: `csr ${name}`, spkiHash: `key ${name}` });
const fresh = (name: string): Leaves => ({ ...leaf(name), renewal: null });
const accepted = (row: Leaves): string[] => [row.fingerprint ?? 'none', ...otherLeaves(row.renewal)];
const OVER_MS = limits.leaf_overlap_ms + 1;

t.test('a successor is accepted beside the leaf in use, takes its place when seen, and the old one goes after the overlap', async (t) => {
  const given = offered(fresh('a'), leaf('b'), 'a', 0);
  t.same(accepted(given), ['a', 'b']);
  const seen = used(given, 'b', 1_000);
  t.match(seen, { ...leaf('b') });
  t.same(accepted(seen), ['b', 'a']);
  t.equal(retired(seen, 1_000 + limits.leaf_overlap_ms - 1), seen);
  t.same(retired(seen, 1_000 + OVER_MS), fresh('b'));
});

t.test('what is not the next leaf changes nothing, and only the holder of a recorded leaf is given a successor', async (t) => {
  const row = fresh('a');
  t.equal(used(row, 'b', 0), row);
  t.equal(retired(row, OVER_MS), row);
  t.throws(() => offered(row, leaf('c'), 'b', 0), { code: 'certificate_revoked' });
  const revoked = { ...row, fingerprint: null, leaf: null };
  t.throws(() => offered(revoked, leaf('c'), 'a', 0), { code: 'certificate_revoked' });
});

t.test('a node that lost an answer is given another, and one that has it on disk but was not seen with it loses nothing', async (t) => {
  const lost = offered(offered(fresh('a'), leaf('b'), 'a', 0), leaf('c'), 'a', 0);
  t.same(accepted(lost), ['a', 'c']);
  const held = offered(offered(fresh('a'), leaf('b'), 'a', 0), leaf('c'), 'b', 0);
  t.same(accepted(held), ['b', 'c', 'a']);
});

t.test('property: through any history the leaf that the node holds is accepted, and never more than a few', async (t) => {
  const step = fc.constantFrom('renew', 'lose', 'show', 'wait');
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let row = fresh('0');
      let holds = '0';
      let at_ms = 0;
      for (const [index, what] of steps.entries()) {
        const next = `${index + 1}`;
        if (what === 'renew' || what === 'lose') row = offered(row, leaf(next), holds, at_ms);
        if (what === 'renew') holds = next;
        if (what === 'show') row = used(row, holds, at_ms);
        if (what === 'wait') {
          at_ms += OVER_MS / 2;
          row = retired(row, at_ms);
        }
        if (!accepted(row).includes(holds) || accepted(row).length > 2 + limits.leaf_old_max) return false;
      }
      return true;
    }),
    { numRuns: 2_000 },
  );
  t.pass('2000 histories');
});
