import { createHmac, createSecretKey } from 'node:crypto';
import fc from 'fast-check';
import { exportSPKI, SignJWT, importJWK } from 'jose';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import type { JwtAlgorithm } from '../../../src/identity/jwks.ts';
import { JwtIssuer, type JwtIssuerOptions, JwtIssuers } from '../../../src/identity/jwt.ts';
import { AUDIENCE, HandClock, makeIssuer, rawToken, type TestIssuer } from '../../fixtures/jwt.ts';

const clock = new HandClock();
const good = await makeIssuer(clock);
const expected = { audience: AUDIENCE };

function judge(issuer: TestIssuer, options: Partial<JwtIssuerOptions> = {}): JwtIssuer {
  return new JwtIssuer({ issuer: issuer.issuer, algorithms: [issuer.algorithm as JwtAlgorithm], keys: { inline: { keys: [issuer.jwk] } }, clock, ...options });
}
const now_s = (): number => Math.floor(clock.wall() / 1_000);

t.test('a good token tells its subject, its times and all its claims, with every algorithm there is', async (t) => {
  for (const algorithm of ['ES256', 'ES384', 'ES512', 'RS256', 'RS512', 'PS256', 'EdDSA']) {
    const issuer = await makeIssuer(clock, { algorithm });
    const verified = await judge(issuer).verify(await issuer.sign({ groups: ['a'] }), expected);
    t.match(verified, { issuer: issuer.issuer, subject: 'someone', issued_ms: clock.ms, expires_ms: clock.ms + 600_000, claims: { groups: ['a'] } }, algorithm);
    t.match(verified.id, /^[0-9a-f]{64}$/);
  }
});

t.test('a token may be for several audiences, unless it must be for this one alone', async (t) => {
  const several = await good.sign({ aud: ['other', AUDIENCE] });
  t.equal((await judge(good).verify(several, expected)).subject, 'someone');
  await t.rejects(judge(good).verify(several, { ...expected, soleAudience: true }), { code: 'jwt_invalid' });
  t.equal((await judge(good).verify(await good.sign({ aud: [AUDIENCE] }), { ...expected, soleAudience: true })).subject, 'someone');
});

t.test('claims that are wrong, missing or of another type are refused', async (t) => {
  const second = now_s();
  const wrong: Record<string, Record<string, unknown>> = {
    'another audience': { aud: 'other' },
    'a longer audience': { aud: `${AUDIENCE}x` },
    'no audience': { aud: undefined },
    'an empty list of audiences': { aud: [] },
    'an audience that is an object': { aud: { [AUDIENCE]: true } },
    'another issuer': { iss: 'https://other.example' },
    'an issuer with a slash more': { iss: `${good.issuer}/` },
    'no issuer': { iss: undefined },
    'a list of issuers': { iss: [good.issuer] },
    'no subject': { sub: undefined },
    'an empty subject': { sub: '' },
    'a subject that is a number': { sub: 7 },
    'a subject without end': { sub: 's'.repeat(limits.jwt_text_chars_max + 1) },
    'no end': { exp: undefined },
    'no beginning': { nbf: undefined },
    'no issue time': { iat: undefined },
    'a nil end': { exp: null },
    'a nil beginning': { nbf: null },
    'a nil issue time': { iat: null },
    'an end as text': { exp: String(second + 600) },
    'a beginning as text': { nbf: String(second) },
    'an end that is true': { exp: true },
    'an end after all times': { exp: 1e300 },
    'an end of zero': { exp: 0 },
    'a negative beginning': { nbf: -1 },
    'a life of years': { exp: second + limits.jwt_life_s_max + 1 },
    'an end before its issue': { iat: second + 30, exp: second + 20, nbf: second },
  };
  for (const [what, claims] of Object.entries(wrong)) {
    const error = await judge(good)
      .verify(await good.sign(claims), expected)
      .then(
        () => null,
        (refusal: SelvedgeError) => refusal,
      );
    t.ok(error instanceof SelvedgeError && ['jwt_invalid', 'jwt_expired'].includes(error.code), `${what}: ${error?.message}`);
    t.notOk(error?.message.includes('someone'), 'nothing of the token is told');
  }
});

t.test('a token that is too early or too late is jwt_expired, beyond a minute of clock skew', async (t) => {
  const second = now_s();
  const skew_s = limits.jwt_skew_s_max;
  const verify = async (claims: Record<string, unknown>) => await judge(good).verify(await good.sign(claims), expected);
  await verify({ iat: second + skew_s, nbf: second + skew_s, exp: second + skew_s + 10 });
  await verify({ iat: second - 900, nbf: second - 900, exp: second - skew_s + 1 });
  await t.rejects(verify({ iat: second - 900, exp: second - skew_s }), { code: 'jwt_expired' });
  await t.rejects(verify({ nbf: second + skew_s + 1 }), { code: 'jwt_expired' });
  await t.rejects(verify({ iat: second + skew_s + 1 }), { code: 'jwt_expired' });
});

