/** SQLite as a `Store`, and what only a file can suffer: damage, a full disk, a second process, kill -9. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/limits.ts';
import type { Store } from '../../src/tower/store/store.ts';
import { openSqliteStore } from '../../src/tower/store/sqlite.ts';
import { appStoreCompliance } from './app-store.ts';
import { renewalStoreCompliance } from './renewal-store.ts';
import { trustStoreCompliance } from './trust-store.ts';
import { resourceStoreCompliance } from './resource-store.ts';
import { unsealStoreCompliance } from './unseal-store.ts';
import { BY, claimOf, clusterNamed, freshDirectory, nodeNamed, rejectsWith, type StoreMaker, storeCompliance, tokenNamed } from './store.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(280_000);

const NOW_MS = 1_800_000_000_000;

async function open(t: Test, path: string, pages_max?: number): Promise<Store> {
  const store = await openSqliteStore(pages_max === undefined ? { path } : { path, pages_max });
  t.teardown(() => store.close());
  return store;
}

const fileIn = (t: Test) => join(freshDirectory(t), 'tower.db');

const maker: StoreMaker = { make: (t) => open(t, fileIn(t)), reopen: (t, store) => open(t, store.path) };
storeCompliance(t, maker);
appStoreCompliance(t, maker);
renewalStoreCompliance(t, maker);
resourceStoreCompliance(t, maker);
trustStoreCompliance(t, maker);
unsealStoreCompliance(t, maker);

t.test('a file that is no database, a damaged one and one of a newer program are refused by name', async (t) => {
  const path = fileIn(t);
  writeFileSync(path, 'not a database at all, but long enough to be read as one\n'.repeat(100));
  await rejectsWith(t, openSqliteStore({ path }), 'store_damaged');

  const damaged = join(freshDirectory(t), 'damaged.db');
  const store = await openSqliteStore({ path: damaged });
  for (let index = 0; index < 200; index++) await store.proofs.createGrant(tokenNamed(`t${index}`), BY);
  await store.close();
  const bytes = readFileSync(damaged);
  bytes.fill(0x5a, 4096 * 3, 4096 * 6);
  writeFileSync(damaged, bytes);
  await rejectsWith(t, openSqliteStore({ path: damaged }), 'store_damaged');

  truncateSync(damaged, Math.floor(statSync(damaged).size / 2));
  await rejectsWith(t, openSqliteStore({ path: damaged }), 'store_damaged');

  const newer = join(freshDirectory(t), 'newer.db');
  await (await openSqliteStore({ path: newer })).close();
  edit(newer, 'update schema_version set version = 99');
  await rejectsWith(t, openSqliteStore({ path: newer }), 'store_damaged');
});

t.test('an audit row changed, taken out or cut from the end is noticed', async (t) => {
  const edits = [
    "update audit set detail = '{}' where seq = 2",
    'delete from audit where seq = 2',
    'delete from audit where seq = 3',
    "update audit set actor = 'x' where seq = 3",
  ];
  for (const text of edits) {
    const path = fileIn(t);
    const store = await openSqliteStore({ path });
    for (const id of ['aa', 'bb', 'cc']) await store.proofs.createGrant(tokenNamed(id), BY);
    await store.close();
    edit(path, text);
    await rejectsWith(t, (await open(t, path)).verifyAudit(), 'store_damaged');
  }
});

t.test('a full disk is disk_full, and everything before it is intact', async (t) => {
  const path = fileIn(t);
  const store = await open(t, path, 96);
  let made = 0;
  const fill = async () => {
    for (; made < 5_000; made++) await store.proofs.createGrant(tokenNamed(`t${made}`), BY);
  };
  await rejectsWith(t, fill(), 'disk_full');
  t.ok(made > 0);
  t.equal((await store.proofs.grants('token')).length, made);
  t.equal(await store.version(), made);
  await store.verifyAudit();
});

t.test('a second process is told that the state is in use', async (t) => {
  const path = fileIn(t);
  await open(t, path);
  await rejectsWith(t, openSqliteStore({ path }), 'state_in_use');
});

t.test('a path that cannot be opened is permission_denied', async (t) => {
  await rejectsWith(t, openSqliteStore({ path: join(freshDirectory(t), 'no', 'such', 'dir.db') }), 'permission_denied');
});

t.test('what was answered before a kill -9 is there afterwards, ten times in a row', async (t) => {
  const path = fileIn(t);
  const program = `
    const { openSqliteStore } = await import(${JSON.stringify(new URL('../../src/tower/store/sqlite.ts', import.meta.url).href)});
    const store = await openSqliteStore({ path: ${JSON.stringify(path)} });
    for (let index = (await store.proofs.grants('token')).length; ; index++) {
      await store.proofs.createGrant({ ...${JSON.stringify(tokenNamed('t'))}, id: 't' + index }, { actor: 'admin', at_ms: 1 });
      process.stdout.write(index + '\\n');
    }`;
  for (let round = 0; round < 10; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.split('\n').length > 5 + round * 3) child.kill('SIGKILL');
    });
    await once(child, 'close');
    const answered = Number(text.trim().split('\n').at(-1));
    const store = await openSqliteStore({ path });
    const there = (await store.proofs.grants('token')).length;
    t.ok(there > answered, `${there} tokens there after ${answered + 1} were answered`);
    await store.verifyAudit();
    await store.close();
  }
});

t.test('a kill -9 amid attaches leaves no address given twice, none lost, and every answered one in place', async (t) => {
  const path = fileIn(t);
  const store = await openSqliteStore({ path });
  await store.setCluster(clusterNamed('alpha'), NOW_MS);
  const token = tokenNamed('aa');
  await store.proofs.createGrant(token, BY);
  const node = await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
  await store.app.create({ name: 'shop', subnet4: '10.9.0.0/24', subnet6: null, mtu: null, learning: false }, BY);
  await store.app.addMember('shop', node.id, BY);
  await store.close();
  // Takes and gives back in turn, so that kills fall into both.
  const program = `
    const { openSqliteStore } = await import(${JSON.stringify(new URL('../../src/tower/store/sqlite.ts', import.meta.url).href)});
    const { app } = await openSqliteStore({ path: ${JSON.stringify(path)} });
    const { endpoints } = await app.network('shop');
    for (let index = endpoints.length; ; index++) {
      const { row } = await app.attach('shop', ${JSON.stringify(node.id)}, 'c' + index, 1);
      process.stdout.write('c' + index + ' ' + row.address4 + '\\n');
      await app.attach('shop', ${JSON.stringify(node.id)}, 'short', 1);
      await app.detach('shop', ${JSON.stringify(node.id)}, 'short', 1);
    }`;
  const answered = new Map<string, string>();
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.split('\n').length > 4 + round * 2) child.kill('SIGKILL');
    });
    await once(child, 'close');
    for (const line of text.split('\n').slice(0, -1)) answered.set(line.split(' ')[0] ?? '', line.split(' ')[1] ?? '');
    const again = await openSqliteStore({ path });
    const { endpoints } = await again.app.network('shop');
    t.equal(new Set(endpoints.map((endpoint) => endpoint.address4)).size, endpoints.length);
    for (const [name, address] of answered) t.equal(endpoints.find((endpoint) => endpoint.attachment === name)?.address4, address, name);
    await again.verifyAudit();
    await again.close();
  }
});

/** The schema as it was before the grants: what a release of then made. */
const BEFORE_GRANTS = `
  drop table trust; drop table node_trust; drop index nodes_renewing; alter table nodes drop column renewal; alter table nodes drop column leaving_ms; drop table site_tokens; drop table node_boot; drop table node_seals; drop table api_sessions; drop table operators; drop table node_facts; drop table grant_uses; drop table grants;
  create table tokens (id text primary key, hash text not null, uses integer not null, uses_max integer not null, site text, expires_ms bigint not null,
    revoked_ms bigint, created_ms bigint not null, constraint tokens_within_limit check (uses <= uses_max));
  create table enrollments (token_id text not null, csr_hash text not null, node_id text not null references nodes (id), at_ms bigint not null,
    constraint enrollments_once primary key (token_id, csr_hash));`;

