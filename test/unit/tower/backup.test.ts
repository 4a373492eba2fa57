/** A tower is backed up while it runs, and one that is restored goes on with the nodes that were there. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { DatabaseSync } from 'node:sqlite';
import t, { type Test } from 'tap';
import { openSnapshot } from '../../../src/enroll/snapshot.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { checkBackup } from '../../../src/tower/backup/backup.ts';
import { openTower } from '../../../src/tower/init.ts';
import { restoreTower } from '../../../src/tower/backup/restore.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { DAY_MS, HOUR_MS, makeTower, random, shiftedClock, unseal } from './support.ts';

t.setTimeout(120_000);

async function enrolled(tower: Tower, name: string): Promise<string> {
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
  return (await tower.enroll({ proof: { kind: 'token', token: text }, csr, name, site: 'harbor', listen: [] }, '192.0.2.1')).node;
}

async function restored(t: Test, file: string, clock = systemClock): Promise<Tower> {
  const state = join(freshDirectory(t), 'restored');
  await restoreTower({ file, state, unseal: async () => unseal, clock });
  const tower = await openTower({ state, unseal, clock, random });
  t.teardown(() => tower.close());
  return tower;
}

t.test('a restored tower has the nodes, roots and rules of its backup, and its snapshots are newer than any that were told', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const node = await enrolled(tower, 'one');
  await tower.resources.create('role', 'till', {}, 'local');
  const file = join(freshDirectory(t), 'backup');
  const facts = await tower.backup(file, 'local');
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.match(facts, { cluster: 'alpha', rows: 5 });
  // The tower goes on, and its node is told more than the backup knows.
  for (let index = 0; index < 40; index++) await tower.setEndpoints(node, [{ host: '192.0.2.1', tcp: 1 + index, udp: null }]);
  const later = await enrolled(tower, 'later');
  const told = await tower.snapshot(node);
  clock.offset_ms += HOUR_MS;

  const again = await restored(t, file, clock);
  t.strictSame(again.rootFingerprint, tower.rootFingerprint);
  t.strictSame(
    (await again.nodes()).map((row) => row.id),
    [node],
  );
  t.strictSame(
    (await again.resources.page('role', { after: null, limit: 9 })).map((row) => row.name),
    ['till'],
  );
  t.type(again.recordedFingerprint({ cluster: 'alpha', site: 'harbor', node }), Uint8Array, 'the node’s leaf is still recorded');
  t.equal(again.recordedFingerprint({ cluster: 'alpha', site: 'harbor', node: later }), 'unknown', 'who came after the backup is not');
  const now = await again.snapshot(node);
  t.ok(now.version > told.version, `${now.version} after ${told.version}`);
  const snapshot = openSnapshot(now.envelope, { roots: tower.roots, cluster: 'alpha', node, now_ms: clock.wall() });
  t.strictSame(snapshot.node.id, node, 'signed by the same authority');

  // Again from the same backup: later than what the first restored tower told.
  await again.setEndpoints(node, []);
  const second = await again.snapshot(node);
  clock.offset_ms += 1_000;
  const third = await restored(t, file, clock);
  t.ok((await third.snapshot(node)).version > second.version);
});

t.test('a backup made amid changes is whole, and holds every change up to some version', async (t) => {
  const tower = await makeTower(t);
  const node = await enrolled(tower, 'one');
  const file = join(freshDirectory(t), 'backup');
  let changes = 0;
  let isOver = false;
  const busy = (async () => {
    // As from a socket: the event loop has its turn between two of them.
    for (; !isOver; await setImmediate()) await tower.setEndpoints(node, [{ host: '192.0.2.1', tcp: 1 + (changes++ % 60_000), udp: null }]);
  })();
  const facts = await tower.backup(file, 'local');
  isOver = true;
  await busy;
  t.ok(changes > 0);
  t.strictSame(checkBackup(file), facts);
  t.equal((await restored(t, file)).cluster, 'alpha');
});

t.test('a backup holds no secret in clear, and what does not unseal it is refused before anything is made', async (t) => {
  const tower = await makeTower(t);
  const file = join(freshDirectory(t), 'backup');
  await tower.backup(file, 'local');
  t.notOk(readFileSync(file).includes(Buffer.from(tower.credentials.key)));
  const state = join(freshDirectory(t), 'restored');
  const other = { kind: 'key', key: new Uint8Array(32).fill(9) } as const;
  await rejectsWith(t, restoreTower({ file, state, unseal: async () => other, clock: systemClock }), 'store_locked');
  t.notOk(existsSync(state));
  writeFileSync(state, '');
  await rejectsWith(t, tower.backup(state, 'local'), 'file_exists');
  await rejectsWith(t, tower.backup(join(state, 'below', 'a file'), 'local'), 'permission_denied');
});

t.test('a damaged backup is refused, whatever part of it was changed', async (t) => {
  const tower = await makeTower(t);
  for (let index = 0; index < 50; index++) await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const directory = freshDirectory(t);
  const file = join(directory, 'backup');
  await tower.backup(file, 'local');
  const edits = [
    "update audit set actor = 'nobody' where seq = 20",
    'delete from audit where seq = 20',
    'delete from audit where seq > 20',
    "update backup_files set content = x'00' where name = 'sealed.bin'",
    "delete from backup_files where name = 'tower.json'",
    'drop table backup_files',
  ];
  for (const [index, text] of edits.entries()) {
    const changed = join(directory, `changed-${index}`);
    writeFileSync(changed, readFileSync(file));
    const database = new DatabaseSync(changed);
    database.exec(text);
    database.close();
    t.throws(() => checkBackup(changed), { code: 'backup_invalid' }, text);
    await rejectsWith(t, restoreTower({ file: changed, state: join(directory, 'restored'), unseal: async () => unseal, clock: systemClock }), 'backup_invalid');
  }
  const cut = join(directory, 'cut');
  writeFileSync(cut, readFileSync(file).subarray(0, 20_000));
  t.throws(() => checkBackup(cut), { code: 'backup_invalid' });
  writeFileSync(cut, 'not a backup');
  t.throws(() => checkBackup(cut), { code: 'backup_invalid' });
  t.throws(() => checkBackup(join(directory, 'none')), { code: 'not_found' });
  t.equal(checkBackup(file).cluster, 'alpha');
});

t.test('the head of the audit log tells that its end was cut off, or all of it put back to an earlier day', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  for (let index = 0; index < 5; index++) await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  t.equal((await tower.auditHead()).kept, null);
  await tower.keepAuditHead();
  const { kept, seq, signed } = await tower.auditHead();
  t.match(kept, { cluster: 'alpha', seq: 6 });
  t.equal(seq, 6);
  t.notSame(signed, null);
  const { state } = tower;
  await tower.close();
  const database = join(state, 'tower.db');
  const whole = readFileSync(database);
  const edit = (text: string) => {
    writeFileSync(database, whole);
    const opened = new DatabaseSync(database);
    opened.exec(text);
    opened.close();
  };
  // The chain alone holds in each case: versions are put back with it.
  edit("delete from audit where seq > 4; update versions set version = 4 where scope = 'all'");
  await rejectsWith(t, openTower({ state, unseal, clock, random }), 'store_damaged');
  edit("delete from audit where seq > 5; update versions set version = 5 where scope = 'all'");
  await rejectsWith(t, openTower({ state, unseal, clock, random }), 'store_damaged');
  writeFileSync(database, whole);
  const head = join(state, 'audit-head.json');
  const text = readFileSync(head, 'utf8');
  writeFileSync(head, text.replace(/"signature":"./, '"signature":"B'));
  await t.rejects(openTower({ state, unseal, clock, random }));
  writeFileSync(head, text);
  clock.offset_ms += 20 * DAY_MS;
  const again = await openTower({ state, unseal, clock, random });
  await again.createToken({ uses: 1, life_ms: HOUR_MS });
  await again.keepAuditHead();
  t.ok(((await again.auditHead()).kept?.seq ?? 0) > 6);
  await again.close();
});