t.test('an issuer without nbf has to be named as one; the claim is judged where it is there', async (t) => {
  const lenient = judge(good, { without_not_before: true });
  t.equal((await lenient.verify(await good.sign({ nbf: undefined }), expected)).subject, 'someone');
  await t.rejects(lenient.verify(await good.sign({ nbf: now_s() + 900 }), expected), { code: 'jwt_expired' });
  await t.rejects(lenient.verify(await good.sign({ nbf: null }), expected), { code: 'jwt_invalid' });
});

t.test('a header cannot choose how the token is judged', async (t) => {
  const stranger = await makeIssuer(clock, { issuer: good.issuer });
  const claims = { iss: good.issuer, sub: 'someone', aud: AUDIENCE, iat: now_s(), nbf: now_s(), exp: now_s() + 600 };
  const publicPem = await exportSPKI((await importJWK(good.jwk, 'ES256')) as never);
  const hmac = (header: object, secret: string) => {
    const input = rawToken(header, claims).replace(/\.$/, '');
    return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
  };
  const forged: Record<string, string> = {
    'alg none, no signature': rawToken({ alg: 'none', typ: 'JWT' }, claims, 'x'),
    'alg none, empty signature': rawToken({ alg: 'none', typ: 'JWT' }, claims),
    'alg None': rawToken({ alg: 'None', kid: good.kid }, claims, 'x'),
    'no alg': rawToken({ kid: good.kid }, claims, 'x'),
    'alg a list': rawToken({ alg: ['ES256'], kid: good.kid }, claims, 'x'),
    'HMAC with the public key, PEM': hmac({ alg: 'HS256', kid: good.kid }, publicPem),
    'HMAC with the public key, JWK': hmac({ alg: 'HS256', kid: good.kid }, JSON.stringify(good.jwk)),
    'its own key in jwk': await stranger.sign({}, { jwk: stranger.jwk }),
    'its own key in jwk, without kid': await stranger.sign({}, { jwk: stranger.jwk, kid: undefined }),
    'an address of keys': await stranger.sign({}, { jku: 'https://attacker.example/keys' }),
    'an address of certificates': await stranger.sign({}, { x5u: 'https://attacker.example/chain' }),
    certificates: await stranger.sign({}, { x5c: ['MIIB'] }),
    'signed by another key of that name': await stranger.sign(),
    'well signed, with jku': await good.sign({}, { jku: 'https://attacker.example/keys' }),
    'well signed, with jwk': await good.sign({}, { jwk: good.jwk }),
    'well signed, with an unknown parameter': await good.sign({}, { zip: 'DEF' }),
    'well signed, a logout token': await good.sign({}, { typ: 'logout+jwt' }),
    'well signed, a type that is a number': await good.sign({}, { typ: 1 }),
    'well signed, a kid that is a path': await good.sign({}, { kid: '../../dev/null' }),
    'a kid that is a number': rawToken({ alg: 'ES256', kid: 1 }, claims, Buffer.alloc(64)),
    'a kid without end': rawToken({ alg: 'ES256', kid: 'k'.repeat(4_000) }, claims, Buffer.alloc(64)),
    'a signature of zeros': rawToken({ alg: 'ES256', kid: good.kid }, claims, Buffer.alloc(64)),
    'a signature in DER': rawToken({ alg: 'ES256', kid: good.kid }, claims, Buffer.from('3006020101020101', 'hex')),
    'a header that is a list': rawToken([], claims, 'x'),
    'a header that is null': rawToken('null', claims, 'x'),
  };
  for (const [what, token] of Object.entries(forged)) {
    await t.rejects(judge(good).verify(token, expected), { code: 'jwt_invalid' }, what);
    await t.rejects(new JwtIssuers([judge(good)]).verify(token, expected), { code: 'jwt_invalid' }, `${what}, among issuers`);
  }
});

t.test('an extension that the header calls critical is refused, whoever signed', async (t) => {
  const token = await new SignJWT({ sub: 'someone' })
    .setProtectedHeader({ alg: 'ES256', kid: good.kid, crit: ['exp'], exp: 1 })
    .sign(good.privateKey, { crit: { exp: true } });
  await t.rejects(judge(good).verify(token, expected), { code: 'jwt_invalid' });
});

