import fc from 'fast-check';
import t from 'tap';
import { checkFacts, grantFor, matchesWild } from '../../../../src/enroll/platform/grants.ts';

const grant = (id: string, detail: Record<string, string>, more: object = {}) => ({ kind: 'aws', id, site: null, detail, created_ms: 1, ...more });
const identity = { subject: 's', facts: { account: '123456789012', role: 'edge-a', instance: 'i-1', id: 'AROAEXAMPLEEXAMPLE', user: undefined } };
const among = async (grants: object[], site: string | null = null) =>
  (await grantFor('aws', identity, { site, records: { grants: async () => grants } } as never).catch((error: { code: string }) => ({ id: error.code }))).id;

t.test('of the records that match, the most specific decides, then the newest, whatever its state', async (t) => {
  const wide = grant('wide', { account: '123456789012', role: '*' });
  const exact = grant('exact', { account: '123456789012', role: 'edge-a' });
  const host = grant('host', { account: '123456789012', role: 'edge-*', instance: 'i-1' }, { revoked_ms: 5 });
  t.equal(await among([wide, exact]), 'exact');
  t.equal(await among([wide, host, exact]), 'host');
  t.equal(await among([exact, grant('newer', exact.detail, { created_ms: 2 })]), 'newer');
  t.equal(await among([{ ...exact, site: 'south' }, wide], 'north'), 'wide', 'one of the site that was asked for comes first');
  t.equal(await among([{ ...exact, site: 'south' }], 'north'), 'exact', 'to be refused by its site');
});

t.test('a record matches only when every fact that it names is told and holds', async (t) => {
  const no: Record<string, string>[] = [
    {},
    { account: '123456789012' },
    { role: '*' },
    { account: '123456789012', user: '*' },
    { account: '123456789012', role: 'edge-b' },
    { account: '*', role: '*' },
    { account: '123456789012', role: '*', instance: '*' },
    { account: '123456789012', role: '*', color: 'red' },
    { account: '123456789012', role: '*', constructor: 'x' },
  ];
  for (const detail of no) t.equal(await among([grant('x', detail)]), 'platform_unmatched', JSON.stringify(detail));
});

t.test('what may be recorded is checked when it is recorded', async (t) => {
  t.same(checkFacts('aws', { account: '123456789012', role: 'edge-*' }), { account: '123456789012', role: 'edge-*' });
  const wrong: [Parameters<typeof checkFacts>[0], Record<string, string>][] = [
    ['aws', { account: '123456789012' }],
    ['aws', { role: 'edge' }],
    ['aws', { account: '1*', role: 'edge' }],
    ['aws', { account: '123456789012', role: 'edge', color: 'red' }],
    ['aws', { account: '123456789012', role: '' }],
    ['google', { zone: 'europe-west1-b' }],
    ['kubernetes', { namespace: 'edge', account: 'selvedge' }],
    ['kubernetes', { issuer: 'http://x', namespace: 'edge', account: 'selvedge' }],
    ['kubernetes', { issuer: 'https://x', namespace: '*', account: 'selvedge' }],
  ];
  for (const [kind, facts] of wrong) t.throws(() => checkFacts(kind, facts), { code: 'argument_invalid' }, `${kind} ${JSON.stringify(facts)}`);
});

t.test('a star stands for any characters, as in a regular expression, in time that grows with the length only', async (t) => {
  const piece = fc.string({ unit: fc.constantFrom('a', 'b', '.', '*'), maxLength: 12 });
  fc.assert(
    fc.property(piece, fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 16 }), (pattern, text) => {
      const same = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`).test(text);
      return matchesWild(pattern, text) === same;
    }),
    { numRuns: 2_000 },
  );
  t.equal(matchesWild('*a'.repeat(100), 'a'.repeat(99_999)), true);
  t.equal(matchesWild(`${'*a'.repeat(100)}b`, 'a'.repeat(99_999)), false);
});
