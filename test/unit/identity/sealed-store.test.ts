/** Secrets at rest: whole after a kill, refused when damaged, shut without their key, and intact when the disk is full. */
import { execFile, spawn } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { toHex } from '../../../src/base/ids.ts';
import { limits } from '../../../src/base/limits.ts';
import { readFileBounded, removeLeftovers, writeFileAtomic } from '../../../src/identity/files.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { createKeyFile, loadOrCreateUnsealKey, loadUnsealKey, type UnsealKey } from '../../../src/identity/unseal.ts';
import { systemRandom } from '../../../src/transport/system.ts';

const run = promisify(execFile);
const KILLS = 32;

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

t.test('a file made to look whole is still bounded and authenticated', async (t) => {
  const [path, key] = [newPath(), newKey()];
  await (await SealedStore.create(path, key)).set('a', bytes('some secret'));
  const good = await readFile(path);
  const sealAs = (change: (body: Buffer) => void) => {
    const body = Buffer.from(good.subarray(0, -32));
    change(body);
    return writeFile(path, Buffer.concat([body, createHash('sha256').update(body).digest()]));
  };
  const HEAD = 'selvedge sealed\n'.length;
  await sealAs((body) => void body.writeUInt8(2, HEAD));
  await t.rejects(SealedStore.open(path, key), { code: 'store_damaged', message: /version 2/ });
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
  for (const at of [HEAD + 2, HEAD + 4, HEAD + 40, good.length - 33]) {
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

t.test('killed at any moment, a store holds the old state or the new, never anything else', { timeout: 120_000 }, async (t) => {
  const [path, key] = [newPath(), newKey()];
  await SealedStore.create(path, key);
  let inTheMiddle = 0;
  let last = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const acknowledged = await writeUntilKilled(path, toHex(key.key), randomInt(1, 6), randomInt(0, 4_000) / 1_000);
    inTheMiddle += (await readdir(directory)).filter((name) => name.endsWith('.tmp')).length;
    const store = await SealedStore.open(path, key);
    const [left, right] = ['left', 'right'].map((name) => Number(Buffer.from(store.get(name) ?? []).toString()));
    if (left !== right || left === undefined || left < acknowledged || acknowledged <= last)
      t.fail(`kill ${kill}: left ${left}, right ${right}, acknowledged ${acknowledged}, before ${last}`);
    last = left ?? last;
  }
  t.ok(last > KILLS, `${last} changes over ${KILLS} kills`);
  t.ok(inTheMiddle > 0, `${inTheMiddle} of the kills fell into a write`);
  t.same(
    (await readdir(directory)).filter((name) => name.endsWith('.tmp')),
    [],
    'what the killed left behind is gone',
  );
});

/** The last number that the writer said was durable, before it was killed: `delay_ms` after its change number `changes`. */
function writeUntilKilled(path: string, hex: string, changes: number, delay_ms: number): Promise<number> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.resolve('./store-writer.ts')), path, hex], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  let isDoomed = false;
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (isDoomed || output.split('\n').length <= changes) return;
    isDoomed = true;
    setTimeout(() => child.kill('SIGKILL'), delay_ms);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve(Number(output.split('\n').at(-2))));
  });
}

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

t.test('an unseal key comes from a private file only, in hex or base64, or is made once', async (t) => {
  const path = join(directory, 'keys', 'unseal.key');
  t.equal(await createKeyFile(path), true);
  t.equal(await createKeyFile(path), false, 'never replaced');
  t.equal((await stat(path)).mode & 0o777, 0o600);
  const key = await loadUnsealKey({ keyFile: path });
  t.same(await loadOrCreateUnsealKey({ keyFile: path }), key);
  const put = async (content: string | Uint8Array, mode = 0o600) => {
    const file = newPath();
    await writeFileAtomic(file, typeof content === 'string' ? bytes(content) : content, { mode });
    return file;
  };
  const secret = systemRandom.bytes(32);
  const expected = { kind: 'key', key: secret };
  t.same(await loadUnsealKey({ keyFile: await put(`${toHex(secret)}\n`) }), expected);
  t.same(await loadUnsealKey({ keyFile: await put(Buffer.from(secret).toString('base64')) }), expected);
  const refused = async (source: Parameters<typeof loadUnsealKey>[0], why: RegExp) =>
    t.rejects(loadUnsealKey(source), { code: 'unseal_key_invalid', message: why });
  await refused({ keyFile: await put(toHex(secret), 0o640) }, /mode 0640.*chmod 600/);
  await refused({ keyFile: await put(toHex(secret).slice(2)) }, /32 bytes/);
  await refused({ keyFile: await put(secret) }, /32 bytes/);
  await refused({ keyFile: await put('') }, /32 bytes/);
  await refused({ keyFile: await put('a'.repeat(5000)) }, /longer than/);
  await refused({ keyFile: newPath() }, /no such file/);
  await refused({ keyFile: directory }, /regular file|others may/);
  const fifo = newPath();
  await run('mkfifo', ['-m', '600', fifo]);
  await refused({ keyFile: fifo }, /regular file/);
  t.same(await loadUnsealKey({ passphraseFile: await put('correct horse\r\n') }), { kind: 'passphrase', passphrase: bytes('correct horse') });
  await refused({ passphraseFile: await put('short\n') }, /at least 8/);
  await refused({ passphraseFile: await put('correct horse', 0o604) }, /mode 0604/);
  await t.rejects(loadOrCreateUnsealKey({ passphraseFile: newPath() }), { code: 'unseal_key_invalid' }, 'a passphrase is never made up');
  await t.rejects(loadUnsealKey({ keyFile: path, passphraseFile: path }), { code: 'argument_invalid' });
});
