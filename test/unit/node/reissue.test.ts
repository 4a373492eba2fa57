/** When a node renews its leaf for the sake of another root: by real certificates, and a time that the test says. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { toHex } from '../../../src/base/ids.ts';
import { type Authority, createAuthority, issueChain } from '../../../src/identity/authority.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { followedRoot, ReissuePlan, reissueRoot } from '../../../src/node/reissue.ts';
import { systemRandom as random } from '../../../src/transport/system.ts';
import type { NodeState } from '../../../src/enroll/state.ts';

const NOW_MS = 1_800_000_000_000;

async function under(authority: Authority): Promise<NodeState['credentials']> {
  const { privateKey, publicKey } = generateKeyPair();
  const identity = { cluster: 'alpha', site: 'north', node: '0a0000000001' };
  return { chain: await issueChain(authority, { identity, publicKey, now_ms: NOW_MS, random }), key: privateKey };
}

async function world() {
  const [before, next] = [
    await createAuthority({ cluster: 'alpha', now_ms: NOW_MS, random }),
    await createAuthority({ cluster: 'alpha', now_ms: NOW_MS, random }),
  ];
  const reissue = { root: toHex(fingerprint(next.root)), over_ms: 10_000 };
  const knowing = (roots: readonly Uint8Array[], credentials: NodeState['credentials'], told: typeof reissue | undefined = reissue) =>
    ({ trust: { version: 2, roots }, snapshot: told === undefined ? {} : { reissue: told }, credentials }) as unknown as Pick<
      NodeState,
      'trust' | 'snapshot' | 'credentials'
    >;
  return { before, next, reissue, knowing };
}

t.test('a leaf under the old root is due at a moment of its own within the time that is said, and that moment stays', async (t) => {
  const { before, next, knowing } = await world();
  const known = knowing([before.root, next.root], await under(before));
  const plan = new ReissuePlan();
  t.equal(
    plan.due_ms(known, NOW_MS, () => 0.25),
    NOW_MS + 2_500,
  );
  t.equal(
    plan.due_ms(known, NOW_MS + 1_000, () => 0.9),
    NOW_MS + 2_500,
    'another snapshot that says the same changes nothing',
  );
  plan.later(NOW_MS + 3_000);
  t.equal(
    plan.due_ms(known, NOW_MS + 3_000, () => 0.9),
    NOW_MS + 3_000 + limits.leaf_retry_ms_base,
    'what was renewed to no avail is tried again later',
  );
});

t.test('nothing is due without a word of it, under the new root, or for a root that this node does not trust', async (t) => {
  const { before, next, knowing } = await world();
  const due = (known: Parameters<ReissuePlan['due_ms']>[0]) => new ReissuePlan().due_ms(known, NOW_MS, () => 0);
  const both = [before.root, next.root];
  t.equal(due(knowing(both, await under(before))), NOW_MS);
  t.equal(due({ ...knowing(both, await under(before)), snapshot: {} as NodeState['snapshot'] }), null);
  t.equal(due(knowing(both, await under(next))), null);
  const alone = knowing([before.root], await under(before));
  t.equal(due(alone), null);
  t.equal(reissueRoot(alone), null);
});

t.test('what else was issued follows once the leaf has', async (t) => {
  const { before, next, knowing } = await world();
  const both = [before.root, next.root];
  t.equal(followedRoot(knowing(both, await under(before))), null);
  t.strictSame(followedRoot(knowing(both, await under(next))), next.root);
});
