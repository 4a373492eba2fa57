/** The tunnel's socket from the daemon's side: answers and events, hostile lines, a tunnel that dies, one of another version. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { SelvedgeError } from '../../../src/base/errors.ts';
import { LineSplitter } from '../../../src/overlay/line-splitter.ts';
import { TunnelConnection } from '../../../src/overlay/tunnel-client.ts';
import { TunnelLink } from '../../../src/overlay/tunnel-link.ts';
import { AnyAnswer, checker, type HelloAnswer, StatsAnswer } from '../../../src/overlay/tunnel-wire.ts';
import { systemRandom, systemTimers } from '../../../src/transport/system.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { SmallStarter, SmallTunnel, socketPath } from './small-tunnel.ts';

const any = checker(AnyAnswer);

async function connected(t: Test) {
  const tunnel = await new SmallTunnel(socketPath(t)).listen();
  const events: unknown[] = [];
  const timers = new VirtualTimers();
  const connection = await TunnelConnection.open({ path: tunnel.path, timers, onEvent: (event, data) => events.push({ event, data }) });
  t.teardown(async () => {
    connection.close();
    await tunnel.kill();
  });
  return { tunnel, connection, events, timers };
}

t.test('requests are answered, in whatever order, and events told beside them', async (t) => {
  const { tunnel, connection, events } = await connected(t);
  t.match(await connection.hello(), { version: 1, program: 'small 1', pid: 100, generation: null });
  tunnel.answers.set('slow', () => null);
  const slow = connection.call('slow', {}, any);
  tunnel.event('peer', { node: 'b' });
  t.same(await connection.call('stats', {}, checker(StatsAnswer)), { peers: [], networks: [] });
  t.same(events, [{ event: 'peer', data: { node: 'b' } }]);
  tunnel.say('{"id":2,"result":"late"}\n');
  t.equal(await slow, 'late');
});

t.test('a refusal has its code; one that nobody knows here reads as tunnel_refused', async (t) => {
  const { tunnel, connection } = await connected(t);
  tunnel.answers.set('a', () => ({ error: { code: 'device_foreign', message: 'svb-1 is not ours' } }));
  tunnel.answers.set('b', () => ({ error: { code: 'brand_new', message: 'something' } }));
  await t.rejects(connection.call('a', {}, any), { code: 'device_foreign', message: /svb-1 is not ours/ });
  await t.rejects(connection.call('b', {}, any), { code: 'tunnel_refused', message: 'selvedge-tunnel (brand_new): something' });
});

t.test('an answer of another shape, one that does not come, and too many questions are errors of their own', async (t) => {
  const { tunnel, connection, timers } = await connected(t);
  tunnel.answers.set('stats', () => ({ result: { peers: [{ node: 1, path: 'direct', rxBytes: 0, txBytes: 0 }], networks: [] } }));
  await t.rejects(connection.call('stats', {}, checker(StatsAnswer)), { code: 'tunnel_answer_invalid', message: /\/peers\/0\/node/ });
  tunnel.answers.set('never', () => null);
  const waiting = Array.from({ length: 64 }, () => connection.call('never', {}, any));
  const outcomes = Promise.allSettled(waiting);
  await t.rejects(connection.call('never', {}, any), { code: 'limit_reached' });
  await timers.advance(15_000);
  t.ok((await outcomes).every((one) => one.status === 'rejected' && (one.reason as SelvedgeError).code === 'timeout'));
  t.match(await connection.hello(), { version: 1 }, 'and it goes on');
  t.equal(timers.waiting, 0, 'no timer is left');
});

t.test('hostile lines end the connection with a reason', async (t) => {
  const deep = '['.repeat(200_000);
  const lines: [string, string | Uint8Array, string][] = [
    ['no JSON', 'hello\n', 'tunnel_answer_invalid'],
    ['a number', '1\n', 'tunnel_answer_invalid'],
    ['nothing in it', '{}\n', 'tunnel_answer_invalid'],
    ['an id that is a text', '{"id":"1","result":1}\n', 'tunnel_answer_invalid'],
    ['an event that is a number', '{"event":1}\n', 'tunnel_answer_invalid'],
    ['an error without a code', '{"id":1,"error":{}}\n', 'tunnel_answer_invalid'],
    ['not UTF-8', Uint8Array.of(0x22, 0xff, 0x22, 0x0a), 'request_invalid'],
    ['very deep', `${deep}\n`, 'tunnel_answer_invalid'],
    ['endless', new Uint8Array(17 * 1024 * 1024).fill(0x20), 'frame_too_large'],
    ['a refusal of what it could not read', '{"id":null,"error":{"code":"request_invalid","message":"no"}}\n', 'request_invalid'],
  ];
  for (const [what, line, code] of lines) {
    await t.test(what, async (t) => {
      const { tunnel, connection } = await connected(t);
      tunnel.answers.set('never', () => null);
      const asked = connection.call('never', {}, any);
      const refused = t.rejects(asked, { code });
      tunnel.say(line);
      t.equal((await connection.closed).code, code);
      await refused;
      await t.rejects(connection.call('stats', {}, any), { code });
    });
  }
});

t.test('lines come out as they went in, however they were cut', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => !text.includes('\n'))),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
      (lines, cuts) => {
        const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(''));
        const splitter = new LineSplitter(1_000);
        const got: string[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const length = cuts[turn % cuts.length] ?? 1;
          got.push(...splitter.take(bytes.subarray(at, at + length)));
          at += length;
        }
        return JSON.stringify(got) === JSON.stringify(lines.map((line) => new TextDecoder().decode(new TextEncoder().encode(line))));
      },
    ),
  );
});

t.test('what is no socket, or nothing at all, is told apart', async (t) => {
  const path = socketPath(t);
  const open = () => TunnelConnection.open({ path, timers: systemTimers, onEvent: () => undefined });
  await t.rejects(open(), { code: 'tunnel_unreachable' });
  writeFileSync(path, '');
  await t.rejects(open(), { code: 'tunnel_unreachable', message: /not a socket/ });
});

function linkTo(t: Test, starter: SmallStarter | null, path: string) {
  const ups: HelloAnswer[] = [];
  const log: string[] = [];
  const facts: object[] = [];
  let wake = () => {};
  const link = new TunnelLink({
    path,
    starter,
    timers: systemTimers,
    random: systemRandom,
    onUp: (_connection, hello) => {
      ups.push(hello);
      wake();
    },
    onDown: () => wake(),
    onEvent: () => undefined,
    log: (message, more) => {
      log.push(message);
      facts.push(more);
      wake();
    },
  });
  const until = async (isTrue: () => boolean) => {
    while (!isTrue())
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  };
  t.teardown(() => link.close());
  return { link, ups, log, facts, until };
}

t.test('a tunnel that runs is taken as it is; one that does not is started; one that died is started again, and the gap is told', async (t) => {
  const path = socketPath(t);
  const starter = new SmallStarter(path);
  const running = await new SmallTunnel(path, 7).listen();
  const { link, ups, log, facts, until } = linkTo(t, starter, path);
  link.start();
  await until(() => ups.length === 1);
  t.equal(ups[0]?.pid, 7);
  t.equal(starter.started.length, 0, 'nothing was started beside it');
  await running.kill();
  await until(() => ups.length === 2);
  t.equal(ups[1]?.pid, 200);
  t.same(log, ['tunnel found', 'tunnel lost', 'tunnel runs again']);
  t.match(facts[2], { pid: 200, gap_ms: Number });
  await link.close();
  t.equal(await closedSoon(starter.last), true, 'the tie is gone');
  t.same(starter.last.methods, ['hello'], 'and the tunnel was not asked to end');
  await starter.last.kill();
});

t.test('a tunnel of another protocol is asked to end, and ours takes its place', async (t) => {
  const path = socketPath(t);
  const starter = new SmallStarter(path);
  const old = await new SmallTunnel(path, 7).listen();
  old.answers.set('hello', () => ({ error: { code: 'version_unsupported', message: 'version 0 alone' } }));
  const { link, ups, log, until } = linkTo(t, starter, path);
  link.start();
  await until(() => ups.length === 1);
  t.same(old.methods, ['hello', 'close']);
  t.equal(ups[0]?.pid, 200);
  t.equal(log[0], 'tunnel of another version is replaced');
  await link.close();
  await starter.last.kill();
});

t.test('a tunnel that nobody can start is named, and tried again', async (t) => {
  const path = socketPath(t);
  const { link, log, facts, until } = linkTo(t, null, path);
  link.start();
  await until(() => log.length >= 2);
  t.match(facts[0], { code: 'tunnel_unreachable' });
  t.equal(link.error?.code, 'tunnel_unreachable');
  const late = await new SmallTunnel(path).listen();
  await late.until(() => late.methods.includes('hello'));
  await link.close();
  await late.kill();
});

t.test('dismissing ends the tunnel too, and starts no other', async (t) => {
  const path = socketPath(t);
  const starter = new SmallStarter(path);
  const { link, ups, until } = linkTo(t, starter, path);
  link.start();
  await until(() => ups.length === 1);
  await link.dismiss();
  t.same(starter.last.methods, ['hello', 'close']);
  t.equal(starter.started.length, 1);
});

async function closedSoon(tunnel: SmallTunnel): Promise<boolean> {
  while (tunnel.connections > 0) await once(process, 'never', { signal: AbortSignal.timeout(1) }).catch(() => undefined);
  return true;
}
