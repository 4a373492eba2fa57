/** The kinds of proof that need nothing but the tower, each by the suite of all, and what is each one's own. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Certificate } from '@peculiar/asn1-x509';
import t, { type Test } from 'tap';
import type { Grant, HostFacts, ProofRecords } from '../../src/enroll/proof.ts';
import { fingerprintMaker } from '../../src/enroll/proofs/fingerprint.ts';
import { hostIdMaker } from '../../src/enroll/proofs/host-id.ts';
import { tokenMaker } from '../../src/enroll/proofs/token.ts';
import { x509Maker, x509Proof } from '../../src/enroll/proofs/x509.ts';
import { createCsr } from '../../src/identity/csr.ts';
import { decodeDer, encodeDer, toArrayBuffer } from '../../src/identity/der.ts';
import { generateKeyPair, type KeyPair } from '../../src/identity/keys.ts';
import { verifyOperator } from '../../src/identity/verify-operator.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { systemClock } from '../../src/transport/system.ts';
import type { CallHomeRequest } from '../../src/tower/enrolling/granting.ts';
import type { Tower } from '../../src/tower/tower.ts';
import { makeSystemCa } from '../fixtures/system-ca.ts';
import { makeTower, shiftedClock } from '../unit/tower/support.ts';
import { allow, judge, PEER, proofCompliance, requestOf, SITE } from './proof.ts';
import { freshDirectory, rejectsWith } from './store.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(300_000);

const HOUR_MS = 3_600_000;
const usesOf = async (tower: Tower, kind: 'token' | 'host-id' | 'x509', id: string) =>
  (await tower.grants.page(kind, { after: null, limit: 100 })).find((row) => row.id === id)?.uses ?? -1;
const keyOf = ({ privateKey }: KeyPair) => createPrivateKey({ key: Buffer.from(privateKey), format: 'der', type: 'pkcs8' });
const flip = (text: unknown) => (String(text).startsWith('M') ? 'N' : 'M') + String(text).slice(1);

proofCompliance(t, {
  kind: 'token',
  async make(_t, tower) {
    const { text, token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: SITE });
    const other = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: 'south' });
    return { maker: tokenMaker(text), other: tokenMaker(other.text), revoke: () => tower.revokeToken(token.id), uses: () => usesOf(tower, 'token', token.id) };
  },
  forgeries: {
    'one with another secret': [({ token }) => ({ token: `${String(token).slice(0, 30)}${flip(String(token).slice(30))}` }), 'token_invalid'],
    'an unknown one': [({ token }) => ({ token: `svt_000000000000_${String(token).split('_')[2]}` }), 'token_invalid'],
    'no token at all': [() => ({ token: 'svt_' }), 'token_invalid'],
    'more than a token': [({ token }) => ({ token, site: 'south' }), 'request_invalid'],
  },
  codes: { expired: 'token_expired', revoked: 'token_revoked', exhausted: 'token_exhausted', other: 'token_invalid', nodeRevoked: 'token_exhausted' },
});

proofCompliance(t, {
  kind: 'host-id',
  async make(_t, tower) {
    await tower.hosts.add({ kind: 'host-id', id: 'SN-0042', site: SITE, name: 'till-42', life_ms: HOUR_MS }, 'test');
    await tower.hosts.add({ kind: 'host-id', id: 'sn-0043', site: 'south' }, 'test');
    return {
      maker: hostIdMaker('sn-0042'),
      other: hostIdMaker('SN-0043'),
      revoke: () => tower.hosts.remove('host-id', 'SN-0042', null, 'test'),
      uses: () => usesOf(tower, 'host-id', 'sn-0042'),
    };
  },
  forgeries: {
    'an id that nobody registered': [() => ({ host: 'sn-9999' }), 'host_refused'],
    'an id that is none': [() => ({ host: 'ﬁ' }), 'request_invalid'],
    'an id with a path in it': [() => ({ host: '../../sn-0042' }), 'request_invalid'],
  },
  codes: { expired: 'host_refused', revoked: 'host_refused', exhausted: 'host_refused', other: 'host_refused', nodeRevoked: 'host_refused' },
  // Without a site, what is switched off is known only once the id was looked up.
  offUnnamed: 'host_refused',
});

async function callHome(tower: Tower, more: CallHomeRequest) {
  const key = generateKeyPair();
  const { grant, chain } = await tower.grants.issueCallHome(createCsr(key.privateKey), { days: 1, ...more }, 'test');
  return { id: grant.id, chain, key };
}

proofCompliance(t, {
  kind: 'x509',
  async make(_t, tower) {
    const { id, chain, key } = await callHome(tower, { host: 'SN-0042', site: SITE });
    const maker = x509Maker({ chain, key: keyOf(key) }, { host: 'sn-0042' });
    // The certificate itself is no secret: whoever has it lacks its key.
    const other = x509Maker({ chain, key: keyOf(generateKeyPair()) }, { host: 'sn-0042' });
    return { maker, other, revoke: () => tower.grants.revoke('x509', id, 'test'), uses: () => usesOf(tower, 'x509', id) };
  },
  forgeries: {
    'another signature': [(evidence) => ({ ...evidence, signature: flip(evidence.signature) }), 'proof_invalid'],
    'the host id of another': [(evidence) => ({ ...evidence, host: 'sn-0043' }), 'proof_invalid'],
    'no host id': [({ host: _host, ...evidence }) => evidence, 'proof_invalid'],
    'a chain without its issuer': [({ chain, ...evidence }) => ({ ...evidence, chain: (chain as string[]).slice(0, 1) }), 'proof_invalid'],
    'a chain upside down': [({ chain, ...evidence }) => ({ ...evidence, chain: (chain as string[]).toReversed() }), 'proof_invalid'],
    'a chain of fifty': [({ chain, ...evidence }) => ({ ...evidence, chain: Array.from({ length: 50 }, () => (chain as string[])[0]) }), 'request_invalid'],
    'bytes that are no certificate': [(evidence) => ({ ...evidence, chain: ['AAAA'] }), 'proof_invalid'],
  },
  // A certificate ends itself before its grant is asked.
  codes: { expired: null, revoked: 'proof_revoked', exhausted: 'proof_exhausted', other: 'proof_invalid', nodeRevoked: 'proof_exhausted' },
});

const facts = (seed: string): HostFacts => ({ machine: seed.repeat(64), macs: 'cd'.repeat(32), addresses: ['192.0.2.7', '2001:db8::7'] });

/** A node that enrolled by a token and told of its host. */
async function known(tower: Tower, name: string, host: HostFacts, { newKeys = true } = {}): Promise<{ id: string; key: KeyPair }> {
  const row = await tower.resources.get('site', SITE);
  await tower.resources.change('site', SITE, { ...row.spec, proofs: ['token'] }, null, 'test');
  const key = generateKeyPair();
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: SITE });
  const { request } = await requestOf(tower, tokenMaker(text), { name, key });
  const { node } = await tower.enroll({ ...request, facts: { ...host, addresses: [...host.addresses] } }, PEER);
  await tower.resources.change('site', SITE, { ...row.spec, fingerprint_certifies: newKeys }, null, 'test');
  return { id: node, key };
}

