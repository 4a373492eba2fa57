/**
 * What every `Session` promises (src/transport/session.ts), as one suite. An implementation's test hands over how to make a
 * connected pair; it may say what it does not have (datagrams, a path that can be cut to pieces or severed).
 */
import type { Test } from 'tap';
import { limits } from '../../src/base/limits.ts';
import type { PathFacts } from '../../src/transport/session.ts';
import { type End, Ends, type PairOptions, pattern, plain, type SessionImplementation, sameFrames, silentHandler } from './session-end.ts';

export type { PairOptions, SessionImplementation, SessionPair } from './session-end.ts';

const CLOSED_REASON = 'because the test says so';

export async function sessionSuite(t: Test, implementation: SessionImplementation): Promise<void> {
  t.comment(`session suite over ${implementation.name}`);
  const before = openResources();
  const test = (name: string, body: (t: Test, ends: Ends) => Promise<void>, options?: PairOptions): Promise<unknown> =>
    t.test(name, async (t) => {
      const ends = await Ends.open(implementation, options);
      try {
        await body(t, ends);
      } finally {
        await ends.close();
      }
      t.same(ends.violations(), [], 'the rules for calls to the handler held');
    });

  await test('each side knows its part, its address and the chain that the other showed', async (t, { dialer, acceptor, pair }) => {
    t.same([dialer.session.side, acceptor.session.side], ['dialer', 'acceptor']);
    t.same([dialer.session.transport, acceptor.session.transport], [implementation.name, implementation.name]);
    t.same(plain(dialer.session.peerChain), plain(pair.acceptorChain));
    t.same(plain(acceptor.session.peerChain), plain(pair.dialerChain));
    t.match(dialer.session.remote, /.:\d+$/);
    t.equal(dialer.session.remote, acceptor.session.local);
    t.equal(dialer.session.local, acceptor.session.remote);
    t.notOk(dialer.session.isClosed);
  });

  await test('a pending session reads nothing, and holds its peer back in bounded memory', async (t, { dialer, acceptor }) => {
    dialer.approve();
    const body = new Uint8Array(16 * 1024);
    let written = 0;
    let blocked = false;
    while (!blocked && written < 256 * 1024 * 1024) {
      if (dialer.send(1, 'bulk', body)) written += body.length;
      else blocked = !(await dialer.writableWithin(1, 300));
    }
    t.ok(blocked, `the writer was held back after ${written} octets`);
    t.notOk(dialer.session.ready('bulk'), 'the bulk lane is not ready');
    t.ok(dialer.session.facts().unsent_bytes <= limits.session_unsent_bytes_max + body.length, 'what is kept is bounded');
    t.equal(acceptor.session.facts().received_bytes, 0, 'nothing was delivered');
    acceptor.approve();
    await acceptor.until(() => acceptor.frames(1).length === dialer.sentFrames(1).length);
    t.ok(sameFrames(acceptor.frames(1), dialer.sentFrames(1)), 'everything arrives after approval');
    await dialer.until(() => dialer.session.ready('bulk'));
  });

  await test(
    'a session that nobody approves closes itself with handshake_timeout',
    async (t, { dialer, acceptor }) => {
      dialer.approve();
      t.equal((await dialer.ended()).code, 'handshake_timeout');
      t.ok(acceptor.session.isClosed);
      t.throws(() => acceptor.approve(), { code: 'handle_closed' });
    },
    { handshake_ms: 150 },
  );

  await test('frames of a flow arrive whole and in order, whatever their size, from either side first', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    const sizes = [0, 1, 2, 63, 64, 1_300, 16_383, 16_384, 16_385, 65_535, limits.frame_payload_bytes_max];
    for (const [from, to] of [
      [acceptor, dialer],
      [dialer, acceptor],
    ] as const) {
      for (const [index, lane] of (['bulk', 'urgent'] as const).entries()) {
        const flow = index + 1;
        for (const size of sizes) await from.sendPatiently(flow, lane, pattern(size, size));
        from.send(flow, lane, null);
        await to.until(() => to.frames(flow).length === sizes.length + 1);
        t.ok(sameFrames(to.frames(flow), from.sentFrames(flow)), `${from.session.side} ${lane}`);
      }
    }
  });

  await test('many flows at once do not mix', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    await exchange(t, dialer, acceptor, { flows: 48, rounds: 24, bytesMax: 20_000 });
  });

  if (implementation.hostile) {
    await test(
      'a path that cuts everything into tiny pieces changes nothing',
      async (t, { dialer, acceptor }) => {
        dialer.approve();
        acceptor.approve();
        await exchange(t, dialer, acceptor, { flows: 6, rounds: 4, bytesMax: 900 });
        dialer.close('policy_denied', CLOSED_REASON);
        t.equal((await acceptor.ended()).code, 'policy_denied');
      },
      { hostile: true },
    );

    await test(
      'a path that dies ends both sides with network_unreachable',
      async (t, { dialer, acceptor, pair }) => {
        dialer.approve();
        acceptor.approve();
        dialer.send(1, 'bulk', pattern(100, 1));
        await acceptor.until(() => acceptor.frames(1).length === 1);
        pair.sever?.();
        t.equal((await dialer.ended()).code, 'network_unreachable');
        t.equal((await acceptor.ended()).code, 'network_unreachable');
      },
      { hostile: true },
    );
  }

  await test('after finish the peer gets all that was written, then the end of each source, then finished', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    for (let index = 0; index < 40; index++) {
      await dialer.sendPatiently(1, 'urgent', pattern(700, index));
      await dialer.sendPatiently(2, 'bulk', pattern(30_000, index));
    }
    dialer.call((session) => session.finish());
    t.notOk(dialer.send(1, 'urgent', null, { count: false }), 'it writes no more');
    await acceptor.until(() => acceptor.isFinished);
    for (const flow of [1, 2]) t.ok(sameFrames(acceptor.frames(flow), dialer.sentFrames(flow)), `flow ${flow} is complete`);
    t.same([...acceptor.endedSources].sort(), [...acceptor.sources].sort(), 'every source has ended');
    await acceptor.sendPatiently(3, 'bulk', pattern(100_000, 7));
    await acceptor.sendPatiently(4, 'urgent', pattern(1_000, 7));
    acceptor.call((session) => session.finish());
    await dialer.until(() => dialer.isFinished);
    for (const flow of [3, 4]) t.ok(sameFrames(dialer.frames(flow), acceptor.sentFrames(flow)), `flow ${flow} came the other way`);
    t.notOk(dialer.session.isClosed, 'finished is not closed');
  });

  await test('finish without a frame is told too', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    acceptor.call((session) => session.finish());
    await dialer.until(() => dialer.isFinished);
    dialer.call((session) => session.finish());
    await acceptor.until(() => acceptor.isFinished);
    t.notOk(acceptor.session.isClosed);
  });

  for (const closer of ['dialer', 'acceptor'] as const) {
    await test(`close by the ${closer} reaches the peer with its code and reason, told once`, async (t, ends) => {
      const [from, to] = closer === 'dialer' ? [ends.dialer, ends.acceptor] : [ends.acceptor, ends.dialer];
      from.approve();
      to.approve();
      from.send(1, 'bulk', pattern(1_000, 1));
      await to.until(() => to.frames(1).length === 1);
      from.call((session) => session.close('wrong_cluster', CLOSED_REASON));
      from.call((session) => session.close('shutting_down', 'a second close'));
      const [here, there] = [await from.ended(), await to.ended()];
      t.same([here.code, there.code], ['wrong_cluster', 'wrong_cluster']);
      t.equal(there.facts.why, CLOSED_REASON);
      t.ok(from.session.isClosed && to.session.isClosed);
    });
  }

  await test('a refusal of a pending session reaches the peer with its code', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.call((session) => session.close('certificate_revoked', CLOSED_REASON));
    const error = await dialer.ended();
    t.equal(error.code, 'certificate_revoked');
    t.equal(error.facts.why, CLOSED_REASON);
    t.throws(() => acceptor.approve(), { code: 'handle_closed' });
  });

  await test('a reason of any length and content cannot break the close', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    dialer.call((session) => session.close('flow_violation', 'ö'.repeat(10_000)));
    const error = await acceptor.ended();
    t.equal(error.code, 'flow_violation');
    t.ok(Buffer.byteLength(String(error.facts.why)) <= limits.reason_bytes_max);
  });

  await test('use after the end is harmless', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    dialer.call((session) => session.close('session_closed', CLOSED_REASON));
    await dialer.ended();
    await acceptor.ended();
    for (const end of [dialer, acceptor]) {
      t.notOk(end.send(1, 'bulk', pattern(10, 1), { count: false }));
      t.notOk(end.session.ready('urgent'));
      t.notOk(end.call((session) => session.datagram(pattern(10, 1))));
      end.call((session) => session.endFlow(1));
      end.call((session) => session.govern(null));
      end.call((session) => session.finish());
      end.call((session) => session.close('frame_invalid', 'late'));
      end.call((session) => session.sample());
      t.ok(Number.isFinite(end.session.facts().sent_bytes));
    }
  });

  await test('a handler that closes the session in the middle of data hears nothing but the end', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.onData = () => acceptor.call((session) => session.close('frame_invalid', CLOSED_REASON));
    acceptor.approve();
    for (let index = 0; index < 50; index++) dialer.send(1, 'urgent', pattern(2_000, index));
    t.equal((await dialer.ended()).code, 'frame_invalid');
    t.equal((await acceptor.ended()).code, 'frame_invalid');
    t.equal(acceptor.dataCalls, 1);
  });

  await test('approve works once', async (t, { dialer, acceptor }) => {
    dialer.approve();
    t.throws(() => dialer.session.approve(silentHandler), { code: 'handle_closed' });
    acceptor.approve();
    dialer.send(1, 'urgent', pattern(10, 1));
    await acceptor.until(() => acceptor.frames(1).length === 1);
  });

  await test('the end of a flow loses nothing of it', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    for (let flow = 1; flow <= 100; flow++) {
      await dialer.sendPatiently(flow, 'bulk', pattern(5_000, flow));
      dialer.call((session) => session.endFlow(flow));
    }
    await acceptor.until(() => acceptor.frames(100).length === 1);
    for (let flow = 1; flow <= 100; flow++) await acceptor.until(() => sameFrames(acceptor.frames(flow), dialer.sentFrames(flow)));
    t.pass('all 100 flows arrived');
  });

  await test('the facts of a path are sane', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    for (let index = 0; index < 20; index++) await dialer.sendPatiently(1, 'bulk', pattern(16_000, index));
    await acceptor.until(() => acceptor.frames(1).length === 20);
    for (const end of [dialer, acceptor]) {
      for (const [name, value] of Object.entries(end.session.facts()) as [keyof PathFacts, number | null][]) {
        t.ok(value === null || (Number.isFinite(value) && value >= 0), `${end.session.side} ${name} is ${value}`);
      }
    }
    t.ok(dialer.session.facts().sent_bytes >= 320_000);
    t.ok(acceptor.session.facts().received_bytes >= 320_000);
    t.ok(acceptor.session.facts().silent_ms < 5_000);
    dialer.call((session) => session.govern({ window_bytes: 64_000, rate_bytes_per_s: 10_000_000 }));
    dialer.call((session) => session.govern(null));
    const sample = dialer.session.sample();
    t.ok(sample === null || sample.sent_bytes >= 0);
  });

  await test(implementation.datagrams ? 'datagrams arrive, whole' : 'where there are no datagrams, none is taken', async (t, { dialer, acceptor }) => {
    dialer.approve();
    acceptor.approve();
    // Where a first round trip decides what the peer supports, a frame each way makes sure of it.
    dialer.send(1, 'urgent', pattern(10, 1));
    acceptor.send(1, 'urgent', pattern(10, 1));
    await acceptor.until(() => acceptor.frames(1).length === 1);
    await dialer.until(() => dialer.frames(1).length === 1);
    const max = dialer.session.datagramBytesMax;
    if (!implementation.datagrams) {
      t.equal(max, 0);
      t.notOk(dialer.call((session) => session.datagram(pattern(1, 1))));
      return;
    }
    t.ok(max >= 1_000, `at most ${max}`);
    t.notOk(
      dialer.call((session) => session.datagram(new Uint8Array(limits.datagram_bytes_max + 1))),
      'one too large is dropped',
    );
    const sent = [pattern(1, 1), pattern(500, 2), pattern(max, 3)];
    for (const bytes of sent) t.ok(dialer.call((session) => session.datagram(bytes)));
    await acceptor.until(() => acceptor.datagrams.length === sent.length);
    t.same(plain(acceptor.datagrams), plain(sent));
  });

  await t.test('nothing stays open', async (t) => {
    const deadline_ms = performance.now() + 3_000;
    while (leaked(before).length > 0 && performance.now() < deadline_ms) await new Promise((resolve) => setImmediate(resolve));
    t.same(leaked(before), []);
  });
}

