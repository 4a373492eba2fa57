/**
 * Whatever comes while a host joins or comes back, by the network or from a file: it is refused with a code of the table, in bounded time, and nothing is left unhandled. Good input
 * has one thing done to it, at any depth.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { isErrorCode, SelvedgeError } from '../../src/base/errors.ts';
import { bootRequest } from '../../src/enroll/boot-request.ts';
import { BOOT_FILE, BootFile } from '../../src/enroll/boot-file.ts';
import { callHomeBy, callPreflight } from '../../src/enroll/preflight.ts';
import { readCallHomePem } from '../../src/enroll/proofs/x509.ts';
import { toBase64 } from '../../src/identity/base64.ts';
import { createCsr } from '../../src/identity/csr.ts';
import { generateKeyPair } from '../../src/identity/keys.ts';
import { systemClock, systemTimers } from '../../src/transport/system.ts';
import { publicApi } from '../../src/tower/api.ts';
import { Nonces } from '../../src/tower/enrolling/nonces.ts';
import { freshDirectory } from '../compliance/store.ts';
import { HOUR_MS, makeTower, serve } from '../unit/tower/support.ts';

t.setTimeout(240_000);

const RUNS = { numRuns: Number(process.env.FUZZ_RUNS ?? 150) };
/** For one input, on a machine that does other things as well. */
const ANSWER_MS_MAX = 10_000;

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const odd: fc.Arbitrary<Json> = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<Json>,
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.constantFrom<Json>(
    '',
    'AAAA',
    '__proto__',
    '../../x',
    '\u0000',
    -1,
    2 ** 53,
    1e308,
    'A'.repeat(5_000),
    Array.from({ length: 50 }, () => 'AAAA'),
  ),
);

/** Every place in it, as the keys that lead there. */
function places(value: Json, path: readonly string[] = []): (readonly string[])[] {
  const inside = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return [path, ...inside.flatMap(([key, each]) => places(each as Json, [...path, key]))];
}

/** `good` with what is at one place taken out, replaced, doubled, or something laid beside it. */
function altered(good: Json): fc.Arbitrary<Json> {
  return fc.tuple(fc.constantFrom(...places(good)), fc.constantFrom('replace', 'remove', 'add', 'flip'), odd, fc.nat()).map(([path, how, with_, at]) => {
    const copy = structuredClone(good);
    const last = path.at(-1);
    if (last === undefined) return how === 'replace' ? with_ : copy;
    const holder = path.slice(0, -1).reduce<Record<string, Json>>((inside, key) => inside[key] as Record<string, Json>, copy as Record<string, Json>);
    const before = holder[last];
    if (how === 'remove') delete holder[last];
    else if (how === 'add') holder[`${last}x`] = with_;
    else if (how === 'flip' && typeof before === 'string' && before.length > 0) holder[last] = flipped(before, at % before.length);
    else holder[last] = with_;
    return copy;
  });
}

const flipped = (text: string, at: number) => `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`;

/** The code with which it was refused; null where it was taken. Anything else is a failure of the test. */
async function codeOf(work: () => unknown): Promise<string | null> {
  const began_ms = systemClock.now();
  const error = await Promise.resolve()
    .then(work)
    .then(
      () => null,
      (caught: unknown) => caught,
    );
  const took_ms = systemClock.now() - began_ms;
  if (took_ms > ANSWER_MS_MAX) throw new Error(`it took ${took_ms} ms`);
  if (error === null) return null;
  if (!(error instanceof SelvedgeError) || error.code === 'internal_error') throw error;
  return error.code;
}

const unhandled: unknown[] = [];
process.on('unhandledRejection', (error) => unhandled.push(error));

const tower = await makeTower(t);
const failures: unknown[] = [];
const api = await publicApi(tower, { clock: systemClock, per_minute_max: 1e9, open_per_minute_max: 1e9, onFailure: (error) => failures.push(error) });
t.teardown(() => api.close());

async function post(url: string, payload: string): Promise<string | null> {
  const answer = await api.inject({ method: 'POST', url, payload, headers: { 'content-type': 'application/json' } });
  if (answer.statusCode === 200) return null;
  const { code } = answer.json<{ code: string }>();
  if (!isErrorCode(code) || answer.statusCode >= 500) throw new Error(`${url} answered ${answer.statusCode} ${code}`);
  return code;
}

function pending() {
  const { privateKey } = generateKeyPair();
  return { key: privateKey, csr: createCsr(privateKey) };
}