let returned = 0;
proofCompliance(t, {
  kind: 'fingerprint',
  async make(_t, tower) {
    returned = 0;
    const { id, key } = await known(tower, 'one', facts('a'));
    const before = (await tower.nodes()).find((row) => row.id === id)?.leaf;
    // A use is another leaf of the node.
    const uses = async () => {
      if ((await tower.nodes()).find((row) => row.id === id)?.leaf !== before) returned = 1;
      return returned;
    };
    return { maker: fingerprintMaker(facts('a')), other: fingerprintMaker(facts('b')), key, revoke: () => tower.revokeNode(id), uses };
  },
  forgeries: {
    'another signature': [(evidence) => ({ ...evidence, signature: flip(evidence.signature) }), 'proof_invalid'],
    'another machine under the signature': [
      ({ host, ...evidence }) => ({ ...evidence, host: { ...(host as HostFacts), machine: 'b'.repeat(64) } }),
      'proof_invalid',
    ],
    'facts that are none': [(evidence) => ({ ...evidence, host: { machine: 'x', macs: 'y', addresses: [] } }), 'request_invalid'],
  },
  // Returning has neither an end nor a limit; a node that was revoked does not return.
  codes: { expired: null, revoked: 'proof_revoked', exhausted: null, other: 'host_unknown', nodeRevoked: 'proof_revoked' },
});

async function world(t: Test) {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  await allow(tower, 'token', 'host-id', 'x509', 'fingerprint');
  return { clock, tower };
}

