/** The tower's own decisions: who is recorded, what a snapshot shows, who hears of a change. */
import t from 'tap';
import type { EnrollAnswer } from '../../../src/enroll/wire.ts';
import { openSnapshot } from '../../../src/enroll/snapshot.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { openTower } from '../../../src/tower/init.ts';
import { RateLimit } from '../../../src/api/rate-limit.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { rejectsWith } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, random, shiftedClock, unseal } from './support.ts';

const csrOf = (key = generateKeyPair()) => Buffer.from(createCsr(key.privateKey)).toString('base64');
const certificates = (answer: EnrollAnswer) => answer.chain.map((text) => new Uint8Array(Buffer.from(text, 'base64')));

async function enrolled(tower: Tower, name: string, site = 'north', host = '192.0.2.1'): Promise<EnrollAnswer> {
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  return await tower.enroll({ proof: { kind: 'token', token }, csr: csrOf(), name, site, listen: [{ host, tcp: 443, udp: 443 }] }, '192.0.2.1');
}

function judge(tower: Tower, answer: EnrollAnswer) {
  const { cluster, roots, recordedFingerprint } = tower;
  return verifyPeer({ chain: certificates(answer), roots, cluster, now_ms: systemClock.wall(), usage: 'client', recordedFingerprint });
}

t.test('taking away, replacing or disabling the recorded leaf makes the very next check fail', async (t) => {
  const tower = await makeTower(t);
  const [one, two] = [await enrolled(tower, 'one'), await enrolled(tower, 'two')];
  t.equal(judge(tower, one).identity.node, one.node);
  await tower.revokeNode(one.node);
  t.throws(() => judge(tower, one), { code: 'certificate_revoked' });
  await tower.recordLeaf(two.node, certificates(one)[0] ?? new Uint8Array());
  t.throws(() => judge(tower, two), { code: 'certificate_revoked' });
  await tower.recordLeaf(two.node, certificates(two)[0] ?? new Uint8Array());
  t.equal(judge(tower, two).identity.node, two.node);
  await tower.setDisabled(two.node, true);
  t.throws(() => judge(tower, two), { code: 'peer_disabled' });
  await tower.setDisabled(two.node, false);
  t.equal(judge(tower, two).identity.node, two.node);
  await rejectsWith(t, tower.snapshot(one.node), 'certificate_revoked');
});

t.test('nobody is recorded who was not enrolled, of another cluster, or at another site', async (t) => {
  const tower = await makeTower(t);
  const { node } = await enrolled(tower, 'one');
  t.equal(tower.recordedFingerprint({ cluster: 'alpha', site: 'north', node: 'ffffffffffff' }), 'unknown');
  t.equal(tower.recordedFingerprint({ cluster: 'beta', site: 'north', node }), 'unknown');
  t.equal(tower.recordedFingerprint({ cluster: 'alpha', site: 'south', node }), 'unknown');
  t.equal(tower.recordedFingerprint({ cluster: 'alpha', site: 'north', node: 'tower' }), 'unknown');
  t.type(tower.recordedFingerprint({ cluster: 'alpha', site: 'north', node }), Uint8Array);
});

t.test('a snapshot shows the tower and the live nodes of the own site, and nobody else', async (t) => {
  const tower = await makeTower(t);
  const north = [await enrolled(tower, 'n1', 'north', '192.0.2.1'), await enrolled(tower, 'n2', 'north', '192.0.2.2'), await enrolled(tower, 'n3')];
  await enrolled(tower, 's1', 'south');
  await tower.revokeNode(north[2]?.node ?? '');
  const own = north[0]?.node ?? '';
  const { envelope, version } = await tower.snapshot(own);
  const snapshot = openSnapshot(envelope, { roots: tower.roots, cluster: 'alpha', node: own, now_ms: systemClock.wall() });
  t.equal(snapshot.version, version);
  t.strictSame(
    snapshot.peers.map((peer) => [peer.name, peer.site, peer.endpoints[0]?.host]),
    [['n2', 'north', '192.0.2.2']],
  );
  t.equal(snapshot.peers[0]?.fingerprint, Buffer.from(fingerprint(certificates(north[1] as EnrollAnswer)[0] ?? new Uint8Array())).toString('hex'));
  t.throws(() => openSnapshot(envelope, { roots: tower.roots, cluster: 'alpha', node: north[1]?.node ?? '', now_ms: systemClock.wall() }), {
    code: 'wrong_node',
  });
  const other = await makeTower(t, { cluster: 'alpha' });
  t.throws(() => openSnapshot(envelope, { roots: other.roots, cluster: 'alpha', node: own, now_ms: systemClock.wall() }), { code: 'document_invalid' });
});

