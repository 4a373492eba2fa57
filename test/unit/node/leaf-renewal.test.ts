/** A node's leaf over its life: a real tower and a real state directory, a flow in memory between them, and a clock that the test steps. */
import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { callHome } from '../../../src/enroll/call-home.ts';
import { RENEW_SERVICE } from '../../../src/enroll/renew-wire.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { NodeState } from '../../../src/enroll/state.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { LeafRenewal } from '../../../src/node/leaf-renewal.ts';
import { serveRenewals } from '../../../src/tower/renewing/fabric.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { systemTimers, type Timers } from '../../../src/transport/system.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { MemoryNet } from '../services/memory-mesh.ts';
import { DAY_MS, makeTower, random, serve, unseal } from '../tower/support.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(120_000);

interface Scene {
  readonly tower: Tower;
  readonly clock: VirtualTimers;
  readonly net: MemoryNet;
  readonly path: string;
  state: NodeState;
  renewal: LeafRenewal;
  readonly logs: EventEmitter;
  /** Opens the state from the disk, as after a kill. */
  restart(): Promise<void>;
  leaf(): Uint8Array;
  isAccepted(leaf: NodeState['credentials']): boolean;
}

async function scene(t: Test): Promise<Scene> {
  const clock = new VirtualTimers();
  const tower = await makeTower(t, { clock: clock.clock });
  const served = await serve(t, tower, { clock: clock.clock });
  const path = join(freshDirectory(t), 'a');
  const { text } = await tower.createToken({ uses: 1, life_ms: DAY_MS });
  const state = await callHome({
    state: path,
    unseal,
    tower: { host: served.host, port: served.port },
    fingerprint: tower.rootFingerprint,
    proof: tokenMaker(text),
    cluster: tokenMaker(text).cluster,
    name: 'a',
    listen: [],
    timers: { clock: clock.clock, after: systemTimers.after },
    random,
    attempts_max: 1,
  });
  const net = new MemoryNet();
  const service = serveRenewals(net.mesh('tower'), tower.renewals, clock, () => undefined);
  t.teardown(() => service.close());
  const logs = new EventEmitter();
  // The pause in which peers hear of a new leaf is real I/O elsewhere; here it takes no time.
  const timers: Timers = {
    clock: clock.clock,
    after: (ms, action) => {
      if (ms !== limits.leaf_publish_ms) return clock.after(ms, action);
      const soon = setImmediate(action);
      return () => clearImmediate(soon);
    },
  };
  const renewalOf = (of: NodeState): LeafRenewal =>
    new LeafRenewal({
      mesh: net.mesh(of.identity.node),
      state: of,
      timers,
      random: { bytes: random.bytes, unit: () => 0.5 },
      onRenewed: async () => ({ moved: 1, of: 1 }),
      log: (message, facts) => void logs.emit(message, facts),
    });
  const made: Scene = {
    tower,
    clock,
    net,
    path,
    state,
    renewal: renewalOf(state),
    logs,
    async restart() {
      this.renewal.close();
      this.state = await NodeState.load(path, unseal, clock.clock.wall());
      this.renewal = renewalOf(this.state);
    },
    leaf() {
      return this.state.credentials.chain[0] ?? new Uint8Array();
    },
    isAccepted({ chain }) {
      try {
        const { roots, recordedFingerprint, cluster } = tower;
        return verifyPeer({ chain, roots, cluster, now_ms: clock.clock.wall(), usage: 'client', recordedFingerprint }).identity.node === state.identity.node;
      } catch {
        return false;
      }
    },
  };
  t.teardown(() => made.renewal.close());
  return made;
}

const identityOf = ({ state: { identity } }: Scene) => ({ cluster: identity.cluster, site: identity.site, node: identity.node });