t.test('a token is bound to its purpose, its networks and its tenant', async (t) => {
  const { tower } = await world(t);
  await tower.resources.create('tenant', 'shop', {}, 'test');
  await rejectsWith(t, tower.createToken({ uses: 1, life_ms: HOUR_MS, tenant: 'nobody' }), 'not_found');
  await rejectsWith(t, tower.createToken({ uses: 1, life_ms: HOUR_MS, sources: ['192.0.2.1/24'] }), 'argument_invalid');
  const { text, token } = await tower.createToken({ uses: 9, life_ms: HOUR_MS, tenant: 'shop', sources: ['192.0.2.0/24', '2001:db8::/32'] });
  const from = async (peer: string, name: string) => await tower.enroll((await requestOf(tower, tokenMaker(text), { name })).request, peer);
  for (const peer of ['192.0.3.1', '::ffff:198.51.100.1', '2001:db9::1', '::1', '']) await rejectsWith(t, from(peer, 'out'), 'source_denied');
  t.equal(await usesOf(tower, 'token', token.id), 0);
  t.equal((await from('192.0.2.200', 'a')).tenant, 'shop');
  t.equal((await from('::ffff:192.0.2.9', 'b')).tenant, 'shop');
  t.equal((await from('2001:db8:1::9', 'c')).tenant, 'shop');
  const { text: early } = await tower.createToken({ uses: 1, life_ms: HOUR_MS, purpose: 'preflight' });
  await rejectsWith(t, tower.enroll((await requestOf(tower, tokenMaker(early))).request, PEER), 'token_invalid');
});

t.test('a host id gives its node the name that it was registered with, is never told apart from an unknown one, and can be registered anew', async (t) => {
  const { tower } = await world(t);
  await tower.hosts.add({ kind: 'host-id', id: 'SN-0042', site: SITE, name: 'till-42' }, 'test');
  await rejectsWith(t, tower.hosts.add({ kind: 'host-id', id: 'sn-0042' }, 'test'), 'grant_exists');
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  await rejectsWith(t, tower.enroll((await requestOf(tower, tokenMaker(text), { name: 'till-42' })).request, PEER), 'name_taken');
  const answer = await tower.enroll((await requestOf(tower, hostIdMaker('SN-0042'), { name: 'mine' })).request, PEER);
  t.equal(answer.name, 'till-42', 'and not the name that the host asked for');
  const refusals = await Promise.all(
    ['SN-0042', 'SN-0000'].map(
      async (id) => await tower.enroll((await requestOf(tower, hostIdMaker(id))).request, PEER).catch((error: Error) => error.message),
    ),
  );
  t.equal(refusals[0], refusals[1]);
  await tower.revokeNode(answer.node);
  await tower.hosts.remove('host-id', 'SN-0042', null, 'test');
  await tower.hosts.add({ kind: 'host-id', id: 'SN-0042', site: SITE, name: 'till-42' }, 'test');
  const again = await tower.enroll((await requestOf(tower, hostIdMaker('SN-0042'))).request, PEER);
  t.equal(again.name, 'till-42');
  t.not(again.node, answer.node);
  for (const bad of ['ab', 'a b', 'ä-1234', '../etc', 'x'.repeat(65), '-abc'])
    await rejectsWith(t, tower.hosts.add({ kind: 'host-id', id: bad }, 'test'), 'argument_invalid');
});

t.test('whoever tries host ids is told the same of every one, wherever and however it is registered; the reason is kept for the tower’s log', async (t) => {
  const { tower, clock } = await world(t);
  const { hosts } = tower;
  const add = (id: string, more: object = {}) => hosts.add({ kind: 'host-id', id, ...more }, 'test');
  await tower.resources.create('site', 'south', { proofs: ['token'] }, 'test');
  await add('sn-other-site', { site: 'south' });
  await add('sn-network', { site: SITE, sources: ['198.51.100.0/24'] });
  await add('sn-expired', { site: SITE, life_ms: HOUR_MS });
  await add('sn-free', { site: SITE });
  const { text } = await tower.createToken({ uses: 1, life_ms: 3 * HOUR_MS, site: SITE });
  await tower.enroll((await requestOf(tower, tokenMaker(text), { name: 'taken' })).request, PEER);
  clock.offset_ms = 2 * HOUR_MS;
  const refusalOf = async (id: string, { site = SITE, name = 'one' }: { site?: string | null; name?: string } = {}) => {
    const { request } = await requestOf(tower, hostIdMaker(id), { name });
    const { site: _site, ...unnamed } = request;
    return await tower.enroll(site === null ? unnamed : { ...request, site }, PEER).then(
      () => t.fail(`${id} was taken`),
      (error: Error) => error,
    );
  };
  const unknown = await refusalOf('sn-unknown');
  t.match(unknown, { code: 'host_refused', cause: undefined });
  for (const [id, code, asked] of [
    ['sn-other-site', 'proof_invalid', {}],
    ['sn-other-site', 'proof_disabled', { site: null }],
    ['sn-network', 'source_denied', {}],
    ['sn-expired', 'proof_expired', {}],
    ['sn-free', 'name_taken', { name: 'taken' }],
  ] as const) {
    const refusal = await refusalOf(id, asked);
    t.strictSame(JSON.stringify(refusal), JSON.stringify(unknown), `${id}: ${code}`);
    t.match(refusal, { cause: { code } });
  }
});

