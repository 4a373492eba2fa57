/** A signed document opens for whoever has the roots, and for nobody once a bit of it changed. */
import { KeyUsageFlags } from '@peculiar/asn1-x509';
import t from 'tap';
import { type Authority, createAuthority, issueChain } from '../../../src/identity/authority.ts';
import { fromBase64, toBase64 } from '../../../src/identity/base64.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { openDocument, type SignedDocument, signDocument } from '../../../src/identity/signed-document.ts';
import { localSigner } from '../../../src/identity/signer.ts';
import { systemRandom as random } from '../../../src/transport/system.ts';
import { basicConstraints, DAY_MS, type Forged, forgeIntermediate, forgeLeaf, forgeRoot, keyUsage, NODE, NOW_MS as now_ms } from './forge.ts';

const payload = new TextEncoder().encode('{"version":1}');
const authority: Authority = await createAuthority({ cluster: 'c1', now_ms, random });
const open = { roots: [authority.root], now_ms, payload_bytes_max: 1024 };
const good = await signDocument('snapshot', payload, authority);

function refused(test: Pick<typeof t, 'throws'>, envelope: unknown, why: RegExp, more: Partial<typeof open> = {}): void {
  test.throws(() => openDocument('snapshot', envelope, { ...open, ...more }), { code: 'document_invalid', message: why }, String(why));
}

const flip = (text: string): string => {
  const bytes = fromBase64(text, 8192) ?? new Uint8Array();
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
  return toBase64(bytes);
};

t.test('a document opens against the roots, also after it went through JSON', async (t) => {
  t.same(openDocument('snapshot', good, open), payload);
  t.same(openDocument('snapshot', JSON.parse(JSON.stringify(good)), { ...open, roots: [forgeRoot().der, authority.root] }), payload);
});

t.test('a changed payload, signature or signer is refused, and so is a document of another kind', async (t) => {
  refused(t, { ...good, payload: flip(good.payload) }, /signature does not match/);
  refused(t, { ...good, signature: flip(good.signature) }, /signature does not match/);
  refused(t, { ...good, chain: good.chain.map(flip) }, /trusted root|not a certificate/);
  t.throws(() => openDocument('trust-bundle', good, open), { code: 'document_invalid', message: /signature does not match/ });
});

t.test('a signer of another root, expired, early, or not an intermediate is refused', async (t) => {
  refused(t, good, /trusted root/, { roots: [forgeRoot().der] });
  refused(t, good, /expired/, { now_ms: now_ms + 731 * DAY_MS });
  refused(t, good, /not valid before/, { now_ms: now_ms - DAY_MS });
  const [leaf = new Uint8Array()] = await issueChain(authority, {
    identity: { cluster: 'c1', site: 's1', node: NODE },
    publicKey: generateKeyPair().publicKey,
    now_ms,
    random,
  });
  refused(t, { ...good, chain: [toBase64(leaf)] }, /trusted root/);
  const root = forgeRoot();
  const byForged = async (signing: Forged): Promise<SignedDocument> =>
    signDocument('snapshot', payload, {
      signer: localSigner(new Uint8Array(signing.keys.privateKey.export({ type: 'pkcs8', format: 'der' }))),
      intermediate: signing.der,
    });
  t.same(openDocument('snapshot', await byForged(forgeIntermediate(root)), { ...open, roots: [root.der] }), payload);
  refused(t, await byForged(forgeLeaf(root)), /not the cluster’s intermediate/, { roots: [root.der] });
  const usage = keyUsage(KeyUsageFlags.digitalSignature);
  refused(t, await byForged(forgeIntermediate(root, { extensions: [basicConstraints(true, 0), usage] })), /./, { roots: [root.der] });
  refused(t, await byForged(forgeIntermediate({ ...root, keys: forgeRoot().keys })), /trusted root/, { roots: [root.der] });
});

t.test('an envelope of another form or beyond its bounds is refused before anything is checked', async (t) => {
  refused(t, null, /missing/);
  refused(t, [], /missing/);
  refused(t, { payload: '', signature: '' }, /missing/);
  refused(t, { ...good, payload: 1 }, /payload/);
  refused(t, { ...good, payload: `${good.payload}=` }, /payload/);
  refused(t, { ...good, payload: toBase64(new Uint8Array(1025)) }, /at most 1024/);
  refused(t, { ...good, signature: toBase64(new Uint8Array(73)) }, /signature/);
  refused(t, { ...good, chain: [] }, /one intermediate/);
  refused(t, { ...good, chain: [...good.chain, ...good.chain] }, /one intermediate/);
  refused(t, { ...good, chain: 'x' }, /one intermediate/);
  refused(t, { ...good, chain: [toBase64(new Uint8Array(9000))] }, /base64/);
  refused(t, { ...good, chain: [toBase64(new Uint8Array(9))] }, /not a certificate/);
});
