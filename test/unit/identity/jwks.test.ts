import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { exportJWK } from 'jose';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { type KeyLocation, readKeySet } from '../../../src/identity/jwks.ts';
import { JwtIssuer } from '../../../src/identity/jwt.ts';
import type { OutboundRules } from '../../../src/identity/outbound.ts';
import { AUDIENCE, HandClock, makeIssuer } from '../../fixtures/jwt.ts';
import { answerJson, loopback, serveWeb, type WebServer } from '../../fixtures/web-server.ts';

const clock = new HandClock();
const good = await makeIssuer(clock);
const next = await makeIssuer(clock, { kid: 'k2' });
const expected = { audience: AUDIENCE };
const set = { keys: [good.jwk] };

const rulesOf = ({ host, roots }: WebServer): OutboundRules => ({ hosts: [host], roots, inside: loopback });
const judge = (keys: KeyLocation): JwtIssuer => new JwtIssuer({ issuer: good.issuer, algorithms: ['ES256'], keys, clock });
const at = (server: WebServer, path = '/keys'): KeyLocation => ({ url: `${server.origin}${path}`, rules: rulesOf(server) });

t.test('keys are fetched over HTTPS once, and serve until they are old', async (t) => {
  await using server = await serveWeb((_seen, response) => answerJson(response, set));
  const issuer = judge(at(server));
  for (let count = 0; count < 3; count++) await issuer.verify(await good.sign(), expected);
  t.equal(server.seen.length, 1);
  t.match(server.seen[0], { method: 'GET', path: '/keys', headers: { accept: 'application/json' } });
  clock.ms += limits.jwks_fresh_ms_max;
  await Promise.all([good.sign(), good.sign()].map(async (token) => await issuer.verify(await token, expected)));
  t.equal(server.seen.length, 2, 'two at once wait for one fetch');
});

t.test('a key that nobody knows has the set fetched again, but not for each token', async (t) => {
  const keys = [good.jwk];
  await using server = await serveWeb((_seen, response) => answerJson(response, { keys }));
  const issuer = judge(at(server));
  await issuer.load();
  keys.push(next.jwk);
  for (let count = 0; count < 20; count++) await t.rejects(issuer.verify(await next.sign({}, { kid: `guess-${count}` }), expected), { code: 'jwt_invalid' });
  t.equal(server.seen.length, 1, 'it was fetched just now');
  clock.ms += limits.jwks_refetch_ms_min;
  await issuer.verify(await next.sign(), expected);
  t.equal(server.seen.length, 2);
});

t.test('while the issuer is away its keys serve on, and not for ever', async (t) => {
  let away = false;
  await using server = await serveWeb((_seen, response) => answerJson(response, set, away ? 503 : 200));
  const issuer = judge(at(server));
  await issuer.load();
  away = true;
  clock.ms += limits.jwks_fresh_ms_max;
  await issuer.verify(await good.sign(), expected);
  clock.ms += limits.jwks_stale_ms_max;
  await t.rejects(issuer.verify(await good.sign(), expected), { code: 'jwt_keys_unavailable', message: /503/ });
  await t.rejects(issuer.verify(await good.sign(), expected), { code: 'jwt_keys_unavailable' });
  t.equal(server.seen.length, 3, 'a failure is not tried again at once');
  away = false;
  clock.ms += limits.jwks_refetch_ms_min;
  await issuer.verify(await good.sign(), expected);
});

t.test('a key taken out of the set is believed no more once it was fetched', async (t) => {
  let keys = [good.jwk, next.jwk];
  await using server = await serveWeb((_seen, response) => answerJson(response, { keys }));
  const issuer = judge(at(server));
  await issuer.verify(await next.sign(), expected);
  keys = [good.jwk];
  clock.ms += limits.jwks_fresh_ms_max;
  await t.rejects(issuer.verify(await next.sign(), expected), { code: 'jwt_invalid' });
});