t.test('a call-home certificate is nobody’s for channels and API, and node and operator certificates call nobody home', async (t) => {
  const { tower } = await world(t);
  const { chain } = await callHome(tower, { host: 'sn-0042' });
  const seen = { chain, roots: tower.roots, cluster: 'alpha', now_ms: systemClock.wall() };
  t.throws(() => verifyPeer({ ...seen, usage: 'client', recordedFingerprint: () => 'any' }), { code: 'certificate_invalid' });
  await rejectsWith(t, verifyOperator({ ...seen, recordedFingerprint: async () => 'unknown' }), 'certificate_invalid');
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: SITE });
  const key = generateKeyPair();
  const node = await tower.enroll((await requestOf(tower, tokenMaker(text), { key })).request, PEER);
  const nodeChain = node.chain.map((one) => new Uint8Array(Buffer.from(one, 'base64')));
  await rejectsWith(
    t,
    tower.enroll((await requestOf(tower, x509Maker({ chain: nodeChain, key: keyOf(key) }), { name: 'two' })).request, PEER),
    'proof_invalid',
  );
});

t.test('the binding of a call-home certificate is held: to its site, its uses, and to what the site takes', async (t) => {
  const { tower, clock } = await world(t);
  await rejectsWith(t, callHome(tower, {}), 'argument_invalid');
  await rejectsWith(t, callHome(tower, { binding: 'site' }), 'argument_invalid');
  await rejectsWith(t, callHome(tower, { host: 'sn-0042', uses: 2 }), 'argument_invalid');
  await rejectsWith(t, callHome(tower, { host: 'sn-0042', days: 0 }), 'argument_invalid');
  const { chain, key } = await callHome(tower, { binding: 'site', site: SITE, uses: 2 });
  const maker = x509Maker({ chain, key: keyOf(key) });
  const join = async (name: string, site = SITE) => await tower.enroll({ ...(await requestOf(tower, maker, { name })).request, site }, PEER);
  await tower.resources.create('site', 'south', { proofs: ['x509'], x509_binding: 'site' }, 'test');
  await rejectsWith(t, join('a', 'south'), 'proof_invalid');
  await join('a');
  await tower.resources.change('site', SITE, { proofs: ['x509'], x509_binding: 'host-id' }, null, 'test');
  await rejectsWith(t, join('b'), 'proof_invalid');
  await tower.resources.change('site', SITE, { proofs: ['x509'], x509_binding: 'site' }, null, 'test');
  await join('b');
  await rejectsWith(t, join('c'), 'proof_exhausted');
  const late = await callHome(tower, { host: 'sn-0042', site: SITE });
  clock.offset_ms = 25 * HOUR_MS;
  await rejectsWith(
    t,
    tower.enroll((await requestOf(tower, x509Maker({ chain: late.chain, key: keyOf(late.key) }, { host: 'sn-0042' }))).request, PEER),
    'proof_invalid',
  );
});

