/** What a bundle's text may be, and that nothing else is taken for one. */
import fc from 'fast-check';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { type Bundle, hashOfSecret, makeBundleSecret, readBundle } from '../../../src/enroll/operator-bundle.ts';

const bytes = (value: unknown) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));

const bundle: Bundle = {
  format: 1,
  cluster: 'alpha',
  fingerprint: `sha256:${'ab'.repeat(32)}`,
  towers: [{ host: '203.0.113.5', tcp: 443, udp: 443 }],
  operator: 'a0a0a0a0a0a0',
  name: 'ada',
  secret: makeBundleSecret().text,
  expires_ms: 1_800_000_000_000,
};

t.test('a bundle reads as it was written, with white space around it', (t) => {
  t.strictSame(readBundle(bytes(`${JSON.stringify(bundle)}\n`)), bundle);
  t.match(makeBundleSecret().hash, /^[0-9a-f]{64}$/);
  t.equal(hashOfSecret(bundle.secret), hashOfSecret(bundle.secret));
  t.not(makeBundleSecret().text, makeBundleSecret().text);
  t.end();
});

t.test('anything else is refused, and no refusal repeats the secret', (t) => {
  const bad: unknown[] = [
    '',
    '{}',
    'null',
    '[]',
    '{"a":',
    { ...bundle, format: 2 },
    { ...bundle, more: 1 },
    { ...bundle, secret: 'svb_short' },
    { ...bundle, name: 'Ada' },
  ];
  bad.push({ ...bundle, operator: 'tower' }, { ...bundle, towers: [{ host: 'a b', tcp: 1, udp: null }] }, { ...bundle, fingerprint: 'ab'.repeat(32) });
  bad.push(`${JSON.stringify(bundle)}${' '.repeat(limits.operator_bundle_bytes_max)}`);
  for (const value of bad) {
    try {
      readBundle(bytes(value));
      t.fail(JSON.stringify(value).slice(0, 60));
    } catch (error) {
      t.match(error, { code: 'bundle_invalid' });
      t.notMatch(JSON.stringify(error), bundle.secret);
    }
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
      t.throws(() => readBundle(noise), SelvedgeError);
    }),
    { numRuns: 200 },
  );
  t.end();
});
