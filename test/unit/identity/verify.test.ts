/** The one decision on a presented chain: everything that is not exactly this peer's is refused, with the right code and a sentence. */
import { KeyUsageFlags } from '@peculiar/asn1-x509';
import t from 'tap';
import { type ErrorCode, SelvedgeError } from '../../../src/base/errors.ts';
import { TOWER_ID } from '../../../src/base/ids.ts';
import { limits } from '../../../src/base/limits.ts';
import { createAuthority, issueChain } from '../../../src/identity/authority.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { keyPurposeOids, leafObjection } from '../../../src/identity/profile.ts';
import { type VerifyInput, verifyPeer } from '../../../src/identity/verify.ts';
import { verifyChain } from '../../../src/native.ts';
import { systemRandom } from '../../../src/transport/system.ts';
import * as f from './forge.ts';

const root = f.forgeRoot();
const intermediate = f.forgeIntermediate(root);
const leaf = f.forgeLeaf(intermediate);
const other = f.forgeRoot({ name: 'other root' });
const otherIntermediate = f.forgeIntermediate(other, { name: 'other intermediate' });

const input = (chain: readonly Uint8Array[], more: Partial<VerifyInput> = {}): VerifyInput => ({
  chain,
  roots: [root.der],
  cluster: f.CLUSTER,
  now_ms: f.NOW_MS,
  usage: 'client',
  ...more,
});
const of = (...certificates: f.Forged[]): Uint8Array[] => certificates.map(({ der }) => der);

function refusal(run: () => unknown): SelvedgeError {
  try {
    run();
  } catch (error) {
    if (error instanceof SelvedgeError) return error;
    throw error;
  }
  throw new Error('accepted');
}

function refused(test: Pick<typeof t, 'equal' | 'match'>, chain: readonly Uint8Array[], code: ErrorCode, why: RegExp, more: Partial<VerifyInput> = {}): void {
  const error = refusal(() => verifyPeer(input(chain, more)));
  test.equal(error.code, code);
  test.match(error.message, why);
}

t.test('a chain of this cluster is accepted, as client and as server, with or without its root', async (t) => {
  for (const usage of ['client', 'server'] as const) {
    for (const chain of [of(leaf, intermediate), of(leaf, intermediate, root)]) {
      const peer = verifyPeer(input(chain, { usage, expectedNode: f.NODE, expectedSite: 's1' }));
      t.same(peer.identity, { cluster: f.CLUSTER, site: 's1', node: f.NODE });
      t.same(peer.fingerprint, fingerprint(leaf.der));
      t.equal(peer.spkiHash.length, 32);
      t.equal(peer.notAfter_ms, f.NOW_MS + 30 * f.DAY_MS);
      t.match(peer.serial, /^40[0-9a-f]{30}$/);
    }
  }
});

t.test('what our own authority issues is accepted, for a node and for the tower', async (t) => {
  const authority = await createAuthority({ cluster: 'c9', now_ms: f.NOW_MS, random: systemRandom });
  for (const [site, node] of [
    ['s1', f.NODE],
    ['tower', TOWER_ID],
  ] as const) {
    const chain = await issueChain(authority, {
      identity: { cluster: 'c9', site, node },
      publicKey: generateKeyPair().publicKey,
      now_ms: f.NOW_MS,
      random: systemRandom,
    });
    for (const now_ms of [f.NOW_MS - 299_000, f.NOW_MS, f.NOW_MS + 29.9 * f.DAY_MS]) {
      const peer = verifyPeer({ chain, roots: [root.der, authority.root], cluster: 'c9', now_ms, usage: 'server', expectedNode: node });
      t.same(peer.identity, { cluster: 'c9', site, node });
    }
    refused(t, chain, 'certificate_invalid', /not valid before .* one of the two clocks is wrong/, {
      roots: [authority.root],
      cluster: 'c9',
      now_ms: f.NOW_MS - 301_000,
    });
    refused(t, chain, 'certificate_invalid', /expired at/, { roots: [authority.root], cluster: 'c9', now_ms: f.NOW_MS + 30.1 * f.DAY_MS });
  }
});

