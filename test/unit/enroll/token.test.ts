import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { makeToken, readToken, type TokenTerms } from '../../../src/enroll/token.ts';
import { systemRandom } from '../../../src/transport/system.ts';

const terms: TokenTerms = { cluster: 'alpha', tenant: 'shop', purpose: 'enroll', usesMax: 3, expires_ms: 1_800_000_000_000, sources: ['192.0.2.0/24'] };

t.test('a token reads back as its id, cluster and hash', async (t) => {
  for (const cluster of ['a', 'edge-1', 'c'.repeat(63)]) {
    const { text, ...facts } = makeToken({ ...terms, cluster }, systemRandom);
    t.match(text, /^svt_[0-9a-f]{12}_[A-Za-z0-9_-]+$/);
    t.strictSame(readToken(text), facts);
    t.strictSame(readToken(`${text}\n`), facts, 'a line end of a file does not matter');
  }
});

t.test('the longest token fits its bound, and one of the first format is still read', async (t) => {
  const long = 'c'.repeat(63);
  const network = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124';
  const sources = Array.from({ length: limits.grant_sources_max }, () => network);
  const { text, ...facts } = makeToken({ ...terms, cluster: long, tenant: long, sources, usesMax: limits.token_uses_max }, systemRandom);
  t.ok(text.length <= limits.token_chars_max, `${text.length} characters`);
  t.strictSame(readToken(text), facts);
  const bare = Buffer.concat([Buffer.of(1, 5), Buffer.from('alpha'), Buffer.alloc(24, 7)]);
  t.match(readToken(`svt_0123456789ab_${bare.toString('base64url')}`), { cluster: 'alpha', terms: null });
});

t.test('the hash is over the whole payload, so that the cluster in it cannot be changed', async (t) => {
  const { text, hash } = makeToken(terms, systemRandom);
  const payload = Buffer.from(text.slice('svt_'.length + 13), 'base64url');
  t.equal(hash, createHash('sha256').update(payload).digest('hex'));
  payload.write('omega', 2);
  const forged = readToken(`${text.slice(0, 'svt_'.length + 13)}${payload.toString('base64url')}`);
  t.equal(forged.cluster, 'omega');
  t.not(forged.hash, hash);
});

t.test('what is not a token is token_invalid, and the text is not repeated', async (t) => {
  const { text } = makeToken(terms, systemRandom);
  const wrong = ['', 'svt_', text.slice(0, -4), `${text}AAAA`, text.replace('svt_', 'svx_'), `svt_000000000000_${'A'.repeat(10_000)}`, 'svt_000000000000_AAAA'];
  for (const each of wrong) t.throws(() => readToken(each), { code: 'token_invalid' });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String().map((body) => `svt_0123456789ab_${body}`),
      ),
      (given) => {
        try {
          readToken(given);
          return true;
        } catch (error) {
          return error instanceof SelvedgeError && error.code === 'token_invalid' && !(given.length > 8 && error.message.includes(given));
        }
      },
    ),
  );
});
