/** A node's state: which snapshots it takes. */
import { mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { callHome } from '../../../src/enroll/call-home.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { packSnapshot } from '../../../src/enroll/snapshot.ts';
import { NodeState } from '../../../src/enroll/state.ts';
import { toBase64 } from '../../../src/identity/base64.ts';
import { signDocument } from '../../../src/identity/signed-document.ts';
import { openTower } from '../../../src/tower/init.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import { makeAuthority } from '../../fixtures/certs.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, random, serve, shiftedClock, unseal } from '../tower/support.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(120_000);

async function take(node: NodeState, message: Uint8Array, now_ms: number): Promise<boolean> {
  const isTaken = node.takeSnapshot(message, now_ms);
  await node.keepSnapshot();
  return isTaken;
}

const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

t.test('a node takes a newer snapshot of its own and keeps it; an older one, a foreign one and a changed one it does not', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const served = await serve(t, tower);
  const { text: token } = await tower.createToken({ uses: 2, life_ms: HOUR_MS });
  const parent = freshDirectory(t);
  const common = {
    unseal,
    tower: served,
    fingerprint: tower.rootFingerprint,
    proof: tokenMaker(token),
    cluster: 'alpha',
    listen: [],
    timers: systemTimers,
    random,
    attempts_max: 1,
  };
  const node = await callHome({ ...common, state: join(parent, 'a'), name: 'a' });
  const first = readFileSync(join(node.path, 'snapshot.json'));
  const now = () => systemClock.wall();

  const other = await callHome({ ...common, state: join(parent, 'b'), name: 'b' });
  const newer = bytesOf((await tower.snapshot(node.identity.node)).envelope);
  t.equal(await take(node, newer, now()), true);
  t.strictSame(
    node.snapshot.peers.map((peer) => peer.name),
    ['b'],
  );
  t.strictSame((await NodeState.load(node.path, unseal, now())).snapshot, node.snapshot);
  t.equal(node.snapshotExpires_ms, node.snapshot.issued_ms + limits.snapshot_ttl_s * 1_000);

  t.equal(await take(node, newer, now()), false, 'the same again');
  t.equal(await take(node, first, now()), false, 'an older one');
  t.strictSame((await NodeState.load(node.path, unseal, now())).snapshot, node.snapshot, 'what is on disk is the newest');

  clock.offset_ms = HOUR_MS;
  const before = node.snapshotExpires_ms;
  t.equal(await take(node, bytesOf((await tower.snapshot(node.identity.node)).envelope), now()), true, 'the same version issued later');
  t.ok(node.snapshotExpires_ms >= before + HOUR_MS);

  const held = node.snapshot;
  const { envelope } = await tower.snapshot(node.identity.node);
  const json = gunzipSync(Buffer.from(envelope.payload, 'base64')).toString();
  const payload = Buffer.from(json.replace('"version":', '"version":9')).toString('base64');
  await rejectsWith(t, take(node, bytesOf({ ...envelope, payload }), now()), 'document_invalid');
  await rejectsWith(t, take(node, bytesOf((await tower.snapshot(other.identity.node)).envelope), now()), 'wrong_node');
  const stranger = await makeTower(t);
  const { text } = await stranger.createToken({ uses: 1, life_ms: HOUR_MS });
  const foreign = await callHome({
    ...common,
    tower: await serve(t, stranger),
    fingerprint: stranger.rootFingerprint,
    proof: tokenMaker(text),
    cluster: 'alpha',
    state: join(parent, 'c'),
    name: 'c',
  });
  await rejectsWith(t, take(node, readFileSync(join(foreign.path, 'snapshot.json')), now()), 'document_invalid');
  await rejectsWith(t, take(node, bytesOf({}), now()), 'request_invalid');
  await rejectsWith(t, take(node, new Uint8Array(limits.snapshot_envelope_bytes_max + 1), now()), 'body_too_large');
  t.strictSame(node.snapshot, held);
});

t.test('a node that was away takes up where the tower is, also after a restart of the tower', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const request = {
    state: join(freshDirectory(t), 'a'),
    unseal,
    tower: served,
    fingerprint: tower.rootFingerprint,
    proof: tokenMaker(token),
    cluster: 'alpha',
    name: 'a',
    listen: [],
    timers: systemTimers,
    random,
  };
  const node = await callHome(request);
  await tower.close();
  const endpoints = [{ host: '198.51.100.1', tcp: 443, udp: 443 }];
  const again = await openTower({ state: tower.state, unseal, endpoints, clock: systemClock, random });
  t.teardown(() => again.close());
  const { version, envelope } = await again.snapshot(node.identity.node);
  t.ok(version > node.snapshot.version);
  t.equal(await take(node, bytesOf(envelope), systemClock.wall()), true);
  t.strictSame(node.snapshot.tower.endpoints, endpoints);
});