t.test('a database from before app networks is brought up, with what was in it', async (t) => {
  const path = fileIn(t);
  const store = await openSqliteStore({ path });
  await store.setCluster(clusterNamed('alpha'), NOW_MS);
  await store.close();
  const tables = ['app_networks', 'app_endpoints', 'app_hosts', 'app_keys', 'app_cursors', 'resources', 'resource_uses'].toReversed();
  const drop = tables.map((table) => `drop table ${table};`).join('');
  const nodes = ['tenant', 'roles', 'revision'].map((column) => `alter table nodes drop column ${column};`).join('');
  edit(path, `${BEFORE_GRANTS} ${drop} alter table cluster drop column vtep_range; ${nodes} update schema_version set version = 1`);
  const again = await open(t, path);
  t.strictSame(await again.cluster(), clusterNamed('alpha'));
  t.strictSame(await again.app.networks({ after: null, limit: 1_000 }), []);
  await again.verifyAudit();
});

t.test('tokens from before there were other grants, and what they enrolled, are grants afterwards', async (t) => {
  const path = fileIn(t);
  const store = await openSqliteStore({ path });
  const token = tokenNamed('aa', { usesMax: 2 });
  await store.proofs.createGrant(token, BY);
  const made = await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
  await store.close();
  edit(
    path,
    `${BEFORE_GRANTS} insert into tokens values ('aa', '${token.hash}', 1, 2, null, ${token.expires_ms}, null, ${NOW_MS});
     insert into enrollments values ('aa', '${made.csrHash}', '${made.id}', ${NOW_MS}); update schema_version set version = 3`,
  );
  const again = await open(t, path);
  t.match(await again.proofs.grants('token'), [{ ...token, uses: 1 }]);
  t.strictSame(await again.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS), made);
  t.equal((await again.proofs.grants('token'))[0]?.uses, 1);
  t.equal((await again.proofs.enroll(claimOf(token), nodeNamed('two'), NOW_MS)).tenant, null);
});

