/** What our authority issues, how a request proves its key, and where the keys are. */
import { createPublicKey, generateKeyPairSync, verify, X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AsnConvert } from '@peculiar/asn1-schema';
import { CertificationRequest } from '@peculiar/asn1-csr';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { authoritySecrets, createAuthority, issueChain, openAuthority } from '../../../src/identity/authority.ts';
import { issueLeaf, ROOT_DAYS } from '../../../src/identity/ca.ts';
import { createCsr, parseCsr } from '../../../src/identity/csr.ts';
import { encodeDer } from '../../../src/identity/der.ts';
import { fingerprint, formatFingerprint, parseFingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair, importPrivateKey, p256Objection } from '../../../src/identity/keys.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { localSigner } from '../../../src/identity/signer.ts';
import { decodeTrustBundle, encodeTrustBundle, rootObjection, trustBundleFromJson, trustBundleToJson } from '../../../src/identity/trust-bundle.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { systemRandom as random } from '../../../src/transport/system.ts';
import { DAY_MS, forgeIntermediate, forgeLeaf, forgeRoot, NODE, NOW_MS as now_ms } from './forge.ts';

const identity = { cluster: 'c1', site: 's1', node: NODE };
const days = (certificate: X509Certificate): number => (certificate.validToDate.getTime() - now_ms) / DAY_MS;

t.test('root, intermediate and leaf have the lives, the tiers and the one name that the specification says', async (t) => {
  const authority = await createAuthority({ cluster: 'c1', now_ms, random });
  const [leafDer, intermediateDer] = await issueChain(authority, { identity, publicKey: generateKeyPair().publicKey, now_ms, random });
  const [root, intermediate, leaf] = [authority.root, intermediateDer, leafDer].map((der) => new X509Certificate(der ?? '')) as [
    X509Certificate,
    X509Certificate,
    X509Certificate,
  ];
  t.same([root.ca, intermediate.ca, leaf.ca], [true, true, false]);
  t.same([days(root), days(intermediate), days(leaf)], [ROOT_DAYS, 730, 30]);
  for (const certificate of [root, intermediate, leaf]) {
    t.equal(certificate.validFromDate.getTime(), now_ms - 300_000, 'backdated by five minutes');
    t.match(certificate.serialNumber, /^[4-7][0-9A-F]{31}$/, 'positive, 126 random bits');
  }
  t.ok(leaf.checkIssued(intermediate) && leaf.verify(intermediate.publicKey));
  t.ok(intermediate.checkIssued(root) && intermediate.verify(root.publicKey));
  t.equal(leaf.subjectAltName, `URI:spiffe://c1/site/s1/node/${NODE}`);
  t.same(leaf.keyUsage, ['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1']);
  t.equal(rootObjection(authority.root), null);
});

t.test('a leaf never outlives the intermediate that signed it', async (t) => {
  const authority = await createAuthority({ cluster: 'c1', now_ms, random });
  const late = now_ms + 720 * DAY_MS;
  const [leaf = new Uint8Array()] = await issueChain(authority, { identity, publicKey: generateKeyPair().publicKey, now_ms: late, random });
  t.equal(days(new X509Certificate(leaf)), 730);
  await t.rejects(issueChain(authority, { identity, publicKey: generateKeyPair().publicKey, now_ms: now_ms + 731 * DAY_MS, random }), /still valid/);
});

t.test('serial numbers are positive and of one length whatever randomness gives', async (t) => {
  const authority = await createAuthority({ cluster: 'c1', now_ms, random });
  for (const octet of [0x00, 0x7f, 0x80, 0xff]) {
    const fixed = { bytes: (length: number) => new Uint8Array(length).fill(octet) };
    const leaf = await issueLeaf({
      identity,
      publicKey: generateKeyPair().publicKey,
      issuer: authority.intermediate,
      signer: authority.signer,
      now_ms,
      random: fixed,
    });
    t.match(new X509Certificate(leaf).serialNumber, /^[4-7][0-9A-F]{31}$/);
  }
});

t.test('names that are not names, and keys of another kind, are not signed', async (t) => {
  await t.rejects(createAuthority({ cluster: 'No Name', now_ms, random }), { code: 'argument_invalid' });
  const authority = await createAuthority({ cluster: 'a'.repeat(63), now_ms, random });
  const { publicKey } = generateKeyPair();
  await t.rejects(issueChain(authority, { identity: { ...identity, site: 's/1' }, publicKey, now_ms, random }), { code: 'argument_invalid' });
  await t.rejects(issueChain(authority, { identity: { ...identity, node: 'a' }, publicKey, now_ms, random }), /node id/);
  await t.rejects(issueChain(authority, { identity: { ...identity, node: 'tower' }, publicKey, now_ms, random }), /its site/);
  const p384 = new Uint8Array(generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).publicKey.export({ type: 'spki', format: 'der' }));
  await t.rejects(issueChain(authority, { identity, publicKey: p384, now_ms, random }), /P-256/);
});

