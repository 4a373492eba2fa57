/** Revocation lists: what is issued is what is read, by us and by OpenSSL, and nothing else passes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { createAuthority } from '../../../src/identity/authority.ts';
import { issueCrl, openCrl } from '../../../src/identity/crl.ts';
import { systemRandom as random } from '../../../src/transport/system.ts';
import { DAY_MS, NOW_MS as now_ms } from './forge.ts';

const authority = await createAuthority({ cluster: 'c1', now_ms, random });
const other = await createAuthority({ cluster: 'c1', now_ms, random });
const issuer = authority.intermediate;
const issue = (serials: readonly string[], request: Partial<Parameters<typeof issueCrl>[0]> = {}) =>
  issueCrl({
    issuer,
    signer: authority.signer,
    revoked: serials.map((serial) => ({ serial, at_ms: now_ms })),
    number: 7,
    now_ms,
    life_ms: DAY_MS,
    ...request,
  });

t.test('a list names what is revoked and nothing else, however a serial number is written', async (t) => {
  const list = openCrl(await issue(['4A0001', 'ff']), { issuer, now_ms });
  t.match(list, { number: 7, thisUpdate_ms: now_ms, nextUpdate_ms: now_ms + DAY_MS, revokedCount: 2 });
  for (const serial of ['4a0001', '4A0001', '004a0001', 'FF', '00ff']) t.equal(list.isRevoked(serial), true, serial);
  for (const serial of ['4a0002', 'f', '4a00', '']) t.equal(list.isRevoked(serial), false, serial);
  t.equal(openCrl(await issue([]), { issuer, now_ms }).revokedCount, 0);
});

t.test('OpenSSL reads it and finds the signature good', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'selvedge-crl-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const [list, ca] = [join(directory, 'list.der'), join(directory, 'ca.pem')];
  writeFileSync(list, await issue(['4a0001', 'ff01']));
  writeFileSync(ca, `-----BEGIN CERTIFICATE-----\n${Buffer.from(issuer).toString('base64')}\n-----END CERTIFICATE-----\n`);
  const text = execFileSync('openssl', ['crl', '-inform', 'DER', '-in', list, '-CAfile', ca, '-noout', '-text'], { encoding: 'utf8', stdio: 'pipe' });
  t.match(text, /Serial Number: 4A0001/);
  t.match(text, /Serial Number: FF01/);
  t.match(text, /X509v3 CRL Number:\s+7/);
});

t.test('a list that is out of date, of the future, of another issuer, altered or too large is refused', async (t) => {
  const good = await issue(['01']);
  const refused = (der: Uint8Array, why: RegExp, at: Partial<Parameters<typeof openCrl>[1]> = {}) =>
    t.throws(() => openCrl(der, { issuer, now_ms, ...at }), { code: 'document_invalid', message: why });
  refused(good, /out of date/, { now_ms: now_ms + DAY_MS + 1_000 });
  refused(good, /in the future/, { now_ms: now_ms - limits.clock_skew_ms_max - 1_000 });
  refused(good, /another issuer|does not match/, { issuer: other.intermediate });
  refused(await issue(['01'], { signer: other.signer }), /does not match/);
  refused(Uint8Array.of(...good, 0), /not a revocation list/);
  refused(new Uint8Array(limits.crl_bytes_max + 1), /at most/);
  refused(new Uint8Array(0), /not a revocation list/);
  const altered = good.slice();
  altered[altered.length - 1] = (altered[altered.length - 1] ?? 0) ^ 1;
  refused(altered, /does not match|not a revocation list/);
  await t.rejects(issue(Array<string>(limits.crl_entries_max + 1).fill('01')), { code: 'limit_reached' });
});

t.test('whatever comes in its place is refused by its code', async (t) => {
  const good = await issue(['01', '02']);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const altered = good.slice();
      altered[at] = (altered[at] ?? 0) ^ change;
      try {
        openCrl(altered, { issuer, now_ms });
        return false;
      } catch (error) {
        return error instanceof Error && 'code' in error && error.code === 'document_invalid';
      }
    }),
    { numRuns: 500 },
  );
  t.pass('500 changed octets');
});