t.test('an answer that is not a bounded key set is refused', async (t) => {
  const answers: Record<string, (response: ServerResponse) => void> = {
    'a redirect': (response) => response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end(),
    'a redirect that has keys': (response) => response.writeHead(307, { location: '/keys' }).end(JSON.stringify(set)),
    'not found': (response) => answerJson(response, set, 404),
    'no JSON': (response) => response.end('<html>'),
    'no list': (response) => answerJson(response, { keys: { a: good.jwk } }),
    null: (response) => answerJson(response, null),
    'no key': (response) => answerJson(response, { keys: [] }),
    'thousands of keys': (response) => answerJson(response, { keys: Array.from({ length: 5_000 }, (_, index) => ({ kty: 'EC', kid: `${index}` })) }),
    'more octets than allowed': (response) => answerJson(response, { keys: [good.jwk], more: 'x'.repeat(limits.jwks_bytes_max) }),
    'octets without end': (response) => {
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
      };
      response.on('drain', more).on('error', () => undefined);
      more();
    },
    'something packed': (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('x'),
    'a header without end': (response) => response.writeHead(200, { 'x-more': 'x'.repeat(limits.api_header_bytes_max) }).end(),
    'a broken connection': (response) => response.destroy(),
    'a broken body': (response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('{', () => response.destroy());
    },
  };
  for (const [what, answer] of Object.entries(answers)) {
    await using server = await serveWeb((_seen, response) => answer(response));
    await t.rejects(judge(at(server)).load(), { code: 'jwt_keys_unavailable' }, what);
    t.equal(server.seen.length, 1, `${what}: one request, and nothing followed`);
  }
});

t.test('a slow key server is given up', async (t) => {
  const taken: ServerResponse[] = [];
  await using server = await serveWeb((_seen, response) => {
    taken.push(response);
    response.writeHead(200).write('{');
  });
  const { sendOutbound } = await import('../../../src/identity/outbound.ts');
  const request = { method: 'GET' as const, url: `${server.origin}/keys`, answer_bytes_max: 1_000, ms_max: 100 };
  await t.rejects(sendOutbound(rulesOf(server), request), { code: 'network_unreachable', message: /in time/ });
  const [response] = taken;
  if (response !== undefined && !response.destroyed) await once(response, 'close');
  t.ok(response?.destroyed, 'and its connection closed');
});

t.test('no request leaves for an address that is not allowed', async (t) => {
  await using server = await serveWeb((_seen, response) => answerJson(response, set));
  await using plain = await serveWeb((_seen, response) => answerJson(response, set), { plain: true });
  const rules = rulesOf(server);
  const everywhere = {
    ...rules,
    hosts: ['localhost', server.host, `127.0.0.1:${server.port}`, `[::1]:${server.port}`, plain.host, '169.254.169.254', '[::ffff:7f00:1]'],
  };
  const refused: Record<string, KeyLocation> = {
    'inside by default': { url: `${server.origin}/keys`, rules: { ...rules, inside: [] } },
    'an address inside': { url: `https://127.0.0.1:${server.port}/keys`, rules: { ...everywhere, inside: [] } },
    'an address inside, as a number': { url: `https://2130706433:${server.port}/keys`, rules: { ...everywhere, inside: [] } },
    'an address inside, as octal': { url: `https://0177.0.0.1:${server.port}/keys`, rules: { ...everywhere, inside: [] } },
    'IPv6 inside': { url: `https://[::1]:${server.port}/keys`, rules: { ...everywhere, inside: [] } },
    'IPv4 in IPv6': { url: 'https://[::ffff:127.0.0.1]/keys', rules: { ...everywhere, inside: [] } },
    metadata: { url: 'https://169.254.169.254/latest/', rules: everywhere },
    'another host': { url: 'https://attacker.example/keys', rules },
    'another port': { url: 'https://localhost:1/keys', rules },
    'the host as a user name': { url: `https://${server.host}@attacker.example/keys`, rules },
    'a user name': { url: `https://user:pw@${server.host}/keys`, rules },
    'a host that begins alike': { url: `https://localhost.attacker.example:${server.port}/keys`, rules },
    'a dot more': { url: `https://localhost.:${server.port}/keys`, rules },
    'plain HTTP': { url: `${plain.origin}/keys`, rules: everywhere },
    'a file': { url: 'file:///etc/passwd', rules: everywhere },
    'a fragment': { url: `${server.origin}/keys#x`, rules },
    'no URL': { url: 'keys', rules },
    'an URL without end': { url: `${server.origin}/${'x'.repeat(9_000)}`, rules },
  };
  for (const [what, keys] of Object.entries(refused)) {
    const error = await judge(keys)
      .load()
      .then(
        () => null,
        (refusal: unknown) => refusal,
      );
    t.match(error, { code: 'jwt_keys_unavailable', cause: { code: 'outbound_refused' } }, what);
    t.notMatch(String(error), /user:pw/);
  }
  t.equal(server.seen.length + plain.seen.length, 0);
});

