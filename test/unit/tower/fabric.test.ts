/** Snapshots over flows: a real tower, flows in memory, and a clock that the test steps. */
import { EventEmitter, once } from 'node:events';
import t, { type Test } from 'tap';
import { type ErrorCode, SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import type { FlowKind, TrafficClass } from '../../../src/channel/classes.ts';
import { openSnapshot } from '../../../src/enroll/snapshot.ts';
import { checkEnvelope, readJson, type Snapshot } from '../../../src/enroll/wire.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import type { FlowHandle, Mesh } from '../../../src/peering/mesh.ts';
import { systemClock, type Timers } from '../../../src/transport/system.ts';
import { serveSnapshots } from '../../../src/tower/fabric.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { HOUR_MS, makeTower } from './support.ts';

/** One flow, seen from the tower; the test plays the node. */
class NodeFlow implements FlowHandle {
  readonly class: TrafficClass;
  readonly kind: FlowKind;
  readonly service = 'snapshot';
  readonly peer: string;
  readonly closed: Promise<SelvedgeError | null>;
  readonly acknowledged = 0;
  readonly got: Uint8Array[] = [];
  resetCode: ErrorCode | null = null;
  isFull = false;
  readonly #events = new EventEmitter();
  readonly #toTower: (Uint8Array | null)[] = [];
  #close: (error: SelvedgeError | null) => void = () => {};

  constructor(peer: string, cls: TrafficClass = 'fabric_control', kind: FlowKind = 'messages') {
    this.peer = peer;
    this.class = cls;
    this.kind = kind;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  ask(message: unknown): void {
    this.#toTower.push(
      message === null ? null : typeof message === 'string' ? new TextEncoder().encode(message) : new TextEncoder().encode(JSON.stringify(message)),
    );
    this.#events.emit('asked');
  }

  async snapshotNumber(count: number, tower: Tower): Promise<Snapshot> {
    while (this.got.length < count) await once(this.#events, 'sent');
    const envelope = readJson(this.got[count - 1] ?? new Uint8Array(), limits.message_bytes_max, checkEnvelope);
    return openSnapshot(envelope, { roots: tower.roots, cluster: tower.cluster, node: this.peer, now_ms: systemClock.wall() });
  }

  unblock(): void {
    this.isFull = false;
    this.#events.emit('drained');
  }

  async receive(): Promise<Uint8Array | null> {
    while (this.#toTower.length === 0) await once(this.#events, 'asked');
    return this.#toTower.shift() ?? null;
  }

  send(message: Uint8Array): boolean {
    if (this.resetCode !== null) throw new SelvedgeError('handle_closed', { what: 'flow' });
    this.got.push(message);
    this.#events.emit('sent');
    return !this.isFull;
  }

  async drained(): Promise<void> {
    if (this.isFull) await once(this.#events, 'drained');
  }

  end(): void {
    this.#close(null);
  }

  reset(code: ErrorCode): void {
    this.resetCode ??= code;
    this.#close(new SelvedgeError(code));
    this.ask(null);
  }

  readonly write = () => false;
  readonly read = () => null;
  readonly readInto = () => 0;
  readonly readable = () => Promise.resolve(false);
}

async function fabric(t: Test) {
  const tower = await makeTower(t);
  let accept: (flow: FlowHandle) => void = () => t.fail('nobody handles the service');
  const mesh: Mesh = {
    open: () => {
      throw new SelvedgeError('not_connected', { peer: 'x', why: 'not here' });
    },
    handle: (service, handler) => {
      t.equal(service, 'snapshot');
      accept = handler;
    },
    status: () => [],
    close: () => Promise.resolve(),
  };
  const due: (() => void)[] = [];
  const timers: Timers = {
    clock: systemClock,
    after(delay_ms, action) {
      t.equal(delay_ms, limits.snapshot_refresh_ms);
      due.push(action);
      return () => due.splice(due.indexOf(action), 1);
    },
  };
  const failures: string[] = [];
  const heard = new EventEmitter();
  const service = serveSnapshots(mesh, tower, timers, (error) => {
    failures.push(error.code);
    heard.emit('failure');
  });
  const failed = async (code: ErrorCode) => {
    while (!failures.includes(code)) await once(heard, 'failure');
  };
  t.teardown(() => service.close());
  const join = async (name: string, site = 'north') => {
    const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
    return (await tower.enroll({ token, csr: Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64'), name, site, listen: [] })).node;
  };
  const connect = (flow: NodeFlow) => {
    accept(flow);
    return flow;
  };
  return { tower, service, failures, failed, join, connect, due };
}

t.test('a node that has nothing gets its snapshot, and one that has it gets nothing until there is something newer', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const [one, other] = [await join('one'), await join('other')];
  const flow = connect(new NodeFlow(one));
  flow.ask({ have: 0, listen: [] });
  const first = await flow.snapshotNumber(1, tower);
  t.strictSame(
    first.peers.map((peer) => peer.name),
    ['other'],
  );

  const again = connect(new NodeFlow(one));
  again.ask({ have: first.version, listen: [] });
  await tower.setEndpoints(other, [{ host: '192.0.2.2', tcp: 443, udp: 443 }]);
  const second = await again.snapshotNumber(1, tower);
  t.ok(second.version > first.version);
  t.equal(second.peers[0]?.endpoints[0]?.host, '192.0.2.2');
  t.equal(flow.resetCode, 'replaced', 'the flow before it is over');
});

t.test('a change is pushed to the nodes of its site and to no other', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const north = connect(new NodeFlow(await join('n')));
  const south = connect(new NodeFlow(await join('s', 'south')));
  for (const flow of [north, south]) flow.ask({ have: 0, listen: [] });
  await north.snapshotNumber(1, tower);
  await south.snapshotNumber(1, tower);
  await join('n2');
  t.strictSame(
    (await north.snapshotNumber(2, tower)).peers.map((peer) => peer.name),
    ['n2'],
  );
  await join('s2', 'south');
  t.strictSame(
    (await south.snapshotNumber(2, tower)).peers.map((peer) => peer.name),
    ['s2'],
  );
  t.equal(north.got.length, 2);
});

t.test('where a node listens reaches its peers, and that it was seen is recorded', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const [one, two] = [await join('one'), await join('two')];
  const watcher = connect(new NodeFlow(two));
  watcher.ask({ have: 0, listen: [] });
  await watcher.snapshotNumber(1, tower);
  const flow = connect(new NodeFlow(one));
  flow.ask({ have: 0, listen: [{ host: '198.51.100.4', tcp: 8443, udp: null }] });
  const pushed = await watcher.snapshotNumber(2, tower);
  t.strictSame(pushed.peers[0]?.endpoints, [{ host: '198.51.100.4', tcp: 8443, udp: null }]);
  await flow.snapshotNumber(1, tower);
  t.type((await tower.nodes()).find((row) => row.id === one)?.seen_ms, 'number');
});

t.test('many changes while a snapshot cannot leave become one', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const one = await join('one');
  const flow = connect(new NodeFlow(one));
  flow.isFull = true;
  flow.ask({ have: 0, listen: [] });
  await flow.snapshotNumber(1, tower);
  for (let index = 0; index < 5; index++) await join(`n${index}`);
  t.equal(flow.got.length, 1);
  flow.unblock();
  t.equal((await flow.snapshotNumber(2, tower)).peers.length, 5);
  t.equal(flow.got.length, 2);
});

t.test('a snapshot is sent anew before its time to live is over', async (t) => {
  const { tower, join, connect, due } = await fabric(t);
  const flow = connect(new NodeFlow(await join('one')));
  flow.ask({ have: 0, listen: [] });
  const first = await flow.snapshotNumber(1, tower);
  due.shift()?.();
  const second = await flow.snapshotNumber(2, tower);
  t.equal(second.version, first.version);
  t.ok(second.issued_ms >= first.issued_ms);
  t.equal(due.length, 1, 'and again after that');
  t.ok(limits.snapshot_refresh_ms < limits.snapshot_ttl_s * 1_000);
});

t.test('a node that breaks the rules loses its flow with the reason', async (t) => {
  const { tower, failed, join, connect } = await fabric(t);
  const one = await join('one');
  t.equal(connect(new NodeFlow(one, 'file_transfer')).resetCode, 'channel_class_denied');
  t.equal(connect(new NodeFlow(one, 'fabric_control', 'stream')).resetCode, 'flow_refused');
  t.equal(connect(new NodeFlow('tower')).resetCode, 'flow_refused');
  const wrong: [unknown, ErrorCode][] = [
    ['garbage', 'request_invalid'],
    [{ have: '1', listen: [] }, 'request_invalid'],
    [{ have: 0, listen: [], more: 1 }, 'request_invalid'],
    [{ have: 0, listen: Array.from({ length: 9 }, () => ({ host: 'h', tcp: 1, udp: null })) }, 'request_invalid'],
    [{ have: 0, listen: Array.from({ length: 4 }, () => ({ host: 'h'.repeat(250), tcp: 1, udp: null })) }, 'argument_invalid'],
  ];
  for (const [message, code] of wrong) {
    const flow = connect(new NodeFlow(one));
    flow.ask(message);
    await flow.closed;
    t.equal(flow.resetCode, code);
  }
  const stranger = connect(new NodeFlow('ffffffffffff'));
  stranger.ask({ have: 0, listen: [] });
  await stranger.closed;
  t.equal(stranger.resetCode, 'not_found');
  const busy = connect(new NodeFlow(await join('busy')));
  for (let index = 0; index <= limits.snapshot_requests_per_minute_max; index++) busy.ask({ have: 1_000_000, listen: [] });
  await busy.closed;
  t.equal(busy.resetCode, 'rate_limited');
  await tower.revokeNode(one);
  const revoked = connect(new NodeFlow(one));
  revoked.ask({ have: 0, listen: [] });
  await revoked.closed;
  t.equal(revoked.resetCode, 'certificate_revoked');
  await Promise.all([failed('request_invalid'), failed('certificate_revoked')]);
});

t.test('a node that ends its flow, and a service that closes, leave nothing behind', async (t) => {
  const { tower, service, failures, join, connect, due } = await fabric(t);
  const one = await join('one');
  const ended = connect(new NodeFlow(one));
  ended.ask({ have: 0, listen: [] });
  await ended.snapshotNumber(1, tower);
  ended.ask(null);
  t.equal(await ended.closed, null);
  const open = connect(new NodeFlow(one));
  open.ask({ have: 0, listen: [] });
  await open.snapshotNumber(1, tower);
  service.close();
  t.equal(open.resetCode, 'shutting_down');
  t.equal(due.length, 0);
  t.equal(connect(new NodeFlow(one)).resetCode, 'shutting_down');
  t.strictSame(failures, []);
});