t.test('a leaf is renewed at two thirds of its life, by itself, again and again, and the old one goes', async (t) => {
  const s = await scene(t);
  s.renewal.start();
  for (let round = 0; round < 3; round++) {
    const before = s.state.credentials;
    await s.clock.advance(19 * DAY_MS);
    t.equal(s.state.credentials, before, 'not before it is due');
    const renewed = once(s.logs, 'certificate renewed');
    await s.clock.advance(DAY_MS);
    await renewed;
    t.not(Buffer.compare(s.leaf(), before.chain[0] ?? new Uint8Array()), 0);
    t.ok(s.isAccepted(before) && s.isAccepted(s.state.credentials), 'both are accepted until the new one was seen');
    await s.tower.renewals.seen(identityOf(s), fingerprint(s.leaf()));
    t.ok(s.isAccepted(before), 'and for as long as channels need to move');
    await s.clock.advance(limits.leaf_overlap_ms + 1_000);
    await s.tower.renewals.retire();
    t.notOk(s.isAccepted(before));
    t.ok(s.isAccepted(s.state.credentials));
  }
});

t.test('a kill at any step leaves a leaf that works, and the renewal goes on where it was', async (t) => {
  const s = await scene(t);
  // Before the request leaves: the key is sealed.
  s.net.isConnected = false;
  await t.rejects(s.renewal.renewNow(), { code: 'not_connected' });
  await s.restart();
  t.ok(s.isAccepted(s.state.credentials));
  // After the tower recorded it, before the answer is on disk.
  s.net.isConnected = true;
  s.net.cutAfter(1);
  await t.rejects(s.renewal.renewNow());
  const recorded = (await s.tower.nodes())[0]?.renewal?.next?.fingerprint;
  await s.restart();
  t.ok(s.isAccepted(s.state.credentials));
  const { now } = await s.renewal.renewNow();
  if (recorded !== undefined) t.equal(now, `sha256:${recorded}`, 'the same request has the same answer');
  // After it is on disk, before anybody has seen it.
  await s.restart();
  t.ok(s.isAccepted(s.state.credentials));
  const held = s.state.credentials;
  await s.renewal.renewNow();
  t.ok(s.isAccepted(held), 'the one that was held meanwhile is accepted too');
  await s.restart();
  t.ok(s.isAccepted(s.state.credentials));
});

t.test('a renewal that fails is told, and tried again later each time until it succeeds', async (t) => {
  const s = await scene(t);
  s.net.isConnected = false;
  s.renewal.start();
  const failed = once(s.logs, 'certificate not renewed');
  await s.clock.advance(Number(s.renewal.facts.certificate_renew_ms) - s.clock.clock.wall());
  t.match((await failed)[0], { code: 'not_connected', failures: 1 });
  t.match(s.renewal.facts, { certificate_renew_error: 'not_connected' });
  s.net.isConnected = true;
  const renewed = once(s.logs, 'certificate renewed');
  await s.clock.advance(limits.leaf_retry_ms_base);
  await renewed;
  t.match(s.renewal.facts, { certificate_renew_error: null });
});

t.test('two who ask at once get the same answer; a revoked node gets none; a bad request is refused with its code', async (t) => {
  const s = await scene(t);
  const [first, second] = await Promise.all([s.renewal.renewNow(), s.renewal.renewNow()]);
  t.strictSame(first, second);
  const ask = async (message: string) => {
    const flow = s.net.mesh(s.state.identity.node).open('tower', 'fabric_control', 'messages', RENEW_SERVICE);
    flow.send(new TextEncoder().encode(message));
    return (await flow.closed)?.code;
  };
  t.equal(await ask('{'), 'request_invalid');
  t.equal(await ask(JSON.stringify({ csr: 'AAAA', holding: 'zz' })), 'request_invalid');
  t.equal(await ask(JSON.stringify({ csr: 'AAAA', holding: '0'.repeat(64) })), 'csr_invalid');
  const other = s.net.mesh(s.state.identity.node).open('tower', 'clipboard', 'messages', RENEW_SERVICE);
  t.match(await other.closed, { code: 'channel_class_denied' });
  await s.tower.revokeNode(s.state.identity.node);
  await t.rejects(s.renewal.renewNow(), { code: 'certificate_revoked' });
  t.notOk(s.isAccepted(s.state.credentials));
});

t.test('asking too often is refused, whoever asks', async (t) => {
  const s = await scene(t);
  for (let round = 0; round < limits.leaf_requests_per_minute_max; round++) await s.renewal.renewNow();
  await t.rejects(s.renewal.renewNow(), { code: 'rate_limited' });
});