t.test('a change is told once it can be seen, with the site that it concerns', async (t) => {
  const tower = await makeTower(t);
  const told: (string | null)[] = [];
  const stop = tower.onChange(({ site }) => told.push(site));
  const { node } = await enrolled(tower, 'one', 'north');
  await tower.setEndpoints(node, [{ host: '192.0.2.9', tcp: 443, udp: null }]);
  await tower.setEndpoints(node, [{ host: '192.0.2.9', tcp: 443, udp: null }]);
  await enrolled(tower, 'two', 'south');
  t.strictSame(told, ['north', 'north', 'south']);
  stop();
  const one = await enrolled(tower, 'three', 'west');
  tower.onChange(() => t.throws(() => judge(tower, one), { code: 'certificate_revoked' }, 'the directory has it before anybody is told'));
  await tower.revokeNode(one.node);
  t.equal(told.length, 3);
});

t.test('ten parallel requests of one key with a token of one use make one node and give one answer', async (t) => {
  const tower = await makeTower(t);
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const request = { proof: { kind: 'token' as const, token }, csr: csrOf(), name: 'one', listen: [] };
  const answers = await Promise.all(Array.from({ length: 10 }, () => tower.enroll(request, '192.0.2.1')));
  t.equal(new Set(answers.map((answer) => answer.chain[0])).size, 1);
  t.equal((await tower.nodes()).length, 1);
  t.equal(answers[0]?.site, 'default');
});

t.test('a request without proof of its key, for the tower’s site or with too many addresses takes no use', async (t) => {
  const tower = await makeTower(t);
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const good = { proof: { kind: 'token' as const, token }, csr: csrOf(), name: 'one', listen: [] };
  const forged = Buffer.from(good.csr, 'base64');
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  await rejectsWith(t, tower.enroll({ ...good, csr: forged.toString('base64') }, '192.0.2.1'), 'csr_invalid');
  await rejectsWith(t, tower.enroll({ ...good, csr: 'AAAA' }, '192.0.2.1'), 'csr_invalid');
  await rejectsWith(t, tower.enroll({ ...good, csr: 'AAAB=' }, '192.0.2.1'), 'request_invalid');
  await rejectsWith(t, tower.enroll({ ...good, site: 'tower' }, '192.0.2.1'), 'request_invalid');
  const long = Array.from({ length: 4 }, () => ({ host: 'h'.repeat(200), tcp: 1, udp: null }));
  await rejectsWith(t, tower.enroll({ ...good, listen: long }, '192.0.2.1'), 'argument_invalid');
  t.equal((await tower.tokens())[0]?.uses, 0);
  await tower.enroll(good, '192.0.2.1');
});

t.test('a token binds its site, its uses and its time, within limits', async (t) => {
  const tower = await makeTower(t);
  const { text: token } = await tower.createToken({ uses: 2, life_ms: HOUR_MS, site: 'south' });
  t.equal((await tower.enroll({ proof: { kind: 'token', token }, csr: csrOf(), name: 'one', listen: [] }, '192.0.2.1')).site, 'south');
  for (const bad of [{ uses: 0 }, { uses: 1.5 }, { life_ms: 0 }, { life_ms: Number.NaN }, { life_ms: 1e15 }, { site: 'tower' }, { site: 'Bad Site' }]) {
    await rejectsWith(t, tower.createToken({ uses: 1, life_ms: HOUR_MS, ...bad }), 'argument_invalid');
  }
  t.notOk(JSON.stringify(await tower.tokens()).includes('hash'));
});

t.test('a rate is kept per name, comes back with time, and its memory is bounded', async (t) => {
  const clock = shiftedClock();
  const still = { now: () => clock.offset_ms, wall: () => 0 };
  const rate = new RateLimit({ clock: still, per_minute: 3, names_max: 10 });
  for (let index = 0; index < 3; index++) rate.take('a');
  t.throws(() => rate.take('a'), { code: 'rate_limited', facts: { peer: 'a', ms: 20_000 } });
  rate.take('b');
  clock.offset_ms += 20_000;
  rate.take('a');
  t.throws(() => rate.take('a'), { code: 'rate_limited' });
  for (let index = 0; index < 1_000; index++) rate.take(`name ${index}`);
  t.equal(rate.size, 10);
});

t.test('what is written survives the process: a tower opened again knows its nodes', async (t) => {
  const tower = await makeTower(t);
  const one = await enrolled(tower, 'one');
  await tower.close();
  const again = await openTower({ state: tower.state, unseal, clock: systemClock, random });
  t.teardown(() => again.close());
  t.equal(judge(again, one).identity.node, one.node);
});