t.test('a chain of another root is refused, and its cluster is named when it says another', async (t) => {
  refused(t, of(f.forgeLeaf(otherIntermediate), otherIntermediate), 'certificate_invalid', /does not lead to a trusted root/);
  refused(t, of(f.forgeLeaf(otherIntermediate), otherIntermediate, other), 'certificate_invalid', /does not lead to a trusted root/);
  const foreign = f.forgeLeaf(otherIntermediate, { names: f.names({ uniformResourceIdentifier: `spiffe://c2/site/s1/node/${f.NODE}` }) });
  refused(t, of(foreign, otherIntermediate), 'wrong_cluster', /cluster c2, expected c1/);
});

t.test('a trusted signature does not make up for another cluster in the name', async (t) => {
  const foreign = f.forgeLeaf(intermediate, { names: f.names({ uniformResourceIdentifier: `spiffe://c2/site/s1/node/${f.NODE}` }) });
  refused(t, of(foreign, intermediate), 'wrong_cluster', /cluster c2, expected c1/);
});

t.test('another node or another site than expected is refused', async (t) => {
  refused(t, of(leaf, intermediate), 'wrong_node', /node 0123456789ab, expected aaaaaaaaaaaa/, { expectedNode: 'aaaaaaaaaaaa' });
  refused(t, of(leaf, intermediate), 'wrong_node', /of site s1, expected one of site s2/, { expectedSite: 's2' });
});

t.test('no other certificate of the chain can lend the leaf its name', async (t) => {
  const named = f.forgeIntermediate(root, {
    extensions: [f.basicConstraints(true, 0), f.authorityUsage, f.names({ uniformResourceIdentifier: 'spiffe://c1/site/s1/node/aaaaaaaaaaaa' })],
  });
  refused(t, of(f.forgeLeaf(named), named), 'wrong_node', /node 0123456789ab/, { expectedNode: 'aaaaaaaaaaaa' });
  const wanted = f.forgeLeaf(intermediate, { names: f.names({ uniformResourceIdentifier: 'spiffe://c1/site/s1/node/aaaaaaaaaaaa' }) });
  refused(t, of(leaf, intermediate, wanted), 'certificate_invalid', /not of its path/, { expectedNode: 'aaaaaaaaaaaa' });
});

t.test('expired and not yet valid are refused, with both times and a word on the clock', async (t) => {
  refused(
    t,
    of(f.forgeLeaf(intermediate, {}, { notAfter_ms: f.NOW_MS - 60_000 }), intermediate),
    'certificate_invalid',
    /expired at 2026-11-22T11:59:00Z, this host's clock says 2026-11-22T12:00:00Z/,
  );
  refused(
    t,
    of(f.forgeLeaf(intermediate, {}, { notBefore_ms: f.NOW_MS + 60_000 }), intermediate),
    'certificate_invalid',
    /not valid before 2026-11-22T12:01:00Z.*clock/,
  );
  const old = f.forgeIntermediate(root, { notAfter_ms: f.NOW_MS - 60_000 });
  refused(t, of(f.forgeLeaf(old), old), 'certificate_invalid', /expired/);
  const early = f.forgeIntermediate(root, { notBefore_ms: f.NOW_MS + 60_000 });
  refused(t, of(f.forgeLeaf(early), early), 'certificate_invalid', /not valid before/);
  refused(t, of(leaf, intermediate), 'certificate_invalid', /expired at/, { now_ms: f.NOW_MS + 365 * f.DAY_MS });
  for (const now_ms of [Number.NaN, Number.POSITIVE_INFINITY, -1]) refused(t, of(leaf, intermediate), 'certificate_invalid', /./, { now_ms });
});

t.test('a leaf that is a CA, or signs as one, is refused', async (t) => {
  refused(t, of(f.forgeLeaf(intermediate, { constraints: f.basicConstraints(true) }), intermediate), 'certificate_invalid', /CA certificate/);
  refused(t, of(f.forgeLeaf(leaf), leaf, intermediate), 'certificate_invalid', /./);
  refused(t, of(intermediate), 'certificate_invalid', /CA certificate/);
  refused(t, of(root), 'certificate_invalid', /CA certificate/);
});