t.test('any certificate of a registered authority enrolls one host, unless its revocation list names it, is out of date or is gone', async (t) => {
  const { tower, clock } = await world(t);
  const ca = await makeSystemCa(systemClock.wall());
  const crlFile = join(freshDirectory(t), 'list.crl');
  writeFileSync(crlFile, await ca.crl([], systemClock.wall()));
  await rejectsWith(t, tower.grants.trustAuthority({ certificate: ca.certificate, crlFile, site: SITE }, 'operator:ada'), 'unauthorized');
  await tower.grants.trustAuthority({ certificate: ca.certificate, crlFile, site: SITE }, 'local');
  const enter = async (machine: Awaited<ReturnType<typeof ca.issue>>, name: string, key = machine.key) =>
    await tower.enroll((await requestOf(tower, x509Maker({ chain: [machine.certificate], key: keyOf(key) }), { name })).request, PEER);
  const [one, two, stolen] = await Promise.all(['one', 'two', 'stolen'].map((name) => ca.issue(name, systemClock.wall())));
  if (one === undefined || two === undefined || stolen === undefined) throw new Error('three were made');
  t.equal((await enter(one, 'one')).site, SITE);
  await rejectsWith(t, enter(one, 'again'), 'proof_exhausted');
  await rejectsWith(t, enter(two, 'thief', one.key), 'proof_invalid');
  await enter(two, 'two');
  const stranger = await (await makeSystemCa(systemClock.wall())).issue('stranger', systemClock.wall());
  await rejectsWith(t, enter(stranger, 'stranger'), 'proof_invalid');
  await rejectsWith(t, enter({ ...stranger, certificate: ca.certificate }, 'authority'), 'proof_invalid');
  writeFileSync(crlFile, await ca.crl([stolen.serial], systemClock.wall()));
  await rejectsWith(t, enter(stolen, 'stolen'), 'proof_revoked');
  writeFileSync(crlFile, await ca.crl([], systemClock.wall() - 2 * HOUR_MS));
  await rejectsWith(t, enter(stolen, 'stolen'), 'proof_invalid');
  writeFileSync(crlFile, 'no list');
  await rejectsWith(t, enter(stolen, 'stolen'), 'proof_invalid');
  writeFileSync(crlFile, `-----BEGIN X509 CRL-----\n${Buffer.from(await ca.crl([], systemClock.wall())).toString('base64')}\n-----END X509 CRL-----\n`);
  await enter(stolen, 'found-again');
  clock.offset_ms = 26 * HOUR_MS;
  await rejectsWith(t, enter(await ca.issue('late', systemClock.wall()), 'late'), 'proof_invalid');
});

t.test('a certificate of an authority enrolls once, in whichever of the two ways its signature is written', async (t) => {
  const { tower } = await world(t);
  const ca = await makeSystemCa(systemClock.wall());
  await tower.grants.trustAuthority({ certificate: ca.certificate, site: SITE }, 'test');
  const { certificate, key } = await ca.issue('one', systemClock.wall());
  const enter = async (der: Uint8Array, name: string) =>
    await tower.enroll((await requestOf(tower, x509Maker({ chain: [der], key: keyOf(key) }), { name })).request, PEER);
  const twin = otherSignature(certificate);
  t.ok(new X509Certificate(twin).verify(new X509Certificate(ca.certificate).publicKey), 'as good as the first');
  await enter(certificate, 'one');
  await rejectsWith(t, enter(twin, 'two'), 'proof_exhausted');
  t.equal((await tower.nodes()).length, 1);
});

t.test(
  'a stranger’s certificate: nothing is looked up before he has shown its key, and no grant but those of authorities, where a site takes them',
  async (t) => {
    const { tower } = await world(t);
    const stranger = await (await makeSystemCa(systemClock.wall())).issue('stranger', systemClock.wall());
    const maker = x509Maker({ chain: [stranger.certificate], key: keyOf(stranger.key) });
    const digest = 'c0'.repeat(32);
    const evidence = (await maker.make({ nonce: 'n', csrHash: new Uint8Array(32), digest, sign: (data) => data })) as never;
    const authority = { detail: { binding: 'system-ca', certificate: 'no certificate: whoever parses it fails' }, site: null } as unknown as Grant;
    const asked: string[] = [];
    const records = new Proxy({} as ProofRecords, {
      get: (_target, name: string) => async (about: string) => {
        asked.push(`${name} ${about ?? ''}`.trim());
        return name === 'authorities' ? [authority, authority] : { allowed: ['token'], binding: 'system-ca' };
      },
    });
    const context = { cluster: 'alpha', nonce: 'n', challenge: digest, csrHash: new Uint8Array(32), publicKey: new Uint8Array(), peer: PEER, site: null };
    const judged = (challenge: string) => x509Proof.judge(evidence, { ...context, challenge, now_ms: systemClock.wall(), roots: tower.roots, records });
    await rejectsWith(t, judged('d0'.repeat(32)), 'proof_invalid');
    t.strictSame(asked, []);
    await rejectsWith(t, judged(digest), 'proof_invalid');
    t.strictSame(asked, ['authorities', 'siteProofs default', 'siteProofs default']);
  },
);

