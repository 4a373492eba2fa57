/** Call-home through HAProxy that ends TLS: what works, whose address counts, and what of it the proxy could read. */
import { createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { BootFile } from '../../../src/enroll/boot-file.ts';
import { callHome, type CallHomeRequest } from '../../../src/enroll/call-home.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { x509Maker } from '../../../src/enroll/proofs/x509.ts';
import type { ProofMaker } from '../../../src/enroll/proof.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { type TlsProxy, startProxy } from '../../fixtures/haproxy.ts';
import { localhostCertificate } from '../../fixtures/web-server.ts';
import { HOUR_MS, makeTower, random, serve, unseal } from '../tower/support.ts';

t.setTimeout(120_000);

const SITE = 'north';

interface World {
  readonly tower: Tower;
  readonly proxy: TlsProxy;
  /** PEM of what vouches for its certificate. */
  readonly roots: string;
  join(name: string, proof: ProofMaker): ReturnType<typeof callHome>;
}

async function world(t: Test): Promise<World> {
  const tower = await makeTower(t);
  await tower.resources.create('site', SITE, { proofs: ['token', 'x509'] }, 'test');
  const { cert, key, roots } = await localhostCertificate();
  const proxy = await startProxy(t, { pem: `${cert}${key}`, tower: await serve(t, tower) });
  const given: Omit<CallHomeRequest, 'state' | 'name' | 'proof'> = {
    unseal,
    tower: { host: 'localhost', port: proxy.port },
    tls: { kind: 'system', roots: [roots] },
    fingerprint: tower.rootFingerprint,
    cluster: 'alpha',
    site: SITE,
    listen: [],
    timers: systemTimers,
    random,
    attempts_max: 1,
  };
  return { tower, proxy, roots, join: (name, proof) => callHome({ ...given, state: join(freshDirectory(t), name), name, proof }) };
}

/** In every form in which octets go over HTTP here: as they are, in hex, and in base64 from each of the three places where they may begin. */
function isIn(seen: Buffer, secret: Uint8Array): boolean {
  const bytes = Buffer.from(secret);
  const shifted = [0, 1, 2].map((skip) => bytes.subarray(skip, skip + 3 * Math.floor((bytes.length - skip) / 3)).toString('base64'));
  return [bytes, bytes.toString('hex'), ...shifted].some((form) => seen.includes(form));
}

t.test('a call-home certificate enrolls through a proxy that ends TLS, which learns no secret by it', async (t) => {
  const { tower, proxy, join: joinAs } = await world(t);
  const own = generateKeyPair();
  const { chain } = await tower.grants.issueCallHome(createCsr(own.privateKey), { days: 1, host: 'sn-0042', site: SITE }, 'test');
  const key = createPrivateKey({ key: Buffer.from(own.privateKey), format: 'der', type: 'pkcs8' });
  const node = await joinAs('one', x509Maker({ chain, key }, { host: 'sn-0042' }));
  t.match(node.identity, { site: SITE, name: 'one' });

  const boot = await BootFile.read(node.path);
  const [token] = await tower.unsealing.tokens.current(SITE);
  if (token === undefined || boot?.credentials == null) throw new Error('it has both');
  t.strictSame(node.secrets.get('site/token.1'), token.token, 'the token of its site came with the answer');
  const seen = proxy.seen();
  t.ok(seen.includes('x-forwarded-for: 127.0.0.1') && seen.includes('"site_secrets"'), `${seen.length} octets went through the proxy in clear`);
  t.ok(isIn(seen, node.credentials.chain[0] ?? new Uint8Array()), 'such as the certificate');
  // The last 32 octets of a P-256 key in PKCS#8 before its public half begin at 36.
  const secrets = {
    'token of the site': token.token,
    'key of the node': node.credentials.key.subarray(36, 68),
    'boot key': boot.credentials.key.subarray(36, 68),
  };
  for (const [what, secret] of Object.entries({ ...secrets, 'key of the call-home certificate': own.privateKey.subarray(36, 68) }))
    t.notOk(isIn(seen, secret), what);

  // What it recorded enrolls nothing else.
  const recorded = /\{"proof".*?\}(?=\r?\n|HTTP|POST|$)/s.exec(seen.toString('latin1'))?.[0] ?? '';
  const request = JSON.parse(recorded) as Parameters<Tower['enroll']>[0];
  await rejectsWith(t, tower.enroll(request, '127.0.0.1'), 'proof_replayed');
  const thief = { ...request, csr: Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64') };
  await rejectsWith(t, tower.enroll(thief, '127.0.0.1'), 'csr_invalid');
  const { boot: _boot, ...unbooted } = thief;
  await rejectsWith(t, tower.enroll(unbooted, '127.0.0.1'), 'proof_replayed');
});

t.test('a token enrolls through it too, and the proxy reads that alone; its uses are counted as ever', async (t) => {
  const { tower, proxy, join: joinAs } = await world(t);
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: SITE });
  const node = await joinAs('one', tokenMaker(text));
  const [token] = await tower.unsealing.tokens.current(SITE);
  t.ok(proxy.seen().includes(text), 'which is why a token should not go that way');
  t.notOk(isIn(proxy.seen(), token?.token ?? new Uint8Array(1)));
  t.notOk(isIn(proxy.seen(), node.credentials.key.subarray(36, 68)));
  await rejectsWith(t, joinAs('two', tokenMaker(text)), 'token_exhausted');
  t.ok((await readFile(join(node.path, 'sealed.bin'))).length > 0);
});

t.test('the source is the proxy, whatever a header says', async (t) => {
  const { tower, join: joinAs } = await world(t);
  const near = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: SITE, sources: ['127.0.0.1/32'] });
  const far = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: SITE, sources: ['192.0.2.0/24'] });
  await rejectsWith(t, joinAs('two', tokenMaker(far.text)), 'source_denied');
  t.match((await joinAs('one', tokenMaker(near.text))).identity, { name: 'one' });
});

t.test('a proxy that is not the one that was named gets nothing', async (t) => {
  const { tower, proxy, roots } = await world(t);
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS, site: SITE });
  const given = {
    unseal,
    fingerprint: tower.rootFingerprint,
    cluster: 'alpha',
    name: 'one',
    site: SITE,
    listen: [],
    timers: systemTimers,
    random,
    attempts_max: 1,
  };
  const tls = { kind: 'certificate' as const, fingerprint: new Uint8Array(32) };
  const call = { ...given, state: join(freshDirectory(t), 'one'), tower: { host: 'localhost', port: proxy.port }, proof: tokenMaker(text) };
  await t.rejects(callHome({ ...call, tls }), { name: 'SelvedgeError' });
  await t.rejects(callHome(call), { name: 'SelvedgeError' }, 'nor one that is taken for the tower itself');
  const unknown = { ...call, tls: { kind: 'system' as const } };
  await rejectsWith(t, callHome(unknown), 'certificate_invalid');
  const misnamed = { ...call, tower: { host: '127.0.0.1', port: proxy.port }, tls: { kind: 'system' as const, roots: [roots] } };
  await rejectsWith(t, callHome(misnamed), 'certificate_invalid');
  t.notOk(proxy.seen().includes(text));
});
