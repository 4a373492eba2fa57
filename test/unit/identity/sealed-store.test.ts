/** Secrets at rest: refused when damaged, and where, shut without their key, and intact when the disk is full. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { readFileBounded, removeLeftovers, writeFileAtomic } from '../../../src/identity/files.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { siteUnsealKey } from '../../../src/identity/unseal/site.ts';
import type { UnsealKey } from '../../../src/identity/unseal.ts';
import { systemRandom } from '../../../src/transport/system.ts';

const run = promisify(execFile);

const directory = await mkdtemp(join(tmpdir(), 'selvedge-store-'));
t.teardown(() => rm(directory, { recursive: true }));
let files = 0;
const newPath = (): string => join(directory, `sealed-${++files}.bin`);
const newKey = (): UnsealKey & { kind: 'key' } => ({ kind: 'key', key: systemRandom.bytes(32) });
const passphrase = (text: string): UnsealKey => ({ kind: 'passphrase', passphrase: Buffer.from(text) });
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

t.test('what is sealed is there when the store is opened again, and nothing of it is readable in the file', async (t) => {
  for (const key of [newKey(), passphrase('correct horse')]) {
    const path = newPath();
    const store = await SealedStore.create(path, key);
    await store.set('node.key', bytes('a very secret thing'));
    await store.update({ token: bytes('another'), '': new Uint8Array(0), 'node.crt': bytes('x') });
    await store.delete('node.crt');
    const again = await SealedStore.open(path, key);
    t.same(again.keys().sort(), ['', 'node.key', 'token']);
    t.same(again.get('node.key'), bytes('a very secret thing'));
    t.equal(again.get('node.crt'), null);
    const raw = (await readFile(path)).toString('latin1');
    t.notMatch(raw, /secret thing|node\.key|another/);
    t.equal((await stat(path)).mode & 0o777, 0o600);
  }
});

t.test('what a store gives or was given is a copy', async (t) => {
  const store = await SealedStore.create(newPath(), newKey());
  const secret = Buffer.from('abc');
  await store.set('a', secret);
  secret.fill(0);
  store.get('a')?.fill(1);
  t.same(store.get('a'), bytes('abc'));
});

t.test('changes made at once all end in the store', async (t) => {
  const [path, key] = [newPath(), newKey()];
  const store = await SealedStore.create(path, key);
  await Promise.all(Array.from({ length: 20 }, (_, index) => store.set(`n${index}`, bytes(String(index)))));
  t.equal((await SealedStore.open(path, key)).keys().length, 20);
});

t.test('the wrong key, passphrase or kind of key finds the store locked, not damaged', async (t) => {
  const [path, secretPath] = [newPath(), newPath()];
  const store = await SealedStore.create(path, newKey());
  await store.set('a', bytes('b'));
  await SealedStore.create(secretPath, passphrase('correct horse'));
  await t.rejects(SealedStore.open(path, newKey()), { code: 'store_locked', message: /key is not the one/ });
  await t.rejects(SealedStore.open(path, passphrase('correct horse')), { code: 'store_locked', message: /sealed with a key file/ });
  await t.rejects(SealedStore.open(secretPath, passphrase('correct house')), { code: 'store_locked', message: /passphrase is not the one/ });
  await t.rejects(SealedStore.open(secretPath, newKey()), { code: 'store_locked', message: /sealed with a passphrase/ });
  const token = { generation: 3, token: systemRandom.bytes(32) };
  const sitePath = newPath();
  await SealedStore.create(sitePath, siteUnsealKey(token, '0123456789ab'));
  await t.rejects(SealedStore.open(sitePath, siteUnsealKey(token, 'ba9876543210')), { code: 'store_locked', message: /key is not the one/ });
  const later = siteUnsealKey({ ...token, generation: 4 }, '0123456789ab');
  await t.rejects(SealedStore.open(sitePath, later), { code: 'store_locked', message: /generation 3, not .* generation 4/ });
});

t.test('a bit flipped anywhere, or an end cut off anywhere, finds the store damaged', async (t) => {
  const [path, key] = [newPath(), newKey()];
  await (await SealedStore.create(path, key)).set('a', bytes('some secret'));
  const good = await readFile(path);
  const outcomes = new Map<string, number>();
  const tryOpen = async (content: Uint8Array) => {
    await writeFile(path, content);
    const outcome = await SealedStore.open(path, key).then(
      () => 'opened',
      (error: { code?: string }) => String(error.code),
    );
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  };
  for (let at = 0; at < good.length; at++) {
    const flipped = Buffer.from(good);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
    await tryOpen(flipped);
    await tryOpen(good.subarray(0, at));
  }
  await tryOpen(Buffer.concat([good, Buffer.of(0)]));
  t.same([...outcomes], [['store_damaged', 2 * good.length + 1]]);
});

t.test('damage is named by the part that it is in', async (t) => {
  const [path, key] = [newPath(), newKey()];
  await (await SealedStore.create(path, key)).set('a', bytes('some secret'));
  const good = await readFile(path);
  const partAt = async (...places: number[]): Promise<unknown> => {
    const flipped = Buffer.from(good);
    for (const at of places) flipped[at] = (flipped[at] ?? 0) ^ 4;
    await writeFile(path, flipped);
    return await SealedStore.head(path).then(
      () => 'none',
      (error: { facts?: { part?: unknown } }) => error.facts?.part,
    );
  };
  const HEAD = 16;
  const SALTS = HEAD + 8;
  const RECORD = SALTS + 76;
  const TAG = good.length - 32 - 32 - 16;
  t.equal(await partAt(0), 'head');
  t.equal(await partAt(HEAD + 1), 'head');
  t.equal(await partAt(SALTS), 'salts');
  t.equal(await partAt(RECORD), 'record');
  t.equal(await partAt(TAG), 'tag');
  t.equal(await partAt(SALTS, RECORD), 'salts and record');
  t.equal(await partAt(good.length - 1), 'digest');
  t.equal(await partAt(TAG, good.length - 1), 'tag');
  t.equal(await partAt(good.length - 40), 'tag', 'its checksum, which is the same to whoever reads it');
  await writeFile(path, good.subarray(0, -1));
  await t.rejects(SealedStore.head(path), { code: 'store_damaged', facts: { part: 'end' } });
  await writeFile(path, good.subarray(0, 100));
  await t.rejects(SealedStore.head(path), { code: 'store_damaged', facts: { part: 'end' } });
});

t.test('what the first release wrote is read, and becomes the format of now with the next write', async (t) => {
  const keys = [{ kind: 'key', key: new Uint8Array(32).fill(7) } as const, passphrase('correct horse')];
  for (const [index, key] of keys.entries()) {
    const path = newPath();
    await writeFile(path, Buffer.from(formatOne[index] ?? '', 'base64'));
    const store = await SealedStore.open(path, key);
    t.same([store.get('a'), store.get('b'), store.generation], [bytes('old secret'), new Uint8Array(), 0]);
    t.equal((await SealedStore.head(path)).format, 1);
    await store.set('c', bytes('new'));
    const head = await SealedStore.head(path);
    t.same([head.format, head.mode.kind], [2, key.kind]);
    t.same((await SealedStore.open(path, key)).get('a'), bytes('old secret'));
  }
});

t.test('a store is sealed anew under another key in one step, with its changes', async (t) => {
  const [path, key] = [newPath(), newKey()];
  const store = await SealedStore.create(path, key);
  await store.set('a', bytes('kept'));
  const token = { generation: 7, token: systemRandom.bytes(32) };
  const site = siteUnsealKey(token, '0123456789ab');
  await Promise.all([store.set('b', bytes('before')), store.reseal(site, { token: token.token }), store.set('c', bytes('after'))]);
  t.same([store.mode.name, store.generation], ['site', 7]);
  await t.rejects(SealedStore.open(path, key), { code: 'store_locked' });
  const again = await SealedStore.open(path, site);
  t.same(again.keys().sort(), ['a', 'b', 'c', 'token']);
  await again.reseal(passphrase('correct horse'));
  t.equal((await SealedStore.head(path)).mode.name, 'passphrase');
  t.same((await SealedStore.open(path, passphrase('correct horse'))).get('a'), bytes('kept'));
});

t.test('a closed store has wiped what it held and takes nothing more', async (t) => {
  const [path, key] = [newPath(), newKey()];
  const store = await SealedStore.create(path, key);
  await store.set('a', bytes('kept'));
  await store.close();
  t.same(store.keys(), []);
  await t.rejects(store.set('b', bytes('x')), { code: 'handle_closed' });
  t.same((await SealedStore.open(path, key)).keys(), ['a'], 'the key that was given is its giver’s');
});

t.test('a file made to look whole is still bounded and authenticated', async (t) => {
  const [path, key] = [newPath(), newKey()];
  await (await SealedStore.create(path, key)).set('a', bytes('some secret'));
  const good = await readFile(path);
  const sealAs = (change: (body: Buffer) => void) => {
    const body = Buffer.from(good.subarray(0, -32));
    change(body);
    const parts = [0, 24, 100, body.length - 48, body.length - 32].map((from, index, all) => body.subarray(from, all[index + 1])).slice(0, 4);
    for (const [index, part] of parts.entries()) body.set(createHash('sha256').update(part).digest().subarray(0, 8), body.length - 32 + 8 * index);
    return writeFile(path, Buffer.concat([body, createHash('sha256').update(body).digest()]));
  };
  const HEAD = 'selvedge sealed\n'.length;
  await sealAs((body) => void body.writeUInt8(3, HEAD));
  await t.rejects(SealedStore.open(path, key), { code: 'store_format_unknown', message: /format 3/ });
  await sealAs((body) => void body.writeUInt8(9, HEAD + 1));
  await t.rejects(SealedStore.open(path, key), { code: 'store_damaged', message: /unknown kind/ });
  for (const [cost, passes] of [
    [40, 1],
    [0, 1],
    [15, 0],
    [15, 255],
  ] as const) {
    await sealAs((body) => body.set([1, cost, passes], HEAD + 1));
    await t.rejects(SealedStore.open(path, passphrase('correct horse')), { code: 'store_damaged', message: /scrypt cost/ });
  }
  await sealAs((body) => body.set([2, 0, 0, 0, 0, 0, 0], HEAD + 1));
  await t.rejects(SealedStore.open(path, key), { code: 'store_damaged', message: /no generation/ });
  // A person can mend every checksum; the tag is what finds it then.
  for (const at of [HEAD + 2, HEAD + 5, HEAD + 9, HEAD + 45, HEAD + 80, good.length - 70]) {
    await sealAs((body) => void body.writeUInt8((body[at] ?? 0) ^ 1, at));
    await t.rejects(SealedStore.open(path, key), { code: 'store_locked' });
  }
  await truncate(path, 0);
  await t.rejects(SealedStore.open(path, key), { code: 'store_damaged' });
  await truncate(path, limits.sealed_store_bytes_max + 1);
  await t.rejects(SealedStore.open(path, key), { code: 'store_damaged', message: /at most/ });
});

t.test('a store is neither replaced by a new one nor made up when it is missing', async (t) => {
  const [path, key] = [newPath(), newKey()];
  await t.rejects(SealedStore.open(path, key), { code: 'not_found' });
  await SealedStore.create(path, key);
  await t.rejects(SealedStore.create(path, key), { code: 'file_exists' });
  await t.rejects(SealedStore.create(join(directory, 'none', 'x'), key), { code: 'not_found' });
});

t.test('what is over a limit is refused and changes nothing', async (t) => {
  const [path, key] = [newPath(), newKey()];
  const store = await SealedStore.create(path, key);
  await store.set('a', bytes('kept'));
  await t.rejects(store.set('n'.repeat(limits.sealed_store_name_bytes_max + 1), bytes('x')), { code: 'limit_reached' });
  await t.rejects(store.set('big', new Uint8Array(limits.sealed_store_bytes_max)), { code: 'limit_reached' });
  await t.rejects(store.update(Object.fromEntries(Array.from({ length: limits.sealed_store_entries_max + 1 }, (_, index) => [`n${index}`, bytes('x')]))), {
    code: 'limit_reached',
  });
  const again = await SealedStore.open(path, key);
  for (const kept of [store, again]) t.same(kept.keys(), ['a']);
});

t.test('a full or read-only disk is named, and the old state stays, in memory and on disk', async (t) => {
  if (process.getuid?.() !== 0) return t.fail('needs root, to mount a file system of its own that can be full');
  const disk = join(directory, 'disk');
  await mkdir(disk);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'selvedge-test', disk]);
  try {
    const [path, key] = [join(disk, 'sealed.bin'), newKey()];
    const store = await SealedStore.create(path, key);
    await store.set('a', bytes('old'));
    await t.rejects(store.update({ a: bytes('new'), ballast: new Uint8Array(100 * 1024) }), { code: 'disk_full', message: new RegExp(path) });
    const next = newKey();
    await t.rejects(store.reseal(next, { ballast: new Uint8Array(100 * 1024) }), { code: 'disk_full' });
    await t.rejects(SealedStore.open(path, next), { code: 'store_locked' }, 'nor is it half sealed anew');
    t.same(store.get('a'), bytes('old'));
    t.same((await SealedStore.open(path, key)).get('a'), bytes('old'));
    t.same(await readdir(disk), ['sealed.bin'], 'no half-written file is left');
    await store.set('a', bytes('newer'));
    t.same((await SealedStore.open(path, key)).get('a'), bytes('newer'), 'writing goes on once there is space');
    await run('mount', ['-o', 'remount,ro', disk]);
    await t.rejects(store.set('a', bytes('newest')), { code: 'permission_denied' });
    t.same(store.get('a'), bytes('newer'));
  } finally {
    await run('umount', [disk]);
  }
});

t.test('a file is replaced whole, with its mode, and a symbolic link is replaced, not followed', async (t) => {
  const path = newPath();
  await writeFileAtomic(path, bytes('one'), { mode: 0o640 });
  t.equal((await stat(path)).mode & 0o777, 0o640);
  t.same(await readFileBounded(path, 3), bytes('one'));
  await t.rejects(readFileBounded(path, 2), { code: 'store_damaged' });
  await t.rejects(readFileBounded(directory, 10_000), { code: 'store_damaged', message: /regular/ });
  const fifo = newPath();
  await run('mkfifo', [fifo]);
  await t.rejects(readFileBounded(fifo, 10), { code: 'store_damaged', message: /regular/ }, 'and nobody waits for its writer');
  t.equal(await readFileBounded(newPath(), 10), null);
  const link = newPath();
  await symlink(path, link);
  await writeFileAtomic(link, bytes('two'));
  t.same(await readFileBounded(path, 3), bytes('one'));
  t.equal((await stat(link)).mode & 0o777, 0o600);
  await writeFile(`${path}.0123456789ab.tmp`, '');
  await writeFile(`${path}.mine.tmp`, '');
  await removeLeftovers(path);
  t.same(
    (await readdir(directory)).filter((name) => name.endsWith('.tmp')),
    [`${path.slice(directory.length + 1)}.mine.tmp`],
    'only what this program left',
  );
  await rm(`${path}.mine.tmp`);
});

/** Written by format 1: `a` is 'old secret', `b` is empty; sealed with a key of 32 sevens, and with 'correct horse'. */
const formatOne = [
  'c2VsdmVkZ2Ugc2VhbGVkCgEAAAAyoiSlsOPL0bpID5pFR/ftfrkNry0UoIjL38DgQ5jzYQQfRoojgP16sEwgvm3P87pOHjeXfjFo9Y0WuwthT/WSoIENo0H250gesROucKzHp+p7M88C8IgPgqhkIrbzgegEX9HN0x9Ey7r5SVIobddfSX7TPvvIqkg/Rp8IPyNwIiAfJKJKbrywVU8Mdek=',
  'c2VsdmVkZ2Ugc2VhbGVkCgEBDwNrHZoK5ykpZbmAIAVCPy7dW1yL9YHveUOI4VKnulfOefRq+ZX7QNCaGuMaJuCFlacjY0klllDQA4KZacrFxp5DpmeoRce9t6xdG+jy9tHKKGaYi1RNcoZY7cFAA4sAAt+TyJblZFV2OP0Ms12Aa0zVlaenOY+xsNbtNjdyUJVsjyt0WpFUUn+5Zy2Uelw=',
];