t.test('an authority sealed in a store signs again after the store was opened anew, and its keys are there by name', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'selvedge-authority-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const unsealKey = { kind: 'key', key: random.bytes(32) } as const;
  const path = join(directory, 'sealed.bin');
  const made = await createAuthority({ cluster: 'c1', now_ms, random, store: await SealedStore.create(path, unsealKey) });
  const store = await SealedStore.open(path, unsealKey);
  const opened = openAuthority(store);
  t.same(opened.root, made.root);
  const chain = await issueChain(opened, { identity, publicKey: generateKeyPair().publicKey, now_ms, random });
  t.same(verifyPeer({ chain, roots: [made.root], cluster: 'c1', now_ms, usage: 'client' }).identity, identity);
  t.same(
    store.keys().sort(),
    Object.values(authoritySecrets)
      .filter((name) => !name.endsWith('.place'))
      .sort(),
  );
  const rootKey = store.get(authoritySecrets.rootKey) ?? new Uint8Array();
  t.same(importPrivateKey(rootKey).publicKey, new Uint8Array(new X509Certificate(made.root).publicKey.export({ type: 'spki', format: 'der' })), 'exportable');
  await store.delete(authoritySecrets.rootKey);
  t.ok(
    await issueChain(openAuthority(store), { identity, publicKey: generateKeyPair().publicKey, now_ms, random }),
    'issuing goes on with the root taken offline',
  );
  await store.set(authoritySecrets.rootKey, rootKey);
  await t.rejects(createAuthority({ cluster: 'c1', now_ms, random, store }), { code: 'file_exists' }, 'an authority is never replaced by accident');
  t.throws(() => openAuthority({ get: () => null, update: async () => undefined }), { code: 'not_found' });
});

t.test('a signer gives DER signatures that its public key verifies, and none after it is closed', async (t) => {
  const signer = localSigner(generateKeyPair().privateKey);
  const data = random.bytes(100);
  const key = createPublicKey({ key: Buffer.from(signer.publicKey), format: 'der', type: 'spki' });
  t.ok(verify('sha256', data, { key, dsaEncoding: 'der' }, await signer.sign(data)));
  await signer.close();
  await signer.close();
  await t.rejects(signer.sign(data), { code: 'handle_closed' });
});

t.test('a request proves the key and carries nothing else that counts', async (t) => {
  const { privateKey, publicKey } = generateKeyPair();
  t.same(await parseCsr(createCsr(privateKey)), { publicKey });
  t.same(await parseCsr(createCsr(privateKey, 'spiffe://other/site/x/node/tower')), { publicKey });
});

t.test('a request that is altered, oversized, of another key kind or not a request is refused', async (t) => {
  const { privateKey } = generateKeyPair();
  const good = createCsr(privateKey, 'hint');
  const refused = (der: Uint8Array, why: RegExp) => t.rejects(parseCsr(der), { code: 'csr_invalid', message: why });
  await refused(new Uint8Array(limits.csr_bytes_max + 1), /at most 4096/);
  await refused(new Uint8Array(0), /not a PKCS#10/);
  await refused(Uint8Array.of(...good, 0), /not a PKCS#10/);
  const request = AsnConvert.parse(good, CertificationRequest);
  request.certificationRequestInfo.subjectPKInfo = AsnConvert.parse(
    createCsr(generateKeyPair().privateKey),
    CertificationRequest,
  ).certificationRequestInfo.subjectPKInfo;
  await refused(encodeDer(request), /signature does not match/);
  const p384 = new Uint8Array(generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).publicKey.export({ type: 'spki', format: 'der' }));
  t.match(p256Objection(p384), /P-256/);
  t.match(p256Objection(offCurve(generateKeyPair().publicKey)), /not a point/);
});

function offCurve(publicKey: Uint8Array): Uint8Array {
  const point = publicKey.slice();
  point.fill(0xff, -32);
  return point;
}

t.test('a fingerprint prints as sha256:HEX, and only that form is read', async (t) => {
  const bytes = fingerprint(new TextEncoder().encode('abc'));
  const text = formatFingerprint(bytes);
  t.equal(text, 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  t.same(parseFingerprint(text), bytes);
  t.same(parseFingerprint(`sha256:${text.slice(7).toUpperCase()}`), bytes);
  for (const wrong of ['', 'sha256:', text.slice(7), `${text}0`, `${text.slice(0, -2)}`, text.replace('b', 'g'), `${text}\n`])
    t.throws(() => parseFingerprint(wrong), { code: 'argument_invalid' });
});

t.test('a trust bundle survives its two encodings, and holds only self-signed P-256 authorities', async (t) => {
  const [first, second] = [forgeRoot(), forgeRoot({ name: 'second' })];
  const bundle = { version: 7, roots: [first.der, second.der] };
  t.same(decodeTrustBundle(encodeTrustBundle(bundle)), bundle);
  t.same(trustBundleFromJson(trustBundleToJson(bundle)), bundle);
  const refused = (json: unknown, why: RegExp) => t.throws(() => trustBundleFromJson(json), { code: 'document_invalid', message: why });
  const good = trustBundleToJson(bundle);
  const withRoot = (der: Uint8Array) => trustBundleToJson({ version: 1, roots: [der] });
  const intermediate = forgeIntermediate(first);
  refused(null, /missing/);
  refused({ ...good, version: 0 }, /version/);
  refused({ ...good, version: 1.5 }, /version/);
  refused({ ...good, version: '7' }, /version/);
  refused({ ...good, roots: [] }, /1 to 8 roots/);
  refused({ ...good, roots: Array(9).fill(good.roots[0]) }, /1 to 8 roots/);
  refused({ ...good, roots: ['!'] }, /base64/);
  refused(withRoot(intermediate.der), /not signed by itself/);
  refused(withRoot(forgeLeaf(intermediate).der), /not a CA/);
  refused(withRoot(Uint8Array.of(...first.der, 0)), /follow|not a certificate/);
  refused(withRoot(new Uint8Array(8)), /not a certificate/);
  t.throws(() => decodeTrustBundle(new Uint8Array(limits.trust_bundle_bytes_max + 1)), { code: 'document_invalid' });
  t.throws(() => decodeTrustBundle(new TextEncoder().encode('{')), { code: 'document_invalid', message: /not JSON/ });
});
