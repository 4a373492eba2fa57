/** The tower's end of unsealing: site tokens by generation, boot identities that are good for nothing else, and the key of a node's store told to that node alone. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { boxPurposes, type SiteNews, type SiteReport } from '../../../src/enroll/unseal-wire.ts';
import { toBase64 } from '../../../src/identity/base64.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { openBox } from '../../../src/identity/sealed-box.ts';
import { siteUnsealKey } from '../../../src/identity/unseal/site.ts';
import { verifyBoot } from '../../../src/identity/verify-boot.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { limits } from '../../../src/base/limits.ts';
import { openTower } from '../../../src/tower/init.ts';
import { serveSite } from '../../../src/tower/unseal/site-service.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import type { Credentials } from '../../../src/transport/session.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import type { Mesh } from '../../../src/peering/mesh.ts';
import { bootOf, bytes, reporter } from './boot.ts';
import { apiWorld, enrolledNode } from './api-world.ts';
import { NodeFlow } from './node-flow.ts';
import { DAY_MS, makeTower, random, shiftedClock, unseal } from './support.ts';

const ask = (credentials: Credentials, generation = 1) => ({ method: 'POST', path: '/v1/unseal', body: { generation }, credentials });

/** The audit log of a tower that has done its work: it is closed, since it alone may have its database. */
async function auditOf(tower: Tower & { state: string }): Promise<string[]> {
  await tower.close();
  const database = new DatabaseSync(join(tower.state, 'tower.db'));
  const rows = database.prepare('select actor, action, detail from audit order by seq').all();
  database.close();
  return rows.map(({ actor, action, detail }) => `${actor} ${action} ${detail}`);
}

t.test('a node is told the key of its own store, sealed to its boot key, and the audit log says so', async (t) => {
  const tower = await makeTower(t);
  const node = await enrolledNode(tower, 'a');
  const { say, open } = reporter();
  const [token] = open('north', await tower.unsealing.report(node.id, say()));
  t.ok(token, 'made at the first use of the site');
  if (token === undefined) return;
  const boot = await bootOf(tower, node.id);
  const world = await apiWorld(t, tower);
  const { status, body } = await world.ask(ask(boot));
  t.equal(status, 200);
  const key = openBox(boot.key, boxPurposes.unsealKey(node.id, 1), bytes(String(body.box)));
  t.same(key, siteUnsealKey(token, node.id).key);
  t.match((await world.ask(ask(boot, 9))).body, { code: 'unseal_generation_unknown' });
  const audit = (await auditOf(tower)).filter((row) => row.startsWith('boot:'));
  t.same(audit, [`boot:${node.id} node.unseal {"generation":1}`, `boot:${node.id} node.unseal_refused {"generation":9,"code":"unseal_generation_unknown"}`]);
});

t.test('a revoked or disabled node is refused at once, and also after it has enrolled again', async (t) => {
  const tower = await makeTower(t);
  const world = await apiWorld(t, tower);
  const node = await enrolledNode(tower, 'a');
  const boot = await bootOf(tower, node.id);
  t.equal((await world.ask(ask(boot))).status, 200);
  await tower.setDisabled(node.id, true);
  t.match(await world.ask(ask(boot)), { status: 403, body: { code: 'peer_disabled', remedy: /Enable the node/ } });
  await tower.setDisabled(node.id, false);
  t.equal((await world.ask(ask(boot))).status, 200);
  await tower.revokeNode(node.id);
  t.match(await world.ask(ask(boot)), { status: 403, body: { code: 'certificate_revoked' } });
  await tower.recordLeaf(node.id, node.chain[0] ?? new Uint8Array());
  t.match(await world.ask(ask(boot)), { body: { code: 'certificate_revoked' } }, 'what lay on its disk is worth nothing any more');
  const { say, open } = reporter();
  t.same(
    open('north', await tower.unsealing.report(node.id, say())).map(({ generation }) => generation),
    [2, 1],
    'and what it knew of its site is followed by another token',
  );
  t.equal((await auditOf(tower)).filter((row) => /node\.unseal_refused .*certificate_revoked/.test(row)).length, 2);
});