t.test('the authorities among call-home grants are found by themselves, also in a database from before they were told apart, and are bounded', async (t) => {
  const path = fileIn(t);
  const store = await openSqliteStore({ path });
  const grant = (id: string, binding: string) => ({ ...tokenNamed(id), kind: 'x509' as const, hash: null, detail: { binding } });
  for (const [id, binding] of [
    ['aa', 'host-id'],
    ['bb', 'system-ca'],
    ['cc', 'site'],
    ['dd', 'system-ca'],
  ] as const)
    await store.proofs.createGrant(grant(id, binding), BY);
  await store.proofs.revokeGrant('x509', 'dd', BY);
  const found = async (of: typeof store) => (await of.proofs.authorities()).map(({ id }) => id);
  t.strictSame(await found(store), ['bb']);
  await store.close();
  edit(
    path,
    'drop table trust; drop table node_trust; drop index nodes_renewing; drop index grants_binding; alter table grants drop column binding; update schema_version set version = 9',
  );
  const again = await open(t, path);
  t.strictSame(await found(again), ['bb']);
  for (let more = 1; more < limits.x509_authorities_max; more++) await again.proofs.createGrant(grant(`ee${more}`, 'system-ca'), BY);
  await rejectsWith(t, again.proofs.createGrant(grant('ff', 'system-ca'), BY), 'limit_reached');
});

function edit(path: string, text: string): void {
  const database = new DatabaseSync(path);
  database.exec(text);
  database.close();
}