t.test('a snapshot that finds no room on the disk holds all the same, and is kept once there is room', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const { text: token } = await tower.createToken({ uses: 2, life_ms: HOUR_MS });
  const common = {
    unseal,
    tower: served,
    fingerprint: tower.rootFingerprint,
    proof: tokenMaker(token),
    cluster: 'alpha',
    listen: [],
    timers: systemTimers,
    random,
  };
  const parent = freshDirectory(t);
  const node = await callHome({ ...common, state: join(parent, 'a'), name: 'a' });
  const other = await callHome({ ...common, state: join(parent, 'b'), name: 'b' });
  const next = async () => bytesOf((await tower.snapshot(node.identity.node)).envelope);
  t.equal(await take(node, await next(), systemClock.wall()), true);
  t.equal(node.snapshot.peers.length, 1);

  // In the way of the rename.
  const path = join(node.path, 'snapshot.json');
  rmSync(path);
  mkdirSync(path);
  await tower.revokeNode(other.identity.node);
  t.equal(node.takeSnapshot(await next(), systemClock.wall()), true);
  await t.rejects(node.keepSnapshot());
  t.strictSame(node.snapshot.peers, [], 'the revoked peer is gone');
  rmdirSync(path);
  await node.keepSnapshot();
  t.strictSame((await NodeState.load(node.path, unseal, systemClock.wall())).snapshot, node.snapshot);
});

t.test(
  'a newer trust bundle counts from its snapshot on, also after a restart and a kill; an older or another one, and one without the signer’s root, do not',
  async (t) => {
    const clock = shiftedClock();
    const tower = await makeTower(t, { clock });
    const served = await serve(t, tower);
    const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
    const node = await callHome({
      state: join(freshDirectory(t), 'a'),
      unseal,
      tower: served,
      fingerprint: tower.rootFingerprint,
      proof: tokenMaker(text),
      cluster: 'alpha',
      name: 'a',
      listen: [],
      timers: systemTimers,
      random,
      attempts_max: 1,
    });
    t.teardown(() => node.secrets.close());
    const now = () => systemClock.wall();
    const [own] = tower.roots;
    if (own === undefined) throw new Error('a tower has a root');
    const second = new Uint8Array((await makeAuthority('alpha')).root);
    const third = new Uint8Array((await makeAuthority('alpha')).root);
    const say = async (version: number, roots: readonly Uint8Array[]): Promise<Uint8Array> => {
      clock.offset_ms += 1_000;
      const known = await tower.known(node.identity.node);
      const { payload, signature, chain } = await signDocument(
        'snapshot',
        await packSnapshot({ ...known, trust: { version, roots: roots.map(toBase64) } }),
        tower.own,
      );
      return bytesOf({ payload, signature, chain });
    };
    const trusted = ({ trust }: NodeState) => [trust.version, ...trust.roots.map(toBase64)];
    const both = [2, toBase64(own), toBase64(second)];

    t.equal(node.takeSnapshot(await say(2, [own, second]), now()), true);
    t.strictSame(trusted(node), both);
    await node.keepSnapshot();
    t.strictSame(trusted(await NodeState.load(node.path, unseal, now())), both, 'after a restart');
    t.equal(await take(node, await say(1, [own]), now()), true, 'the snapshot is newer, its bundle is not');
    t.equal(await take(node, await say(2, [own, third]), now()), true);
    t.strictSame(trusted(node), both);
    await rejectsWith(t, (async () => node.takeSnapshot(await say(3, [third]), now()))(), 'document_invalid');
    t.strictSame(trusted(node), both);
    // Killed between the snapshot and the bundle.
    const last = await say(4, [own, third]);
    t.equal(node.takeSnapshot(last, now()), true);
    writeFileSync(join(node.path, 'snapshot.json'), last);
    t.strictSame(trusted(await NodeState.load(node.path, unseal, now())), [4, toBase64(own), toBase64(third)], 'after a kill');
  },
);