async function exchange(t: Test, dialer: End, acceptor: End, size: { flows: number; rounds: number; bytesMax: number }): Promise<void> {
  const half = async (from: End, to: End): Promise<void> => {
    for (let round = 0; round < size.rounds; round++) {
      for (let flow = 1; flow <= size.flows; flow++) {
        await from.sendPatiently(flow, flow % 2 === 0 ? 'urgent' : 'bulk', pattern((round * 7_919 + flow * 104_729) % size.bytesMax, round + flow));
      }
    }
    for (let flow = 1; flow <= size.flows; flow++) await to.until(() => to.frames(flow).length === size.rounds);
  };
  await Promise.all([half(dialer, acceptor), half(acceptor, dialer)]);
  const complete = (from: End, to: End) => Array.from({ length: size.flows }, (_, index) => sameFrames(to.frames(index + 1), from.sentFrames(index + 1)));
  t.ok(complete(dialer, acceptor).every(Boolean), 'every flow to the acceptor is complete');
  t.ok(complete(acceptor, dialer).every(Boolean), 'every flow to the dialer is complete');
}

/** Handles and timers of this process, counted by kind. */
function openResources(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

const WATCHED = /^(TCP|TLS|UDP|Timeout|GetAddrInfo|Pipe)/;

function leaked(before: ReadonlyMap<string, number>): string[] {
  return [...openResources()]
    .filter(([kind, count]) => WATCHED.test(kind) && count > (before.get(kind) ?? 0))
    .map(([kind, count]) => `${kind} ${before.get(kind) ?? 0} → ${count}`);
}