t.test('a boot identity is good for nothing else, and nothing else is good for unsealing', async (t) => {
  const tower = await makeTower(t);
  const world = await apiWorld(t, tower);
  const node = await enrolledNode(tower, 'a');
  const boot = await bootOf(tower, node.id);
  for (const route of world.routes) {
    if (route.scope === undefined || route.url.includes('openapi')) continue;
    const path = route.url.replace(/:\w+/g, 'x');
    const { status, body } = await world.ask({ method: route.method, path, credentials: boot, ...(route.method !== 'GET' && { body: {} }) });
    if (![401, 403].includes(status) || !['certificate_invalid', 'unauthorized'].includes(String(body.code)))
      t.fail(`${route.method} ${path}: ${status} ${body.code}`);
  }
  const judged = { roots: tower.roots, cluster: 'alpha', now_ms: Date.now(), recordedFingerprint: () => 'any' as const };
  for (const usage of ['client', 'server'] as const) t.throws(() => verifyPeer({ ...judged, chain: boot.chain, usage }), { code: 'certificate_invalid' });
  const recordedBoot = () => [] as Uint8Array[];
  await t.rejects(verifyBoot({ ...judged, chain: node.chain, recordedBoot }), { code: 'certificate_invalid' });
  await t.rejects(verifyBoot({ ...judged, chain: boot.chain, recordedBoot }), { code: 'certificate_revoked' });
  await t.rejects(verifyBoot({ ...judged, cluster: 'beta', chain: boot.chain, recordedBoot }), { code: 'wrong_cluster' });
  t.match(await world.ask(ask(node)), { status: 403, body: { code: 'certificate_invalid' } }, 'a host’s leaf');
  t.match(await world.ask(ask(tower.credentials)), { body: { code: 'certificate_invalid' } }, 'the tower’s');
  t.match(await world.ask({ method: 'POST', path: '/v1/unseal', body: { generation: 1 } }), { status: 401, body: { code: 'unauthorized' } }, 'none');
  const other = await makeTower(t, { cluster: 'beta' });
  const stranger = await bootOf(other, (await enrolledNode(other, 'a')).id);
  t.match((await world.ask(ask(stranger))).body.code, /wrong_cluster|certificate_invalid/);
});

t.test('a lost answer is answered again; a new boot identity and the old one both count until the node has the new one', async (t) => {
  const tower = await makeTower(t);
  const world = await apiWorld(t, tower);
  const { id } = await enrolledNode(tower, 'a');
  const first = await bootOf(tower, id);
  const { privateKey } = generateKeyPair();
  const csr = toBase64(createCsr(privateKey, 'boot'));
  const { say } = reporter();
  const answer = await tower.unsealing.report(id, say({ csr }));
  t.same((await tower.unsealing.report(id, say({ csr })))?.boot, answer?.boot);
  const second = { chain: (answer?.boot ?? []).map(bytes), key: privateKey };
  for (const boot of [first, second]) t.equal((await world.ask(ask(boot))).status, 200);
  await tower.unsealing.report(
    id,
    say({
      boot: createHash('sha256')
        .update(second.chain[0] ?? '')
        .digest('hex'),
    }),
  );
  t.equal((await world.ask(ask(second))).status, 200);
  t.match(await world.ask(ask(first)), { body: { code: 'certificate_revoked' } });
});

t.test('one node may ask only so often', async (t) => {
  const tower = await makeTower(t);
  const world = await apiWorld(t, tower);
  const boot = await bootOf(tower, (await enrolledNode(tower, 'a')).id);
  const codes: unknown[] = [];
  for (let times = 0; times < limits.unseal_per_node_per_minute_max + 2; times++) codes.push((await world.ask(ask(boot))).body.code);
  t.same(codes.slice(-2), ['rate_limited', 'rate_limited']);
  t.same(new Set(codes.slice(0, -2)), new Set([undefined]));
});