/** The same certificate with its ECDSA signature (r, s) written as (r, n - s), which is good as well. */
function otherSignature(der: Uint8Array): Uint8Array {
  const certificate = decodeDer(der, Certificate);
  const signature = new Uint8Array(certificate.signatureValue);
  const r_end = 4 + (signature[3] ?? 0);
  const s = BigInt(`0x${Buffer.from(signature.subarray(r_end + 2)).toString('hex')}`);
  const hex = (P256_ORDER - s).toString(16);
  const digits = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  const positive = (digits[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.of(0), digits]) : digits;
  const body = Buffer.concat([signature.subarray(2, r_end), Buffer.of(2, positive.length), positive]);
  certificate.signatureValue = toArrayBuffer(Buffer.concat([Buffer.of(0x30, body.length), body]));
  return encodeDer(certificate);
}

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

t.test('a host that returns has its node’s id back; a new key only where the site says so; cloned hosts are told apart by key alone', async (t) => {
  const { tower } = await world(t);
  const one = await known(tower, 'one', facts('a'), { newKeys: false });
  const back = async (host: HostFacts, key: KeyPair, peer = PEER) =>
    await tower.enroll((await requestOf(tower, fingerprintMaker(host), { key, name: 'other' })).request, peer);
  const before = await tower.findNode(one.id);
  const same = await back(facts('a'), one.key);
  t.ok((await tower.findNode(one.id)).revision > before.revision, 'a return is a newer row than the one before');
  t.match(same, { node: one.id, name: 'one', site: SITE });
  t.equal(judge(tower, same).identity.node, one.id);
  const error = await back(facts('a'), generateKeyPair()).catch((error: unknown) => error);
  t.match(error, { code: 'key_unseen', facts: { node: one.id } });
  await rejectsWith(t, back({ ...facts('a'), addresses: ['198.51.100.1'] }, one.key, '198.51.100.1'), 'host_unknown');
  await rejectsWith(t, back({ ...facts('a'), macs: 'ef'.repeat(32) }, one.key), 'host_unknown');
  t.equal((await back({ ...facts('a'), addresses: [] }, one.key)).node, one.id, 'the same peer address will do');
  const row = await tower.resources.get('site', SITE);
  await tower.resources.change('site', SITE, { ...row.spec, fingerprint_certifies: true }, null, 'test');
  const key = generateKeyPair();
  t.equal((await back(facts('a'), key)).node, one.id);
  await known(tower, 'clone', facts('a'));
  await rejectsWith(t, back(facts('a'), generateKeyPair()), 'proof_invalid');
  t.equal((await back(facts('a'), key)).node, one.id);
  t.equal((await tower.nodes()).length, 2);
});

t.test('a host that returns in the middle of its renewal is one node, whichever key it holds, and whichever of both comes first', async (t) => {
  const { tower } = await world(t);
  const seen = { roots: tower.roots, cluster: 'alpha', now_ms: systemClock.wall(), usage: 'client' as const };
  const shown = (chain: readonly Uint8Array[]) => verifyPeer({ ...seen, chain, recordedFingerprint: tower.recordedFingerprint }).identity.node;
  const chainOf = (texts: readonly string[]) => texts.map((text) => new Uint8Array(Buffer.from(text, 'base64')));
  const hold = async (id: string) => (await tower.nodes()).find((row) => row.id === id)?.fingerprint ?? '';
  const back = async (host: HostFacts, key: KeyPair) =>
    chainOf((await tower.enroll((await requestOf(tower, fingerprintMaker(host), { key, name: 'other' })).request, PEER)).chain);
  const renew = async (id: string, key: KeyPair, holding: string) => await tower.renewals.renew(id, { csr: createCsr(key.privateKey), holding });

  for (const [seed, holds] of [
    ['a', 'the old key'],
    ['b', 'the new key'],
  ] as const) {
    const [{ id, key }, next] = [await known(tower, holds.replaceAll(' ', '-'), facts(seed), { newKeys: false }), generateKeyPair()];
    const given = await renew(id, next, await hold(id));
    const chain = await back(facts(seed), holds === 'the new key' ? next : key);
    t.equal(shown(chain), id, `the renewal first, and the host holds ${holds}`);
    t.throws(() => shown(given), { code: 'certificate_revoked' }, 'what the renewal gave counts no more');
    t.equal(shown(await renew(id, generateKeyPair(), await hold(id))), id, 'and the next one goes on from there');
  }

  const { id, key } = await known(tower, 'late', facts('c'), { newKeys: false });
  const before = await hold(id);
  const chain = await back(facts('c'), key);
  await rejectsWith(t, renew(id, generateKeyPair(), before), 'certificate_revoked');
  t.equal(shown(chain), id, 'the return first: a request of before it moves nothing');
  t.equal((await tower.nodes()).length, 3);
});
