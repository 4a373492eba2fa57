/** The suite that every `Signer` passes. An implementation's test hands over how to open its key, and how to take it away and give it back. */
import { createPublicKey, randomBytes, verify, X509Certificate } from 'node:crypto';
import type { Test } from 'tap';
import { issueCrl, openCrl } from '../../src/identity/crl.ts';
import { createAuthority, issueChain } from '../../src/identity/authority.ts';
import { issueIntermediate, issueRoot } from '../../src/identity/ca.ts';
import { generateKeyPair, p256Objection } from '../../src/identity/keys.ts';
import { openDocument, signDocument } from '../../src/identity/signed-document.ts';
import type { Signer } from '../../src/identity/signer.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { systemRandom as random } from '../../src/transport/system.ts';

export interface SignerMaker {
  /** A key that the test owns; the same one again by `open`. */
  make(t: Test): Promise<{ readonly signer: Signer; open(): Promise<Signer> }>;
}

const now_ms = Date.now();
const DAY_MS = 86_400_000;

export function signerCompliance(t: Test, name: string, maker: SignerMaker): void {
  const check = (signer: Signer, data: Uint8Array, signature: Uint8Array): boolean =>
    verify('sha256', data, { key: createPublicKey({ key: Buffer.from(signer.publicKey), format: 'der', type: 'spki' }), dsaEncoding: 'der' }, signature);

  t.test(`${name}: signatures are DER, of P-256 and SHA-256, and match the public key, whatever is signed and how many at once`, async (t) => {
    const { signer } = await maker.make(t);
    t.equal(signer.algorithm, 'ES256');
    t.equal(p256Objection(signer.publicKey), null);
    const data = [0, 1, 31, 32, 33, 1_000, 100_000].map((length) => new Uint8Array(randomBytes(length)));
    const signatures = await Promise.all(data.map((bytes) => signer.sign(bytes)));
    for (const [index, bytes] of data.entries()) t.ok(check(signer, bytes, signatures[index] ?? new Uint8Array()), `${bytes.length} octets`);
    await signer.close();
  });

  t.test(`${name}: what is closed signs no more, closing twice is closing once, and the key is there when it is opened again`, async (t) => {
    const { signer, open } = await maker.make(t);
    await signer.sign(new Uint8Array(1));
    await signer.close();
    await signer.close();
    await t.rejects(signer.sign(new Uint8Array(1)), { code: 'handle_closed' });
    const again = await open();
    t.same(again.publicKey, signer.publicKey);
    t.ok(check(signer, new Uint8Array(7), await again.sign(new Uint8Array(7))));
    await again.close();
  });

  t.test(`${name}: as root and as intermediate it issues what every check accepts: leaves, documents, revocation lists`, async (t) => {
    const [{ signer: rootSigner }, { signer }] = [await maker.make(t), await maker.make(t)];
    const issuing = { now_ms, random };
    const root = await issueRoot({ cluster: 'c1', signer: rootSigner, ...issuing });
    const intermediate = await issueIntermediate({ cluster: 'c1', publicKey: signer.publicKey, issuer: root, signer: rootSigner, ...issuing });
    t.ok(new X509Certificate(intermediate).verify(new X509Certificate(root).publicKey));
    const identity = { cluster: 'c1', site: 's1', node: '0123456789ab' };
    const chain = await issueChain({ intermediate, signer }, { identity, publicKey: generateKeyPair().publicKey, ...issuing });
    t.same(verifyPeer({ chain, roots: [root], cluster: 'c1', now_ms, usage: 'client' }).identity, identity);
    const document = await signDocument('snapshot', new Uint8Array(5), { signer, intermediate });
    t.same(openDocument('snapshot', document, { roots: [root], now_ms, payload_bytes_max: 5 }), new Uint8Array(5));
    const list = await issueCrl({ issuer: intermediate, signer, revoked: [{ serial: '4a', at_ms: now_ms }], number: 1, now_ms, life_ms: DAY_MS });
    t.equal(openCrl(list, { issuer: intermediate, now_ms }).isRevoked('4a'), true);
    await Promise.all([rootSigner.close(), signer.close()]);
  });
}

/** An authority whose keys are where these places say: made, sealed, opened again, and signing. */
export async function authorityAt(t: Test, rootSigner: string, intermediateSigner: string): Promise<void> {
  const secrets = new Map<string, Uint8Array>();
  const store = {
    get: (key: string) => secrets.get(key) ?? null,
    update: async (changes: Readonly<Record<string, Uint8Array | null>>) => {
      for (const [key, value] of Object.entries(changes)) value === null ? secrets.delete(key) : secrets.set(key, value);
    },
  };
  const made = await createAuthority({ cluster: 'c1', store, now_ms, random, rootSigner, intermediateSigner });
  await made.signer.close();
  t.same([...secrets.keys()].sort(), ['ca/intermediate.crt', 'ca/intermediate.place', 'ca/root.crt', 'ca/root.place'], 'no key is sealed here');
  const { openAuthority, renewIntermediate } = await import('../../src/identity/authority.ts');
  const opened = openAuthority(store);
  const identity = { cluster: 'c1', site: 's1', node: '0123456789ab' };
  const issue = (authority: typeof opened) => issueChain(authority, { identity, publicKey: generateKeyPair().publicKey, now_ms, random });
  const accepted = (chain: readonly Uint8Array[]) => verifyPeer({ chain, roots: [made.root], cluster: 'c1', now_ms, usage: 'server' }).identity;
  const before = await issue(opened);
  t.same(accepted(before), identity);
  await opened.signer.close();
  const renewed = await renewIntermediate(store, { cluster: 'c1', now_ms, random });
  t.same(accepted(await issue(renewed)), identity);
  t.same(accepted(before), identity, 'what was issued before stays good');
  await renewed.signer.close();
}