t.test('a server without a certificate by the roots of the configuration is not asked', async (t) => {
  await using server = await serveWeb((_seen, response) => answerJson(response, set));
  await using other = await serveWeb(() => undefined);
  await t.rejects(judge({ url: `${server.origin}/keys`, rules: { ...rulesOf(server), roots: other.roots } }).load(), { code: 'jwt_keys_unavailable' });
  t.equal(server.seen.length, 0);
});

t.test('keys in a file are read anew when a token names another', async (t) => {
  const file = join(t.testdir(), 'keys.json');
  await writeFile(file, JSON.stringify(set));
  const issuer = judge({ file });
  await issuer.verify(await good.sign(), expected);
  await writeFile(file, JSON.stringify({ keys: [next.jwk] }));
  clock.ms += limits.jwks_refetch_ms_min;
  await issuer.verify(await next.sign(), expected);
  await t.rejects(issuer.verify(await good.sign(), expected), { code: 'jwt_invalid' });
  await writeFile(file, 'x'.repeat(limits.jwks_bytes_max + 1));
  await t.rejects(judge({ file }).load(), { code: 'jwt_keys_unavailable' });
  await t.rejects(judge({ file: '/nowhere/keys.json' }).load(), { code: 'jwt_keys_unavailable' });
});

t.test('a set with a private, weak, huge or ambiguous key is refused; keys of other uses are passed over', async (t) => {
  const rsa = (bits: number) => ({ ...generateKeyPairSync('rsa', { modulusLength: bits }).publicKey.export({ format: 'jwk' }), kid: 'r', alg: 'RS256' });
  const strong = rsa(2_048);
  const refused: Record<string, unknown> = {
    'a private key': { keys: [await exportJWK(good.privateKey)] },
    'a short one': { keys: [rsa(1_024)] },
    'a huge one': { keys: [{ ...strong, n: Buffer.alloc(4_096, 0xff).toString('base64url') }] },
    'a huge exponent': { keys: [{ ...strong, e: Buffer.alloc(256, 0xff).toString('base64url') }] },
    'two of one name': { keys: [good.jwk, { ...next.jwk, kid: good.kid }] },
    'a kid that is a number': { keys: [{ ...good.jwk, kid: 7 }] },
    'no kty': { keys: [{ kid: 'x' }] },
    'a point not on the curve': { keys: [{ ...good.jwk, x: good.jwk.y }] },
    'only keys of other uses': {
      keys: [
        { ...good.jwk, use: 'enc' },
        { ...next.jwk, alg: 'ECDH-ES' },
        { kty: 'OKP', crv: 'X25519', x: 'AA' },
      ],
    },
  };
  for (const [what, value] of Object.entries(refused)) await t.rejects(readKeySet(value, ['ES256', 'RS256']), what);
  const read = await readKeySet({ keys: [good.jwk, { ...next.jwk, use: 'enc' }, strong, { kty: 'future' }] }, ['ES256', 'RS256']);
  t.same(
    read.map(({ kid, algorithm }) => [kid, algorithm]),
    [
      ['k1', 'ES256'],
      ['r', 'RS256'],
    ],
  );
});
