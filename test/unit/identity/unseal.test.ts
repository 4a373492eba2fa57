/** Every way of unsealing passes one suite; then what each reads, from where, and what it refuses. */
import { execFile, spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { toHex } from '../../../src/base/ids.ts';
import { writeFileAtomic } from '../../../src/identity/files.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { CREDENTIAL_NAME, loadCredential } from '../../../src/identity/unseal/credential.ts';
import { createKeyFile } from '../../../src/identity/unseal/key-file.ts';
import { siteUnsealKey } from '../../../src/identity/unseal/site.ts';
import { loadOrCreateUnsealKey, loadUnsealKey, type UnsealKey, unsealModes } from '../../../src/identity/unseal.ts';
import { systemRandom } from '../../../src/transport/system.ts';

const run = promisify(execFile);
const directory = await mkdtemp(join(tmpdir(), 'selvedge-unseal-'));
t.teardown(() => rm(directory, { recursive: true }));
let files = 0;
const newPath = (): string => join(directory, `file-${++files}`);
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** For each mode, a new key of it each time. */
const makers: Readonly<Record<UnsealKey['kind'], () => UnsealKey>> = {
  key: () => ({ kind: 'key', key: systemRandom.bytes(32) }),
  passphrase: () => ({ kind: 'passphrase', passphrase: systemRandom.bytes(12) }),
  credential: () => ({ kind: 'credential', key: systemRandom.bytes(32) }),
  site: () => siteUnsealKey({ generation: 5, token: systemRandom.bytes(32) }, '0123456789ab'),
};

t.test('modes have names and numbers of their own', async (t) => {
  t.equal(new Set(unsealModes.map((mode) => mode.number)).size, unsealModes.length);
  t.equal(new Set(unsealModes.map((mode) => mode.name)).size, unsealModes.length);
  t.same(unsealModes.map((mode) => mode.kind).sort(), Object.keys(makers).sort());
});

for (const mode of unsealModes) {
  const make = makers[mode.kind];
  t.test(`${mode.name}: what it seals it opens, another key of its own or of another mode does not`, async (t) => {
    const [path, key] = [newPath(), make()];
    const store = await SealedStore.create(path, key);
    await store.set('a', bytes('secret'));
    const head = await SealedStore.head(path);
    t.same([head.mode.name, head.format, mode.objection(head.key)], [mode.name, 2, null]);
    t.same((await SealedStore.open(path, key)).get('a'), bytes('secret'));
    await t.rejects(SealedStore.open(path, make()), { code: 'store_locked' });
    for (const other of unsealModes) {
      if (other.kind !== mode.kind)
        await t.rejects(SealedStore.open(path, makers[other.kind]()), {
          code: 'store_locked',
          message: other.kind === 'key' && mode.kind === 'credential' ? /not the one/ : /was sealed with/,
        });
    }
  });

  t.test(`${mode.name}: two stores of one key have heads of their own, and the key that was given stays the giver's`, async (t) => {
    const key = make();
    const before = JSON.stringify(key);
    const [one, two] = [newPath(), newPath()];
    await (await SealedStore.create(one, key)).close();
    await SealedStore.create(two, key);
    t.notSame((await SealedStore.head(one)).key.salt, (await SealedStore.head(two)).key.salt);
    t.equal(JSON.stringify(key), before);
  });

  t.test(`${mode.name}: a store of any other mode becomes one of this`, async (t) => {
    for (const other of unsealModes) {
      const [path, from, to] = [newPath(), makers[other.kind](), make()];
      const store = await SealedStore.create(path, from);
      await store.set('a', bytes('secret'));
      await store.reseal(to);
      t.same((await SealedStore.open(path, to)).get('a'), bytes('secret'));
      await t.rejects(SealedStore.open(path, from), { code: 'store_locked' });
    }
  });
}

t.test('a copy of the credential’s key, kept elsewhere, opens the store as a key file', async (t) => {
  const [path, key] = [newPath(), systemRandom.bytes(32)];
  await (await SealedStore.create(path, { kind: 'credential', key })).set('a', bytes('secret'));
  t.same((await SealedStore.open(path, { kind: 'key', key })).get('a'), bytes('secret'));
});

t.test('the site’s key is of one node and one generation', async (t) => {
  const token = { generation: 1, token: new Uint8Array(32).fill(9) };
  const key = siteUnsealKey(token, '0123456789ab').key;
  t.equal(toHex(key), 'cce1ebdc8c5c741ce4033431aa07f7d2e75250206b8734da6ca23648051f8458', 'and stays the same for ever');
  t.notSame(siteUnsealKey(token, '0123456789ac').key, key);
  t.notSame(siteUnsealKey({ ...token, generation: 2 }, '0123456789ab').key, key);
});

const put = async (content: string | Uint8Array, mode = 0o600) => {
  const file = newPath();
  await writeFileAtomic(file, typeof content === 'string' ? bytes(content) : content, { mode });
  return file;
};

t.test('an unseal key comes from a private file only, in hex or base64, or is made once', async (t) => {
  const path = join(directory, 'keys', 'unseal.key');
  t.equal(await createKeyFile(path), true);
  t.equal(await createKeyFile(path), false, 'never replaced');
  t.equal((await stat(path)).mode & 0o777, 0o600);
  const key = await loadUnsealKey({ keyFile: path });
  t.same(await loadOrCreateUnsealKey({ keyFile: path }), key);
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
  await t.rejects(loadUnsealKey({ keyFile: path, passphraseFile: path }), { code: 'argument_invalid' });
  await t.rejects(loadUnsealKey({ passphraseFd: 3, passphraseFile: path }), { code: 'argument_invalid' });
});

t.test('a passphrase comes from a private file or a descriptor, and is never made up', async (t) => {
  const expected = { kind: 'passphrase', passphrase: bytes('correct horse') };
  t.same(await loadUnsealKey({ passphraseFile: await put('correct horse\r\n') }), expected);
  const refused = async (source: Parameters<typeof loadUnsealKey>[0], why: RegExp) =>
    t.rejects(loadUnsealKey(source), { code: 'unseal_key_invalid', message: why });
  await refused({ passphraseFile: await put('short\n') }, /at least 8/);
  await refused({ passphraseFile: await put('correct horse', 0o604) }, /mode 0604/);
  await t.rejects(loadOrCreateUnsealKey({ passphraseFile: newPath() }), { code: 'unseal_key_invalid' });
  await using file = await open(await put('correct horse\n'));
  t.same(await loadUnsealKey({ passphraseFd: file.fd }), expected);
  await using long = await open(await put('a'.repeat(5000)));
  await refused({ passphraseFd: long.fd }, /more than/);
  await refused({ passphraseFd: 987 }, /descriptor 987/);
  await refused({ passphraseFile: undefined as never, passphraseFd: 988 }, /descriptor 988/);
});

t.test('a passphrase is asked for on a terminal, without showing it', async (t) => {
  const asked = spawn('script', ['-qec', `${process.execPath} ${fileURLToPath(import.meta.resolve('./fixtures/ask-passphrase.ts'))}`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let shown = '';
  asked.stdout.on('data', (chunk: Buffer) => {
    if (shown === '') asked.stdin.write('correct horsf\x7fe\r');
    shown += chunk.toString();
  });
  await new Promise((resolve) => asked.once('close', resolve));
  t.match(shown, /passphrase of the sealed store:\s+13 octets, as expected: true/);
  t.notMatch(shown, /correct/);
  await t.rejects(loadUnsealKey({}, 'passphrase'), { code: 'unseal_key_invalid', message: /no terminal/ });
});

t.test('a credential is read where systemd says, by its one name', async (t) => {
  const credentials = newPath();
  await mkdir(credentials);
  await t.rejects(loadCredential(undefined), { code: 'unseal_key_invalid', message: /CREDENTIALS_DIRECTORY/ });
  await t.rejects(loadCredential(credentials), { code: 'unseal_key_invalid', message: /no such file/ });
  const secret = systemRandom.bytes(32);
  const file = join(credentials, CREDENTIAL_NAME);
  await writeFile(file, `${toHex(secret)}\n`, { mode: 0o400 });
  await chmod(file, 0o400);
  t.same(await loadCredential(credentials), { kind: 'credential', key: secret });
});