t.test('exactly one URI of exactly our form is the only name accepted', async (t) => {
  const uri = { uniformResourceIdentifier: f.URI };
  const wrong: [Parameters<typeof f.names>, RegExp][] = [
    [[], /./],
    [[uri, uri], /2 URI names/],
    [[uri, { uniformResourceIdentifier: 'spiffe://c1/site/s1/node/aaaaaaaaaaaa' }], /2 URI names/],
    [[uri, { dNSName: 'c1.example' }], /1 of other kinds/],
    [[uri, { rfc822Name: 'a@c1.example' }], /1 of other kinds/],
    [[uri, { iPAddress: '10.0.0.1' }], /1 of other kinds/],
    [[{ dNSName: 'c1.example' }], /0 URI names/],
    [[{ uniformResourceIdentifier: 'https://c1/' }], /not of the form/],
    [[{ uniformResourceIdentifier: `${f.URI}/` }], /not of the form/],
    [[{ uniformResourceIdentifier: `${f.URI}?a` }], /not of the form/],
    [[{ uniformResourceIdentifier: f.URI.toUpperCase() }], /not of the form/],
    [[{ uniformResourceIdentifier: 'spiffe://c1/site/s1/node/tower' }], /puts node tower at site s1/],
    [[{ uniformResourceIdentifier: `spiffe://c1/site/tower/node/${f.NODE}` }], /puts node 0123456789ab at site tower/],
  ];
  for (const [names, why] of wrong) refused(t, of(f.forgeLeaf(intermediate, { names: f.names(...names) }), intermediate), 'certificate_invalid', why);
  refused(t, of(f.forgeLeaf(intermediate, { names: null }), intermediate), 'certificate_invalid', /0 URI names/);
});

t.test('a key usage or extended key usage other than ours is refused', async (t) => {
  const { clientAuth, serverAuth } = keyPurposeOids;
  const wrong: [f.LeafParts, RegExp][] = [
    [{ usage: null }, /key usage/],
    [{ usage: f.keyUsage(KeyUsageFlags.digitalSignature, false) }, /not critical/],
    [{ usage: f.keyUsage(KeyUsageFlags.keyAgreement) }, /key usage/],
    [{ usage: f.keyUsage(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyCertSign) }, /key usage/],
    [{ purposes: null }, /extended key usage/],
    [{ purposes: f.purposes(clientAuth) }, /extended key usage/],
    [{ purposes: f.purposes(serverAuth) }, /extended key usage/],
    [{ purposes: f.purposes('2.5.29.37.0') }, /extended key usage/],
    [{ purposes: f.purposes('1.3.6.1.5.5.7.3.3') }, /extended key usage/],
    [{ purposes: f.purposes(clientAuth, serverAuth, '1.3.6.1.5.5.7.3.3') }, /extended key usage/],
    [{ purposes: f.purposes(clientAuth, clientAuth) }, /extended key usage/],
  ];
  for (const [parts, why] of wrong) refused(t, of(f.forgeLeaf(intermediate, parts), intermediate), 'certificate_invalid', why);
});

t.test('any key but ECDSA P-256, anywhere in the path, is refused', async (t) => {
  for (const keys of [f.ecKeys('secp384r1'), f.ecKeys('secp521r1'), f.ecKeys('secp256k1'), f.rsaKeys()]) {
    refused(t, of(f.forgeLeaf(intermediate, {}, { keys }), intermediate), 'certificate_invalid', /P-256/);
    const weak = f.forgeIntermediate(root, { keys });
    refused(t, of(f.forgeLeaf(weak), weak), 'certificate_invalid', /./);
  }
  refused(t, of(f.forgeLeaf(intermediate, {}, { hash: 'sha384' }), intermediate), 'certificate_invalid', /ECDSA/);
});