t.test('tokens follow each other at regular intervals; the tower keeps what some node is sealed with', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const [a, b] = [await enrolledNode(tower, 'a'), await enrolledNode(tower, 'b')];
  const { say, open } = reporter();
  const generations = async (id: string, report: Partial<SiteReport>) =>
    open('north', await tower.unsealing.report(id, say(report))).map(({ generation }) => generation);
  t.same(await generations(a.id, {}), [1]);
  await generations(b.id, { have: 1, sealed: 1 });
  for (let month = 0; month < 4; month++) {
    clock.offset_ms += 31 * DAY_MS;
    await tower.unsealing.tokens.rotateDue();
    await tower.unsealing.tokens.rotateDue();
    await generations(a.id, { have: month + 2, sealed: month + 2 });
  }
  t.same(await generations(a.id, { have: 3, sealed: 3 }), [5, 4], 'the newest, and the one before it');
  t.ok(await tower.unsealing.tokens.of('north', 1), 'b was away since the first');
  t.equal(await tower.unsealing.tokens.of('north', 6), null);
  t.equal(await tower.unsealing.tokens.of('south', 1), null);
  t.same(await generations(b.id, { have: 1, sealed: 1 }), [5, 4], 'and is caught up');
  await generations(a.id, { have: 5, sealed: 5 });
  await generations(b.id, { have: 5, sealed: 5 });
  clock.offset_ms += 31 * DAY_MS;
  await tower.unsealing.tokens.rotateDue();
  t.same([await tower.unsealing.tokens.of('north', 1), await tower.unsealing.tokens.of('north', 4)], [null, null], 'what nobody needs is gone');
  t.ok(await tower.unsealing.tokens.of('north', 5));
  await tower.unsealing.tokens.current('south');
  t.notSame((await tower.unsealing.tokens.of('south', 1))?.token, (await tower.unsealing.tokens.of('north', 5))?.token);
});

t.test('a rotation is pushed to the nodes of the site, and to nobody else', async (t) => {
  const tower = await makeTower(t);
  const [a, c] = [await enrolledNode(tower, 'a', 'north'), await enrolledNode(tower, 'c', 'south')];
  let handler: (flow: NodeFlow) => void = () => {};
  const mesh = { handle: (_service: string, given: typeof handler) => (handler = given) } as unknown as Mesh;
  const service = serveSite(mesh, tower.unsealing, systemTimers);
  t.teardown(() => service.close());
  const flows = [a, c].map(({ id }) => new NodeFlow(id));
  const [north, south] = flows as [NodeFlow, NodeFlow];
  const { say, open } = reporter();
  const read = async (site: string, flow: NodeFlow, number: number) =>
    open(site, JSON.parse(Buffer.from(await flow.messageNumber(number)).toString()) as SiteNews);
  for (const flow of flows) {
    handler(flow);
    flow.ask(say());
  }
  t.equal((await read('north', north, 1))[0]?.generation, 1);
  t.equal((await read('south', south, 1))[0]?.generation, 1);
  for (const flow of flows) flow.ask(say({ have: 1 }));
  await tower.unsealing.tokens.rotate('north');
  t.same(
    (await read('north', north, 2)).map(({ generation }) => generation),
    [2, 1],
  );
  south.ask(say({ have: 0 }));
  t.equal((await read('south', south, 2))[0]?.generation, 1, 'nothing came to it in between');
  const wrong = new NodeFlow(a.id, 'telemetry');
  handler(wrong);
  t.equal(wrong.resetCode, 'channel_class_denied');
  north.ask('garbage');
  await north.closed;
  t.equal(north.resetCode, 'request_invalid');
});

t.test('in the database a token is sealed, and opens nowhere but in its own row', async (t) => {
  const tower = await makeTower(t);
  await enrolledNode(tower, 'a');
  const [token] = await tower.unsealing.tokens.current('north');
  await tower.close();
  const database = new DatabaseSync(`${tower.state}/tower.db`);
  const row = database.prepare('select sealed from site_tokens').get() as { sealed: string };
  t.notMatch(row.sealed, toBase64(token?.token ?? new Uint8Array()).slice(0, 20));
  t.equal(bytes(row.sealed).length, 60);
  database.prepare('insert into site_tokens values (?, ?, ?, ?)').run('south', 1, row.sealed, 0);
  database.close();
  const again = await openTower({ state: tower.state, unseal, clock: shiftedClock(), random });
  t.teardown(() => again.close());
  t.same((await again.unsealing.tokens.of('north', 1))?.token, token?.token);
  await t.rejects(again.unsealing.tokens.of('south', 1), { code: 'store_damaged' });
});
