/**
 * Every parser of identity under random bytes and under good input that was altered: it refuses with a code of the table, whatever comes,
 * and accepts nothing that was altered.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { SelvedgeError } from '../../src/base/errors.ts';
import { equalBytes } from '../../src/base/ids.ts';
import { createAuthority, issueChain } from '../../src/identity/authority.ts';
import { fromBase64, toBase64 } from '../../src/identity/base64.ts';
import { createCsr, parseCsr } from '../../src/identity/csr.ts';
import { parseFingerprint } from '../../src/identity/fingerprint.ts';
import { generateKeyPair, p256Objection } from '../../src/identity/keys.ts';
import { intermediateObjection } from '../../src/identity/profile.ts';
import { SealedStore } from '../../src/identity/sealed-store.ts';
import { openDocument, signDocument } from '../../src/identity/signed-document.ts';
import { decodeTrustBundle, encodeTrustBundle, rootObjection, trustBundleFromJson } from '../../src/identity/trust-bundle.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { systemRandom as random } from '../../src/transport/system.ts';

const RUNS = { numRuns: Number(process.env.FUZZ_RUNS ?? 400) };
const now_ms = Date.UTC(2026, 10, 22, 12);
const identity = { cluster: 'c1', site: 's1', node: '0123456789ab' };
const authority = await createAuthority({ cluster: 'c1', now_ms, random });
const keys = generateKeyPair();
const chain = await issueChain(authority, { identity, publicKey: keys.publicKey, now_ms, random });
const [leaf = new Uint8Array(), intermediate = new Uint8Array()] = chain;

/** Random bytes, some of them beginning like DER. */
const garbage = fc.oneof(
  fc.uint8Array({ maxLength: 600 }),
  fc.uint8Array({ maxLength: 600 }).map((bytes) => Uint8Array.of(0x30, 0x82, 0x01, 0x00, ...bytes)),
);

/** `good` with one thing done to it that changes it. */
function altered(good: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat(good.length - 1);
  return fc
    .oneof(
      fc.tuple(at, fc.integer({ min: 1, max: 255 })).map(([index, mask]) => good.map((octet, here) => (here === index ? octet ^ mask : octet))),
      at.map((length) => good.slice(0, length)),
      fc
        .tuple(at, fc.uint8Array({ minLength: 1, maxLength: 8 }))
        .map(([index, more]) => Uint8Array.of(...good.subarray(0, index), ...more, ...good.subarray(index))),
      fc.tuple(at, fc.integer({ min: 1, max: 16 })).map(([index, count]) => Uint8Array.of(...good.subarray(0, index), ...good.subarray(index + count))),
      fc.uint8Array({ minLength: 1, maxLength: 8 }).map((more) => Uint8Array.of(...good, ...more)),
    )
    .filter((bytes) => !equalBytes(bytes, good));
}

function holds<T>(test: Pick<typeof t, 'pass'>, property: fc.IProperty<T>): void {
  fc.assert(property, RUNS);
  test.pass();
}

/** True if it refused with a code of the table; anything else that is thrown fails the test by itself. */
function refuses(run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch (error) {
    if (error instanceof SelvedgeError) return true;
    throw error;
  }
}

async function refusesLater(run: Promise<unknown>): Promise<boolean> {
  const [outcome] = await Promise.allSettled([run]);
  return refuses(() => {
    if (outcome?.status === 'rejected') throw outcome.reason;
  });
}

/** Returns or refuses, and does nothing else. */
const survives = (run: () => unknown): boolean => refuses(run) || true;

t.test('a request is refused unless it is exactly what its sender signed', async () => {
  const csr = createCsr(keys.privateKey, 'hint');
  await fc.assert(fc.asyncProperty(garbage, (bytes) => refusesLater(parseCsr(bytes))));
  await fc.assert(fc.asyncProperty(altered(csr), (bytes) => refusesLater(parseCsr(bytes))));
});

t.test('a chain with any byte of its leaf or intermediate changed is refused', async (t) => {
  const verify = (shown: readonly Uint8Array[]) => refuses(() => verifyPeer({ chain: shown, roots: [authority.root], cluster: 'c1', now_ms, usage: 'client' }));
  holds(
    t,
    fc.property(garbage, garbage, (one, two) => verify([one, two]) && verify([leaf, two]) && verify([one, intermediate])),
  );
  holds(
    t,
    fc.property(altered(leaf), (bytes) => verify([bytes, intermediate])),
  );
  holds(
    t,
    fc.property(altered(intermediate), (bytes) => verify([leaf, bytes])),
  );
});

