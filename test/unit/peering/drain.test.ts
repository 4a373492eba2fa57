/** A host empties itself: flows finish, or are ended, or are overdue; nothing new begins; and it comes back into service. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import type { DrainStatus } from '../../../src/peering/drain.ts';
import type { FlowHandle } from '../../../src/peering/mesh.ts';
import { converse, echo, Hosts } from './hosts.ts';

async function connected(seed: number): Promise<Hosts> {
  const hosts = new Hosts(seed);
  hosts.b.handle('echo', (flow) => void echo(flow).catch(() => {}));
  hosts.connect();
  await hosts.until(() => hosts.state === 'established' && hosts.b.status()[0]?.state === 'established');
  return hosts;
}

/** What a drain came to; null while it goes on. */
function watched(over: Promise<DrainStatus>): () => DrainStatus | null {
  let result: DrainStatus | null = null;
  void over.then((status) => {
    result = status;
  });
  return () => result;
}

t.test('a host without flows has drained at once, and its peers know', async (t) => {
  const hosts = await connected(1);
  const over = watched(hosts.b.drain({ deadline_ms: 60_000, force: false }));
  t.ok(await hosts.until(() => over() !== null, 500));
  t.match(over(), { state: 'drained', flows: 0, forced: 0 });
  t.ok(await hosts.until(() => hosts.state === 'draining', 100));
  t.throws(() => hosts.a.open('beta', 'clipboard', 'stream', 'echo'), { code: 'peer_draining' });
  hosts.b.undrain();
  t.ok(await hosts.until(() => hosts.state === 'established', 100));
  t.equal(hosts.b.drainStatus.state, 'none');
  t.same(await hosts.close(), []);
});

t.test('what is there finishes before the deadline, and only then has the host drained', async (t) => {
  const hosts = await connected(2);
  let received = 0;
  const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 3_000_000).then((whole) => {
    received = whole.received;
  });
  await hosts.run(20);
  const over = watched(hosts.b.drain({ deadline_ms: 60_000, force: false }));
  await hosts.run(20);
  t.equal(over(), null);
  t.match(hosts.b.drainStatus, { state: 'draining', flows: 1 });
  t.ok(await hosts.until(() => over() !== null, 30_000));
  t.match(over(), { state: 'drained', forced: 0 });
  await talk;
  t.equal(received, 3_000_000);
  t.same(await hosts.close(), []);
});

t.test('what is left at the deadline is overdue without force, and not one look before; force ends it, with the reason', async (t) => {
  const hosts = await connected(3);
  const flow = hosts.a.open('beta', 'file_transfer', 'stream', 'echo');
  flow.write(new Uint8Array(100));
  await hosts.run(50);
  const over = watched(hosts.b.drain({ deadline_ms: 5_000, force: false }));
  await hosts.run(4_999);
  t.equal(over(), null);
  await hosts.run(limits.drain_look_ms + 1);
  t.match(over(), { state: 'overdue', flows: 1 });
  flow.write(new Uint8Array(100));
  await hosts.run(100);
  t.equal(flow.acknowledged, 200, 'it goes on');
  const forced = watched(hosts.b.drain({ deadline_ms: 0, force: true }));
  t.ok(await hosts.until(() => forced() !== null, 500));
  t.match(forced(), { state: 'drained', flows: 0, forced: 1 });
  let ended: Awaited<FlowHandle['closed']> = null;
  void flow.closed.then((error) => {
    ended = error;
  });
  await hosts.run(100);
  t.match(ended, { code: 'peer_draining' });
  t.ok(hosts.log.some((line) => line.includes('drain overdue')));
  t.same(await hosts.close(), []);
});

t.test('an overdue flow that ends after all leaves the host drained', async (t) => {
  const hosts = await connected(4);
  const flow = hosts.a.open('beta', 'clipboard', 'stream', 'echo');
  await hosts.run(50);
  const over = watched(hosts.b.drain({ deadline_ms: 100, force: false }));
  await hosts.run(300);
  t.match(over(), { state: 'overdue' });
  flow.end();
  t.ok(await hosts.until(() => hosts.b.drainStatus.state === 'drained', 500));
  t.same(await hosts.close(), []);
});

t.test('a draining host waits for its control messages to be taken', async (t) => {
  const hosts = await connected(5);
  const got: number[] = [];
  hosts.b.handle('slow', (flow) => {
    void (async () => {
      await new Promise<void>((resolve) => hosts.timers.after(300, resolve));
      for (let message = await flow.receive(); message !== null; message = await flow.receive()) got.push(message[0] ?? -1);
    })();
  });
  const flow = hosts.a.open('beta', 'fabric_control', 'messages', 'slow');
  for (let number = 0; number < 20; number++) flow.send(Uint8Array.of(number));
  await hosts.run(50);
  const over = watched(hosts.a.drain({ deadline_ms: 2_000, force: true }));
  await hosts.run(150);
  t.equal(over(), null, 'they are under way');
  t.ok(await hosts.until(() => over() !== null, 2_000));
  t.equal(got.length, 20);
  t.same(await hosts.close(), []);
});

t.test('no channel begins with a draining host, which dials none either; both are there again once it is back', async (t) => {
  for (const who of ['a', 'b'] as const) {
    const hosts = await connected(6);
    hosts[who].drain({ deadline_ms: 60_000, force: false });
    await hosts.run(200);
    const before = hosts.dials;
    if (who === 'b') {
      await hosts.a.close();
      await hosts.run(100);
      const twin = hosts.twin();
      await hosts.run(10_000);
      t.match(twin.status()[0], { last_error: { code: 'peer_draining' } });
      t.equal(hosts.b.status().length, 0);
      hosts.b.undrain();
      t.ok(await hosts.until(() => twin.status()[0]?.state === 'established', 60_000));
      void twin.close();
    } else {
      await hosts.restartB();
      await hosts.run(10_000);
      t.match(hosts.a.status()[0], { last_error: { code: 'peer_draining' } });
      t.ok(hosts.dials - before <= 1, 'but for the one that would have resumed');
      hosts.a.undrain();
      t.ok(await hosts.until(() => hosts.state === 'established', 1_000), 'at once');
    }
    t.same(await hosts.close(), []);
  }
});
