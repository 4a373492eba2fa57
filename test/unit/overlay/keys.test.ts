/** WireGuard keys: made right, kept only sealed, and rotated so that both work until the old one is not used any more. */
import { createPublicKey, diffieHellman, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { KeyKeeper } from '../../../src/overlay/key-keeper.ts';
import { nextStep, readKeyRing, saveKeyRing, WIREGUARD_SECRET, withNewKey } from '../../../src/overlay/keys.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { unseal } from '../tower/support.ts';

const MINUTE_MS = 60_000;

t.test('a key is one of X25519, in the base64 of WireGuard', async (t) => {
  const [one] = withNewKey([], 1);
  const [two] = withNewKey([], 1);
  if (!one || !two) throw new Error('no keys');
  for (const key of [one.privateKey, one.publicKey]) t.match(key, /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/);
  const secret = (mine: string, theirs: string) =>
    diffieHellman({
      privateKey: createPrivateKey({
        key: Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), Buffer.from(mine, 'base64')]),
        format: 'der',
        type: 'pkcs8',
      }),
      publicKey: createPublicKey({
        key: Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), Buffer.from(theirs, 'base64')]),
        format: 'der',
        type: 'spki',
      }),
    }).toString('hex');
  t.equal(secret(one.privateKey, two.publicKey), secret(two.privateKey, one.publicKey));
});

t.test('keys are only in the sealed store, and come back from it', async (t) => {
  const path = join(freshDirectory(t), 'sealed.bin');
  const store = await SealedStore.create(path, unseal);
  t.same(readKeyRing(store), []);
  const ring = withNewKey(withNewKey([], 1), 2);
  await saveKeyRing(store, ring);
  t.same(readKeyRing(await SealedStore.open(path, unseal)), ring);
  t.notOk(readFileSync(path).includes(ring[0]?.privateKey ?? ''));
  t.same(
    ring.map(({ portOffset }) => portOffset),
    [1, 0],
    'two keys have two ports',
  );
  for (const garbage of ['', '{}', '{"format":1,"keys":[{"privateKey":"AA==","made_ms":1,"portOffset":0}]}']) {
    await store.update({ [WIREGUARD_SECRET]: new TextEncoder().encode(garbage) });
    t.throws(() => readKeyRing(store), { code: 'store_damaged' });
  }
});

t.test('a key is made when there is none or it is old, and the old one goes when nobody uses it any more', async (t) => {
  const [first] = withNewKey([], 0);
  if (!first) throw new Error('no key');
  const facts = { now_ms: 100, age_ms_max: 1_000, published_ms_ago: null, oldUsed_ms_ago: null };
  t.equal(nextStep([], facts), 'make');
  t.equal(nextStep([first], facts), 'none');
  t.equal(nextStep([first], { ...facts, now_ms: 1_000 }), 'make');
  t.equal(nextStep([first], { ...facts, now_ms: -1_000_000 }), 'none', 'a clock that was set back makes no keys');
  const both = withNewKey([first], 1_000);
  const unused = { ...facts, oldUsed_ms_ago: limits.wireguard_unused_ms_min };
  t.equal(nextStep(both, unused), 'none', 'never before the tower knows the new one');
  t.equal(nextStep(both, { ...unused, published_ms_ago: limits.wireguard_overlap_ms_min - 1 }), 'none');
  t.equal(nextStep(both, { ...unused, published_ms_ago: limits.wireguard_overlap_ms_min }), 'drop');
  t.equal(nextStep(both, { ...facts, published_ms_ago: 10 * MINUTE_MS, oldUsed_ms_ago: 1_000 }), 'none', 'while it is used it stays');
  t.equal(nextStep(both, { ...facts, published_ms_ago: limits.wireguard_overlap_ms_max, oldUsed_ms_ago: 1_000 }), 'drop', 'but not for ever');
});

t.test('a keeper goes through a rotation, and refuses a second one meanwhile', async (t) => {
  const timers = new VirtualTimers();
  const secrets = await SealedStore.create(join(freshDirectory(t), 'sealed.bin'), unseal);
  const told: unknown[] = [];
  const keeper = new KeyKeeper({ secrets, timers, age_ms_max: 30 * MINUTE_MS, log: (_message, facts) => told.push(facts) });
  const use = { published_ms_ago: null, oldUsed_ms_ago: null };
  t.equal(await keeper.step(use), true);
  t.equal(await keeper.step(use), false);
  const [first] = keeper.ring;
  await timers.advance(30 * MINUTE_MS);
  t.equal(await keeper.step(use), true);
  t.equal(keeper.ring[1], first);
  await rejectsWith(t, keeper.rotate(), 'argument_invalid');
  t.equal(await keeper.step({ published_ms_ago: 10 * MINUTE_MS, oldUsed_ms_ago: 10 * MINUTE_MS }), true);
  t.equal(keeper.ring.length, 1);
  t.not(keeper.ring[0], first);
  t.same(readKeyRing(secrets), keeper.ring);
  for (const { privateKey } of keeper.ring) t.notOk(JSON.stringify(told).includes(privateKey), 'no secret in the log');
});