t.test('a damaged trust bundle makes every chain refused, never accepted by mistake', async (t) => {
  holds(
    t,
    fc.property(fc.oneof(garbage, altered(authority.root)), (root) =>
      survives(() => verifyPeer({ chain, roots: [root], cluster: 'c1', now_ms, usage: 'client' })),
    ),
  );
  holds(
    t,
    fc.property(fc.oneof(garbage, altered(authority.root)), (root) => rootObjection(root) !== null),
  );
  const bundle = encodeTrustBundle({ version: 1, roots: [authority.root] });
  holds(
    t,
    fc.property(fc.oneof(garbage, altered(bundle)), (bytes) => survives(() => decodeTrustBundle(bytes))),
  );
  holds(
    t,
    fc.property(fc.jsonValue(), (json) => refuses(() => trustBundleFromJson(json))),
  );
});

t.test('a signed document with any part changed is refused', async (t) => {
  const payload = new TextEncoder().encode(JSON.stringify({ version: 3, cluster: 'c1' }));
  const envelope = await signDocument('snapshot', payload, authority);
  const open = (value: unknown) => openDocument('snapshot', value, { roots: [authority.root], now_ms, payload_bytes_max: 4096 });
  const part = (text: string | undefined) => altered(fromBase64(text, 8192) ?? new Uint8Array(1)).map(toBase64);
  holds(
    t,
    fc.property(fc.jsonValue(), (json) => refuses(() => open(json))),
  );
  holds(
    t,
    fc.property(part(envelope.payload), (changed) => refuses(() => open({ ...envelope, payload: changed }))),
  );
  holds(
    t,
    fc.property(part(envelope.signature), (changed) => refuses(() => open({ ...envelope, signature: changed }))),
  );
  holds(
    t,
    fc.property(part(envelope.chain[0]), (changed) => refuses(() => open({ ...envelope, chain: [changed] }))),
  );
  holds(
    t,
    fc.property(fc.string(), (text) => refuses(() => open({ ...envelope, payload: text, signature: text, chain: [text] }))),
  );
});

t.test('a sealed store of any content is refused, also when its checksum was made to match', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'selvedge-fuzz-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'sealed.bin');
  const key = { kind: 'key', key: random.bytes(32) } as const;
  const store = await SealedStore.create(path, key);
  await store.set('a', random.bytes(40));
  const good = new Uint8Array(await readFile(path));
  const withChecksum = altered(good.slice(0, -32)).map((body) => Uint8Array.of(...body, ...createHash('sha256').update(body).digest()));
  const opens = async (content: Uint8Array): Promise<boolean> => {
    await writeFile(path, content);
    return await SealedStore.open(path, key).then(
      () => true,
      (error: unknown) => {
        if (error instanceof SelvedgeError && /^store_(damaged|locked|format_unknown)$/.test(error.code)) return false;
        throw error;
      },
    );
  };
  await fc.assert(
    fc.asyncProperty(fc.oneof(garbage, altered(good), withChecksum), async (content) => !(await opens(content))),
    RUNS,
  );
  t.pass('nothing altered was opened');
});

t.test('keys, fingerprints and base64 are read in their one form only', async (t) => {
  holds(
    t,
    fc.property(fc.oneof(garbage, altered(keys.publicKey)), (bytes) => p256Objection(bytes) !== null),
  );
  holds(
    t,
    fc.property(fc.oneof(garbage, altered(intermediate)), (bytes) => survives(() => intermediateObjection(bytes))),
  );
  holds(
    t,
    fc.property(fc.string(), (text) => refuses(() => parseFingerprint(text))),
  );
  holds(
    t,
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => equalBytes(fromBase64(toBase64(bytes), 100) ?? new Uint8Array(101), bytes)),
  );
  holds(
    t,
    fc.property(fc.oneof(fc.string(), fc.base64String()), (text) => [null, text].includes(toBase64OrNull(fromBase64(text, 1000)))),
  );
});

function toBase64OrNull(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : toBase64(bytes);
}
