/** The one decision on every chain of the table; test/scenario/chains.test.ts has the same over the live transports. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { type VerifyInput, verifyPeer } from '../../../src/identity/verify.ts';
import { type ChainCase, chainCases, roots, type Verdict } from './chains/index.ts';
import { CLUSTER, NODE } from './forge.ts';

function verdict({ chain, recorded = 'any' }: ChainCase, usage: VerifyInput['usage']): Verdict {
  try {
    const expected = usage === 'server' ? { expectedNode: NODE, expectedSite: 's1' } : {};
    verifyPeer({ chain, roots, cluster: CLUSTER, now_ms: Date.now(), usage, recordedFingerprint: () => recorded, ...expected });
    return 'accepted';
  } catch (error) {
    if (error instanceof SelvedgeError) return error.code;
    throw error;
  }
}

t.test('every chain of the table gets its verdict, as a client’s and as a server’s', async (t) => {
  const wrong = chainCases.flatMap((one) => {
    const found = { asClient: verdict(one, 'client'), asServer: verdict(one, 'server') };
    const { name, asClient, asServer } = one;
    return found.asClient === asClient && found.asServer === asServer ? [] : [{ name, expected: { asClient, asServer }, found }];
  });
  t.same(wrong, []);
  const accepted = chainCases.filter(({ asClient, asServer }) => asClient === 'accepted' && asServer === 'accepted').length;
  t.comment(`${chainCases.length} chains, ${accepted} of them accepted by both sides`);
  t.ok(chainCases.length > 500);
  t.equal(new Set(chainCases.map(({ name }) => name)).size, chainCases.length, 'each has a name of its own');
});

t.test('the verdict is the same a second time', async (t) => {
  for (const one of chainCases) if (verdict(one, 'client') !== one.asClient) t.fail(one.name);
});