t.test('an extension outside the profile is refused, critical or not', async (t) => {
  const bytes = Uint8Array.of(5, 0);
  refused(
    t,
    of(f.forgeLeaf(intermediate, { more: [f.rawExtension('1.3.6.1.4.1.99999.1', true, bytes)] }), intermediate),
    'certificate_invalid',
    /critical extension is unknown/,
  );
  refused(
    t,
    of(f.forgeLeaf(intermediate, { more: [f.rawExtension('1.3.6.1.4.1.99999.1', false, bytes)] }), intermediate),
    'certificate_invalid',
    /1\.3\.6\.1\.4\.1\.99999\.1/,
  );
  refused(t, of(f.forgeLeaf(intermediate, { more: [f.names({ uniformResourceIdentifier: f.URI })] }), intermediate), 'certificate_invalid', /./);
  const strange = f.forgeIntermediate(root, {
    extensions: [f.basicConstraints(true, 0), f.authorityUsage, f.rawExtension('1.3.6.1.4.1.99999.1', false, bytes)],
  });
  refused(t, of(f.forgeLeaf(strange), strange), 'certificate_invalid', /issuer is refused/);
});

t.test('an intermediate that may not sign certificates is refused', async (t) => {
  const wrong: [Parameters<typeof f.forgeIntermediate>[1], RegExp][] = [
    [{ extensions: [f.basicConstraints(true, 0)] }, /keyCertSign/],
    [{ extensions: [f.basicConstraints(true, 0), f.keyUsage(KeyUsageFlags.digitalSignature)] }, /keyCertSign/],
    [{ extensions: [f.basicConstraints(false), f.authorityUsage] }, /./],
    [{ extensions: [f.authorityUsage] }, /./],
  ];
  for (const [shape, why] of wrong) {
    const broken = f.forgeIntermediate(root, shape);
    refused(t, of(f.forgeLeaf(broken), broken), 'certificate_invalid', why);
    refused(t, of(f.forgeLeaf(broken), broken), 'certificate_invalid', why);
  }
});

t.test('a path of another length than root, intermediate, leaf is refused', async (t) => {
  const below = f.forgeIntermediate(intermediate, { name: 'below' });
  refused(t, of(f.forgeLeaf(below), below, intermediate), 'certificate_invalid', /./);
  const wide = f.forgeIntermediate(root, { name: 'wide', extensions: [f.basicConstraints(true), f.authorityUsage] });
  const underWide = f.forgeIntermediate(wide, { name: 'under wide' });
  refused(t, of(f.forgeLeaf(underWide), underWide, wide), 'certificate_invalid', /path to the root has 4/);
  const fromRoot = f.forgeLeaf(root);
  refused(t, of(fromRoot), 'certificate_invalid', /path to the root has 2/);
  refused(t, of(fromRoot, intermediate), 'certificate_invalid', /path to the root has 2/);
});

t.test('a chain without its intermediate, or with anything beside its path, is refused', async (t) => {
  refused(t, of(leaf), 'certificate_invalid', /does not lead to a trusted root/);
  refused(t, of(leaf, root), 'certificate_invalid', /does not lead to a trusted root/);
  refused(t, of(leaf, otherIntermediate), 'certificate_invalid', /does not lead to a trusted root/);
  refused(t, of(leaf, intermediate, intermediate), 'certificate_invalid', /not of its path/);
  refused(t, of(leaf, leaf, intermediate), 'certificate_invalid', /not of its path/);
  refused(t, of(leaf, intermediate, root, root), 'certificate_invalid', /not of its path/);
  const crossed = f.forgeIntermediate(other, { name: intermediate.name, keys: intermediate.keys });
  refused(t, of(leaf, intermediate, crossed), 'certificate_invalid', /not of its path/);
  refused(t, of(leaf, crossed, intermediate), 'certificate_invalid', /not of its path/);
  refused(t, of(leaf, crossed), 'certificate_invalid', /does not lead to a trusted root/);
});