t.test('a key serves one algorithm, so that RS256 and PS256 are never mixed', async (t) => {
  const rsa = await makeIssuer(clock, { algorithm: 'RS256' });
  const { alg: _alg, ...unnamed } = rsa.jwk;
  const asPss = await new SignJWT({}).setProtectedHeader({ alg: 'PS256', kid: rsa.kid }).sign((await importJWK(await privateJwk(rsa), 'PS256')) as never);
  await t.rejects(judge(rsa, { algorithms: ['RS256', 'PS256'] }).verify(asPss, expected), { code: 'jwt_invalid' });
  await t.rejects(judge(rsa, { algorithms: ['RS256', 'PS256'], keys: { inline: { keys: [unnamed] } } }).load(), { code: 'jwt_keys_unavailable' });
  t.equal((await judge(rsa, { keys: { inline: { keys: [unnamed] } } }).verify(await rsa.sign(), expected)).subject, 'someone');
});

async function privateJwk({ privateKey }: TestIssuer) {
  const { exportJWK } = await import('jose');
  return await exportJWK(privateKey);
}

t.test('of several issuers the one that the token claims judges it, by its own keys and algorithms', async (t) => {
  const other = await makeIssuer(clock, { issuer: 'https://second.example', algorithm: 'RS256' });
  const issuers = new JwtIssuers([judge(good), judge(other)]);
  t.equal((await issuers.verify(await good.sign(), expected)).issuer, good.issuer);
  t.equal((await issuers.verify(await other.sign(), expected)).issuer, other.issuer);
  await t.rejects(issuers.verify(await good.sign({ iss: other.issuer }), expected), { code: 'jwt_invalid' });
  await t.rejects(issuers.verify(await other.sign({ iss: good.issuer }), expected), { code: 'jwt_invalid' });
  await t.rejects(issuers.verify(await good.sign({ iss: '__proto__' }), expected), { code: 'jwt_invalid' });
});

t.test('the id of a token stays when its signature is made into another valid one', async (t) => {
  const token = await good.sign();
  const [header, claims, signature = ''] = token.split('.');
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const octets = Buffer.from(signature, 'base64url');
  const s = BigInt(`0x${octets.subarray(32).toString('hex')}`);
  const other = Buffer.concat([octets.subarray(0, 32), Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex')]);
  const twin = `${header}.${claims}.${other.toString('base64url')}`;
  t.not(twin, token);
  const [first, second] = await Promise.all([judge(good).verify(token, expected), judge(good).verify(twin, expected)]);
  t.equal(first.id, second.id);
});

t.test('bytes that are no token are refused before anything is decoded', async (t) => {
  const token = await good.sign();
  const wrong = [
    '',
    '.',
    '..',
    '...',
    `${token}.x`,
    ` ${token}`,
    `${token}\n`,
    token.replace('.', '..'),
    `${token}=`,
    'a'.repeat(limits.jwt_bytes_max + 1),
    `${token}${'A'.repeat(limits.jwt_bytes_max)}`,
  ];
  for (const each of wrong) await t.rejects(judge(good).verify(each, expected), { code: 'jwt_invalid' });
  await fc.assert(
    fc.asyncProperty(fc.json(), fc.json(), fc.uint8Array({ maxLength: 80 }), async (header, claims, signature) => {
      const error = await new JwtIssuers([judge(good)]).verify(rawToken(header, claims, signature), expected).then(
        () => null,
        (refusal: unknown) => refusal,
      );
      return error instanceof SelvedgeError && error.code === 'jwt_invalid';
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(token.length - 1), fc.constantFrom('A', '-', '.', 'é', '\0', ' '), async (at, letter) => {
      const bent = `${token.slice(0, at)}${letter}${token.slice(at + 1)}`;
      const error = await judge(good)
        .verify(bent, expected)
        .then(
          () => null,
          (refusal: unknown) => refusal,
        );
      return bent === token || (error instanceof SelvedgeError && error.code === 'jwt_invalid');
    }),
  );
});

t.test('issuer, algorithms and audience are always needed', async (t) => {
  t.throws(() => judge(good, { issuer: '' }), { code: 'argument_invalid' });
  t.throws(() => judge(good, { algorithms: [] }), { code: 'argument_invalid' });
  await t.rejects(judge(good).verify(await good.sign(), { audience: '' }), { code: 'argument_invalid' });
});

t.test('a shared secret never becomes a key', async (t) => {
  const secret = { kty: 'oct', k: createSecretKey(Buffer.alloc(32)).export().toString('base64url'), alg: 'HS256', kid: good.kid };
  await t.rejects(judge(good, { keys: { inline: { keys: [secret, good.jwk] } } }).load(), { code: 'jwt_keys_unavailable', message: /not a public one/ });
});
