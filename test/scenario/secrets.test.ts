/**
 * Where secrets rest, after a tower and two nodes have lived for a while as their operators run them: every private key, token and passphrase is searched
 * by its octets, in the forms in which one might have written them, in every file, log, argument list and environment; and a daemon that
 * dies by an abort leaves no image of its memory.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createPrivateKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { SealedStore } from '../../src/identity/sealed-store.ts';
import { loadUnsealKey, type UnsealSource } from '../../src/identity/unseal.ts';
import { freshDirectory } from '../compliance/store.ts';
import { freePort } from '../fixtures/free-port.ts';

t.setTimeout(180_000);

const READY_MS = 60_000;
const program = (name: string): string => fileURLToPath(new URL(`../../daemon/${name}.ts`, import.meta.url));

interface Started {
  readonly child: ChildProcess;
  /** What /proc told of it while it ran. */
  readonly proc: Promise<Buffer>;
}

/** Runs programs, and keeps what they print and what the system shows of them. */
class Runs {
  readonly seen: Promise<Buffer>[] = [];
  readonly #logs: string;

  constructor(logs: string) {
    this.#logs = logs;
  }

  start(t: Test, name: string, args: readonly string[]): Started {
    const child = spawn(process.execPath, [program(name), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    const log = createWriteStream(join(this.#logs, `${name}-${child.pid}.log`));
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    const proc = Promise.all(['cmdline', 'environ'].map((file) => readFile(`/proc/${child.pid}/${file}`))).then(Buffer.concat);
    this.seen.push(proc);
    return { child, proc };
  }

  async run(t: Test, name: string, args: readonly string[]): Promise<string> {
    const { child } = this.start(t, name, args);
    const printed: Buffer[] = [];
    child.stdout?.on('data', (piece: Buffer) => printed.push(piece));
    const errors: Buffer[] = [];
    child.stderr?.on('data', (piece: Buffer) => errors.push(piece));
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new Error(`${name} ${args.slice(0, 2).join(' ')} ended with ${code}: ${Buffer.concat(errors).toString()}`);
    return Buffer.concat(printed).toString();
  }
}

async function listening(path: string, { child }: Started): Promise<void> {
  const until = performance.now() + READY_MS;
  for (;;) {
    const isUp = await new Promise<boolean>((resolve) => {
      const socket = connect({ path }, () => resolve(true)).once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (isUp) return;
    if (child.exitCode !== null || performance.now() > until) throw new Error(`nobody listens at ${path}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** All that a sealed store holds and that nobody else may know: certificates are for everybody. */
async function secretsOf(state: string, source: UnsealSource, kind: 'key' | 'passphrase'): Promise<[string, Uint8Array][]> {
  const store = await SealedStore.peek(join(state, 'sealed.bin'), await loadUnsealKey(source, kind));
  const found = store.keys().flatMap((name): [string, Uint8Array][] => {
    const secret = store.get(name);
    return secret === null || isCertificate(secret) || /\.crt$|chain|leaf|trust/.test(name) ? [] : [[`${state} ${name}`, secret]];
  });
  await store.close();
  return found.flatMap(([name, secret]) => [[name, secret], ...scalarOf(name, secret)] as [string, Uint8Array][]);
}

const isCertificate = (bytes: Uint8Array): boolean => bytes[0] === 0x30 && bytes[1] === 0x82;

/** The number itself of a private key, which another encoding would hold too. */
function scalarOf(name: string, secret: Uint8Array): [string, Uint8Array][] {
  try {
    const { d = '' } = createPrivateKey({ key: Buffer.from(secret), format: 'der', type: 'pkcs8' }).export({ format: 'jwk' });
    return [[`${name} (number)`, new Uint8Array(Buffer.from(d, 'base64url'))]];
  } catch {
    return [];
  }
}

/** As octets, hexadecimal, and base64 at each of its three alignments, where the ends that depend on neighbours are left out. */
function formsOf(secret: Uint8Array): Buffer[] {
  const raw = Buffer.from(secret);
  const base64 = [0, 1, 2].map((shift) =>
    Buffer.concat([Buffer.alloc(shift), raw])
      .toString('base64')
      .replace(/=+$/, '')
      .slice(shift === 0 ? 0 : 4, -2),
  );
  const texts = [raw.toString('hex'), raw.toString('hex').toUpperCase(), ...base64, ...base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_'))];
  return [raw, ...texts.map((text) => Buffer.from(text))];
}

async function* filesBelow(directory: string): AsyncGenerator<string> {
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) if (entry.isFile()) yield join(entry.parentPath, entry.name);
}

t.test('no secret is in clear in any file, log, argument list or environment, and no core is left', async (t) => {
  const directory = freshDirectory(t);
  const [logs, keys] = [join(directory, 'logs'), join(directory, 'keys')];
  await Promise.all([mkdir(logs), mkdir(keys)]);
  const runs = new Runs(logs);
  const state = (name: string): string => join(directory, name);
  const [towerKey, aKey, phraseFile, tokenFile] = ['tower.key', 'a.key', 'phrase', 'token'].map((name) => join(keys, name)) as [string, string, string, string];
  const passphrase = `correct horse ${randomBytes(12).toString('hex')}`;
  await writeFile(phraseFile, `${passphrase}\n`, { mode: 0o600 });
  const port = String(await freePort());

  const made = JSON.parse(await runs.run(t, 'tower', ['init', '--cluster', 'alpha', '--state', state('tower'), '--key-file', towerKey, '--json'])) as {
    fingerprint: string;
  };
  const tower = runs.start(t, 'tower', ['run', '--state', state('tower'), '--key-file', towerKey, '--listen', '127.0.0.1', '--port', port]);
  await listening(join(state('tower'), 'tower.sock'), tower);
  const created = JSON.parse(
    await runs.run(t, 'selvedge', ['token', 'create', '--uses', '2', '--expires', '1h', '--socket', join(state('tower'), 'tower.sock'), '--json']),
  ) as { token: string };
  // The one place where a token is shown; it is not a log.
  for await (const file of filesBelow(logs)) await writeFile(file, (await readFile(file, 'utf8')).replaceAll(created.token, ''));
  await writeFile(tokenFile, created.token, { mode: 0o600 });
  const unseals = { a: ['--key-file', aKey], b: ['--passphrase-file', phraseFile] } as const;
  const daemons: Started[] = [];
  for (const name of ['a', 'b'] as const) {
    const where = [
      '--tower',
      `127.0.0.1:${port}`,
      '--fingerprint',
      made.fingerprint,
      '--token-file',
      tokenFile,
      '--name',
      name,
      '--site',
      'harbor',
      '--state',
      state(name),
    ];
    await runs.run(t, 'selvedge', ['join', ...where, ...unseals[name], '--json']);
    const daemon = runs.start(t, 'selvedged', ['--state', state(name), ...unseals[name]]);
    await listening(join(state(name), 'selvedged.sock'), daemon);
    daemons.push(daemon);
  }
  const file = join(directory, 'cargo');
  await writeFile(file, randomBytes(100_000));
  await runs.run(t, 'selvedge', ['ping', 'tower', '--class', 'input', '--count', '3', '--state', state('a'), '--json']);
  await runs.run(t, 'selvedge', ['send', file, 'tower', '--state', state('a'), '--json']);
  await runs.run(t, 'selvedge', ['status', '--state', state('b'), '--json']);

  for (const { child } of [tower, ...daemons]) {
    t.match(await readFile(`/proc/${child.pid}/limits`, 'utf8'), /^Max core file size +0 /m, 'no image of its memory may be written');
    const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    child.kill('SIGABRT');
    t.same((await ended)[1], 'SIGABRT');
  }
  const secrets: [string, Uint8Array][] = [
    ...(await secretsOf(state('tower'), { keyFile: towerKey }, 'key')),
    ...(await secretsOf(state('a'), { keyFile: aKey }, 'key')),
    ...(await secretsOf(state('b'), { passphraseFile: phraseFile }, 'passphrase')),
    ['token', Buffer.from(created.token)],
    ['what is in the token', Buffer.from(created.token.split('_').at(-1) ?? '', 'base64url')],
    ['passphrase', Buffer.from(passphrase)],
    ['key of the tower’s store', Buffer.from((await readFile(towerKey, 'utf8')).trim())],
    ['key of a’s store', Buffer.from((await readFile(aKey, 'utf8')).trim())],
  ];
  t.ok(secrets.length >= 12, `${secrets.length} secrets: ${secrets.map(([name]) => name.replace(directory, '')).join(', ')}`);
  const places: [string, Buffer][] = await Promise.all(runs.seen.map(async (proc): Promise<[string, Buffer]> => ['arguments or environment', await proc]));
  for await (const path of filesBelow(directory)) if (!path.startsWith(keys)) places.push([path.replace(directory, ''), await readFile(path)]);
  const found = secrets.flatMap(([name, secret]) => {
    const forms = formsOf(secret);
    return places.flatMap(([place, bytes]) => (forms.some((form) => bytes.includes(form)) ? [`${name.replace(directory, '')} in ${place}`] : []));
  });
  t.same(found, [], `searched in ${places.length} places`);
  t.notOk(
    places.some(([place]) => /(^|\/)core(\.\d+)?$/.test(place)),
    'no core file',
  );
  const planted = formsOf(secrets[0]?.[1] ?? new Uint8Array());
  t.ok(
    planted.every((form) => Buffer.concat([Buffer.from('before'), form, Buffer.from('after')]).includes(form)),
    'and the search finds what is there',
  );
});