t.test('bodies of the open requests', async (t) => {
  const { text: token } = await tower.createToken({ uses: 10_000, life_ms: HOUR_MS });
  const { text: preflight } = await tower.createToken({ uses: 10_000, life_ms: HOUR_MS, purpose: 'preflight' });
  const [own, boot] = [pending(), pending()];
  const facts = { machine: 'ab'.repeat(32), macs: 'cd'.repeat(32), addresses: ['192.0.2.7'] };
  const { nonce } = tower.challenge();
  const csr = toBase64(own.csr);
  const base = { csr, name: 'one', listen: [{ host: '192.0.2.7', tcp: 443, udp: 443 }], facts, boot: bootRequest(own, boot, true) };
  const bodies: [string, Json][] = [
    ['/v1/enroll', { ...base, proof: { kind: 'token', token } }],
    ['/v1/enroll', { ...base, proof: { kind: 'host-id', host: 'sn-0042' } }],
    ['/v1/enroll', { ...base, proof: { kind: 'x509', nonce, chain: [csr], signature: 'AAAA' } }],
    ['/v1/enroll', { ...base, proof: { kind: 'fingerprint', nonce, host: facts, signature: 'AAAA' } }],
    ['/v1/enroll/challenge', {}],
    ['/v1/preflight', { token: preflight, csr }],
    ['/v1/unseal', { generation: 1 }],
  ];
  for (const [url, good] of bodies) {
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(altered(good), async (body) => {
        if ((await post(url, JSON.stringify(body))) !== null) refused++;
      }),
      RUNS,
    );
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 200 }), async (text) => void (await post(url, text))),
      RUNS,
    );
    t.ok(refused > 0 || url.endsWith('challenge'), `${url}: ${refused} refused`);
  }
  t.strictSame(failures, [], 'nothing of it was a failure of the tower');
});

t.test('nonces', async (t) => {
  const nonces = new Nonces({ clock: systemClock });
  const good = nonces.issue().nonce;
  const any = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.nat(good.length - 1).map((at) => flipped(good, at)),
    fc.nat(good.length - 1).map((length) => good.slice(0, length)),
  );
  await fc.assert(
    fc.asyncProperty(any, async (nonce) => (await codeOf(() => nonces.spend(nonce))) === 'nonce_invalid'),
    { numRuns: 2_000 },
  );
  t.equal(nonces.size, 0);
  t.equal(await codeOf(() => nonces.spend(good)), null);
});

t.test('files of a call-home certificate', async (t) => {
  const own = generateKeyPair();
  const { chain } = await tower.grants.issueCallHome(createCsr(own.privateKey), { days: 1, host: 'sn-0042', site: 'north' }, 'test');
  const block = (what: string, der: Uint8Array) => `-----BEGIN ${what}-----\n${toBase64(der)}\n-----END ${what}-----\n`;
  const good = `${block('PRIVATE KEY', own.privateKey)}${chain.map((der) => block('CERTIFICATE', der)).join('')}`;
  t.equal(readCallHomePem(Buffer.from(good)).chain.length, 2);
  const any = fc.oneof(
    fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes)),
    fc.nat(good.length - 1).map((at) => Buffer.from(flipped(good, at))),
    fc.nat(good.length - 1).map((length) => Buffer.from(good.slice(0, length))),
    fc.integer({ min: 1, max: 60 }).map((times) => Buffer.from(good + block('CERTIFICATE', chain[0] ?? new Uint8Array()).repeat(times))),
  );
  await fc.assert(
    fc.asyncProperty(any, async (bytes) => [null, 'proof_invalid'].includes(await codeOf(() => readCallHomePem(bytes)))),
    { numRuns: 1_000 },
  );
});

t.test('the file of a pre-flight', async (t) => {
  const served = await serve(t, tower);
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS, purpose: 'preflight' });
  const file = join(freshDirectory(t), 'call-home.json');
  await callPreflight({ file, tower: served, fingerprint: tower.rootFingerprint, token, timers: systemTimers });
  const good = JSON.parse(await readFile(file, 'utf8')) as Json;
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        altered(good).map((value) => JSON.stringify(value)),
        fc.string({ unit: 'binary', maxLength: 300 }),
      ),
      async (text) => {
        await writeFile(file, text);
        await codeOf(() => callHomeBy(file, systemClock.wall()));
      },
    ),
    RUNS,
  );
});

t.test('the boot file', async (t) => {
  const state = freshDirectory(t);
  const [own, boot] = [pending(), pending()];
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const request = { proof: { kind: 'token' as const, token }, csr: toBase64(own.csr), name: 'boot', site: 'north', listen: [] };
  const { node } = await tower.enroll({ ...request, boot: bootRequest(own, boot, false) }, '192.0.2.1');
  const report = { have: 9, sealed: 0, boot: null, key: toBase64(generateKeyPair().publicKey), csr: toBase64(boot.csr) };
  const chain = (await tower.unsealing.report(node, report))?.boot ?? [];
  const identity = { key: toBase64(boot.key), chain: [...chain] };
  const endpoint = { host: '192.0.2.1', tcp: 443, udp: null };
  const next = { key: toBase64(own.key), csr: toBase64(own.csr) };
  const who = { format: 1, cluster: 'alpha', site: 'north', node };
  const good = { ...who, roots: tower.roots.map(toBase64), tower: [endpoint], peers: [{ id: node, endpoints: [endpoint] }], identity, next };
  const use = async () => {
    const file = await BootFile.read(state);
    if (file === null) throw new Error('it is there');
    await file.request(systemClock.wall());
    return [file.credentials, file.roots, file.fingerprint];
  };
  await writeFile(join(state, BOOT_FILE), JSON.stringify(good));
  t.equal(await codeOf(use), null);
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        altered(good as Json).map((value) => JSON.stringify(value)),
        fc.string({ unit: 'binary', maxLength: 300 }),
      ),
      async (text) => {
        await writeFile(join(state, BOOT_FILE), text);
        return [null, 'store_damaged'].includes(await codeOf(use));
      },
    ),
    RUNS,
  );
});

t.test('and no rejection was left unhandled', async (t) => {
  // One turn, in which a promise that nobody waits for would be told.
  await new Promise(setImmediate);
  t.strictSame(unhandled, []);
});