t.test('a cross-signed intermediate is accepted only under a root of the bundle', async (t) => {
  const crossed = f.forgeIntermediate(other, { name: intermediate.name, keys: intermediate.keys });
  t.same(verifyPeer(input(of(leaf, crossed), { roots: [root.der, other.der] })).identity.node, f.NODE);
});

t.test('a forged signature is refused at every place of the path', async (t) => {
  const impostor = f.forgeIntermediate({ ...root, keys: f.ecKeys() });
  refused(t, of(f.forgeLeaf(impostor), impostor), 'certificate_invalid', /./);
  refused(t, of(f.forgeLeaf({ ...intermediate, keys: f.ecKeys() }), intermediate), 'certificate_invalid', /./);
});

t.test('an empty, too long, oversized or garbage chain is refused', async (t) => {
  refused(t, [], 'certificate_invalid', /0 certificates/);
  refused(t, of(leaf, intermediate, root, root, root), 'certificate_invalid', /5 certificates/);
  refused(
    t,
    Array.from({ length: 10_000 }, () => leaf.der),
    'certificate_invalid',
    /10000 certificates/,
  );
  refused(t, [new Uint8Array(limits.certificate_bytes_max + 1), intermediate.der], 'certificate_invalid', /octets/);
  refused(t, [leaf.der, new Uint8Array(64 * 1024 * 1024)], 'certificate_invalid', /octets/);
  refused(t, [new Uint8Array(0), intermediate.der], 'certificate_invalid', /./);
  refused(t, [new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n'), intermediate.der], 'certificate_invalid', /./);
  refused(t, [Uint8Array.of(...leaf.der, 0), intermediate.der], 'certificate_invalid', /./);
  refused(t, [leaf.der.slice(0, -1), intermediate.der], 'certificate_invalid', /./);
  refused(t, [leaf.der, Uint8Array.of(0x30, 0x80)], 'certificate_invalid', /./);
});

t.test('the recorded fingerprint decides last: revoked, unknown and replaced certificates are refused', async (t) => {
  const chain = of(leaf, intermediate);
  refused(t, chain, 'certificate_revoked', /was revoked/, { recordedFingerprint: () => 'revoked' });
  refused(t, chain, 'peer_disabled', /is disabled/, { recordedFingerprint: () => 'disabled' });
  refused(t, chain, 'certificate_revoked', /no such node/, { recordedFingerprint: () => 'unknown' });
  refused(t, chain, 'certificate_revoked', /recorded is sha256:0000/, { recordedFingerprint: () => new Uint8Array(32) });
  refused(t, chain, 'certificate_revoked', /./, { recordedFingerprint: () => new Uint8Array(0) });
  refused(t, chain, 'wrong_node', /./, { expectedNode: 'aaaaaaaaaaaa', recordedFingerprint: () => 'revoked' });
  t.ok(verifyPeer(input(chain, { recordedFingerprint: () => 'any' })));
  t.ok(verifyPeer(input(chain, { recordedFingerprint: (id) => (id.node === f.NODE ? fingerprint(leaf.der) : 'unknown') })));
});

t.test('the profile refuses by itself what the path check would have refused before it', async (t) => {
  const facts = verifyChain(input(of(leaf, intermediate)));
  t.equal(leafObjection(facts), null);
  t.match(leafObjection({ ...facts, isCa: true }), /CA certificate/);
  t.match(leafObjection({ ...facts, version: 1 }), /version 1/);
  t.match(leafObjection({ ...facts, signatureAlgorithm: '1.2.840.113549.1.1.11' }), /ECDSA/);
  t.match(leafObjection({ ...facts, keyAlgorithm: '1.2.840.113549.1.1.1' }), /P-256/);
});

t.test('without a usable trust bundle nothing is accepted', async (t) => {
  refused(t, of(leaf, intermediate), 'certificate_invalid', /0 roots/, { roots: [] });
  refused(t, of(leaf, intermediate), 'certificate_invalid', /root/, { roots: [new Uint8Array(10)] });
  refused(t, of(leaf, intermediate), 'certificate_invalid', /does not lead/, { roots: [other.der] });
});
