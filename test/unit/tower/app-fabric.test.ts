/** What nodes ask about app networks: a real tower, flows in memory, and requests of the honest and of others. */
import { EventEmitter, once } from 'node:events';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type ErrorCode, SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { APP_SERVICE, type AppAnswer } from '../../../src/enroll/app-wire.ts';
import { checkAppAnswer, readJson } from '../../../src/enroll/wire.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import type { FlowHandle, Mesh } from '../../../src/peering/mesh.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import { serveApp } from '../../../src/tower/app/fabric.ts';
import { NodeFlow } from './node-flow.ts';
import { HOUR_MS, makeTower } from './support.ts';

const KEY = `${'A'.repeat(42)}E=`;
const OTHER_KEY = `${'B'.repeat(42)}E=`;
const wireguard = (...keys: string[]) => ({ op: 'wireguard', keys, listen: { host: null, port: 51_820 }, underlay: null });
const attach = (network: string, attachment: string) => ({ op: 'attach', network, attachment });
const detach = (network: string, attachment: string) => ({ op: 'detach', network, attachment });

async function service(t: Test) {
  const tower = await makeTower(t);
  // Stands still unless a test moves it.
  const clock = { at_ms: 0, now: () => clock.at_ms, wall: () => systemClock.wall() };
  let accept: (flow: FlowHandle) => void = () => t.fail('nobody handles the service');
  const mesh: Mesh = {
    open: () => {
      throw new SelvedgeError('not_connected', { peer: 'x', why: 'not here' });
    },
    handle: (name, handler) => {
      t.equal(name, APP_SERVICE);
      accept = handler;
    },
    status: () => [],
    close: () => Promise.resolve(),
  };
  const failures: string[] = [];
  const heard = new EventEmitter();
  const served = serveApp(mesh, tower.app, { ...systemTimers, clock }, (error) => {
    failures.push(error.code);
    heard.emit('failure');
  });
  t.teardown(() => served.close());
  const join = async (name: string, site = 'north') => {
    const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
    const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
    return (await tower.enroll({ proof: { kind: 'token', token }, csr, name, site, listen: [{ host: '192.0.2.1', tcp: 443, udp: null }] }, '192.0.2.1')).node;
  };
  const connect = (flow: NodeFlow) => {
    accept(flow);
    return flow;
  };
  const failed = async (count: number) => {
    while (failures.length < count) await once(heard, 'failure');
    return failures;
  };
  return { tower, clock, served, join, connect, failed, failures };
}

async function answerNumber(count: number, flow: NodeFlow): Promise<AppAnswer> {
  return readJson(await flow.messageNumber(count), limits.message_bytes_max, checkAppAnswer);
}

/** One request after the other on one flow. */
async function answersTo(flow: NodeFlow, requests: readonly unknown[]): Promise<AppAnswer[]> {
  const before = flow.got.length;
  for (const request of requests) flow.ask(request);
  const answers: AppAnswer[] = [];
  for (let index = 1; index <= requests.length; index++) answers.push(await answerNumber(before + index, flow));
  return answers;
}

t.test('a member says its key, takes addresses and gives them back; the same again gives the same', async (t) => {
  const { tower, join, connect } = await service(t);
  const [one, two] = [await join('one'), await join('two', 'south')];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24', subnet6: 'fd00::/64' }, 'local');
  for (const node of [one, two]) await tower.app.add('shop', node, 'local');
  const flow = connect(new NodeFlow(one));
  const asked = [wireguard(KEY), attach('shop', 'web'), attach('shop', 'web'), detach('shop', 'web'), detach('shop', 'web'), attach('shop', 'web')];
  const [said, first, again, gone, goneAgain, anew] = await answersTo(flow, asked);
  t.strictSame([said, gone, goneAgain], [{ ok: true }, { ok: true }, { ok: true }]);
  t.match(first, { ok: true, address4: '10.9.0.4', address6: 'fd00::4', mac: /^02:/ });
  t.strictSame(again, first);
  t.match(anew, { address4: '10.9.0.5', address6: 'fd00::5' }, 'what was given back rests');
  const { hosts } = await tower.app.show('shop');
  t.match(
    hosts.find((host) => host.node === one),
    { keys: [KEY], listen: { host: null, port: 51_820 }, endpoints: [{ host: '192.0.2.1' }] },
  );
  flow.ask(null);
  t.equal(await flow.closed, null);
});

t.test('who is no member gets nowhere, and cannot tell a network from none', async (t) => {
  const { tower, join, connect } = await service(t);
  const [member, stranger] = [await join('member'), await join('stranger')];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  await tower.app.add('shop', member, 'local');
  await tower.app.wireguard(member, { keys: [KEY], listen: null, underlay: null });
  const version = (await tower.status()).version;
  const flow = connect(new NodeFlow(stranger));
  const answers = await answersTo(flow, [
    attach('shop', 'web'),
    attach('none', 'web'),
    detach('shop', 'web'),
    wireguard(KEY),
    wireguard(OTHER_KEY, OTHER_KEY),
    wireguard(`${'A'.repeat(43)}=`),
    { ...wireguard(OTHER_KEY), listen: { host: '1.2.3', port: 1 } },
  ]);
  const codes = answers.map((answer) => ('error' in answer ? answer.error.code : 'ok'));
  t.strictSame(codes, ['policy_denied', 'policy_denied', 'policy_denied', 'policy_denied', 'argument_invalid', 'argument_invalid', 'argument_invalid']);
  const [there, none] = answers.map((answer) => ('error' in answer ? answer.error.message : ''));
  t.equal(there?.replace('shop', 'none'), none);
  t.notMatch(JSON.stringify(answers), member, 'whose key it is stays untold');
  t.equal((await tower.status()).version, version);
  await tower.app.remove('shop', member, 'local');
  const [late] = await answersTo(connect(new NodeFlow(member)), [attach('shop', 'web')]);
  t.match(late, { error: { code: 'policy_denied' } });
});

t.test('a revoked, a disabled and an unknown node are answered with the reason, and change nothing', async (t) => {
  const { tower, join, connect } = await service(t);
  const [one, two] = [await join('one'), await join('two')];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  for (const node of [one, two]) await tower.app.add('shop', node, 'local');
  await tower.revokeNode(one);
  await tower.setDisabled(two, true);
  for (const [node, code] of [
    [one, 'certificate_revoked'],
    [two, 'peer_disabled'],
    ['ffffffffffff', 'not_found'],
  ] as const) {
    const answers = await answersTo(connect(new NodeFlow(node)), [wireguard(KEY), attach('shop', 'web'), detach('shop', 'web')]);
    for (const answer of answers) t.match(answer, { error: { code } });
  }
  t.match(await tower.app.list({ after: null, limit: 100 }), [{ members: 2, attachments: 0 }]);
});

t.test('200 parallel attaches, over the flows of four nodes, give 200 distinct addresses', async (t) => {
  const { tower, join, connect } = await service(t);
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  const flows = [];
  for (const name of ['a', 'b', 'c', 'd']) {
    const node = await join(name);
    await tower.app.add('shop', name, 'local');
    flows.push(connect(new NodeFlow(node)));
  }
  const requests = Array.from({ length: 50 }, (_, index) => attach('shop', `c${index}`));
  const answers = (await Promise.all(flows.map((flow) => answersTo(flow, requests)))).flat();
  t.equal(new Set(answers.map((answer) => ('mac' in answer ? answer.address4 : null))).size, 200);
  t.match(await tower.app.list({ after: null, limit: 100 }), [{ members: 4, attachments: 200 }]);
});

t.test('a full subnet is answered with its code, and the flow goes on', async (t) => {
  const { tower, join, connect } = await service(t);
  const node = await join('one');
  await tower.app.create({ name: 'tiny', subnet4: '10.9.0.0/30' }, 'local');
  await tower.app.add('tiny', 'one', 'local');
  const flow = connect(new NodeFlow(node));
  const [full, said] = await answersTo(flow, [attach('tiny', 'web'), wireguard(KEY)]);
  t.match(full, { error: { code: 'address_pool_full', facts: { pool: '10.9.0.0/30 of app network tiny' } } });
  t.strictSame(said, { ok: true });
});

t.test('a node that asks too often is told when it may again, and no other suffers', async (t) => {
  const { tower, clock, join, connect } = await service(t);
  const [busy, calm] = [await join('busy'), await join('calm')];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  await tower.app.add('shop', calm, 'local');
  const flow = connect(new NodeFlow(busy));
  const answers = await answersTo(
    flow,
    Array.from({ length: limits.app_requests_per_minute_max + 1 }, () => attach('shop', 'web')),
  );
  const last = answers.at(-1);
  t.match(last, { error: { code: 'rate_limited', facts: { ms: Number } } });
  t.equal(answers.filter((answer) => 'error' in answer && answer.error.code === 'rate_limited').length, 1);
  t.match(await answersTo(connect(new NodeFlow(calm)), [attach('shop', 'web')]), [{ ok: true }]);
  clock.at_ms += last !== undefined && 'error' in last ? Number(last.error.facts.ms) : 0;
  t.match(await answersTo(flow, [attach('shop', 'web')]), [{ error: { code: 'policy_denied' } }]);
});

t.test('what is no request ends the flow with the reason; wrong flows and too many of them are refused', async (t) => {
  const { served, join, connect, failed } = await service(t);
  const one = await join('one');
  t.equal(connect(new NodeFlow(one, 'file_transfer')).resetCode, 'channel_class_denied');
  t.equal(connect(new NodeFlow(one, 'fabric_control', 'stream')).resetCode, 'flow_refused');
  t.equal(connect(new NodeFlow('tower')).resetCode, 'flow_refused');
  const wrong: [unknown, ErrorCode][] = [
    ['garbage', 'request_invalid'],
    ['{"op":"attach","network":"shop","attachment":"web","__proto__":{"op":"detach"}}', 'request_invalid'],
    [{ op: 'create', name: 'mine' }, 'request_invalid'],
    [{ ...attach('shop', 'web'), node: one }, 'request_invalid'],
    [attach('shop', '../../etc'), 'request_invalid'],
    [wireguard(KEY, OTHER_KEY, KEY), 'request_invalid'],
    ['x'.repeat(limits.app_request_bytes_max + 1), 'body_too_large'],
  ];
  for (const [index, [message, code]] of wrong.entries()) {
    const flow = connect(new NodeFlow(one));
    flow.ask(message);
    await flow.closed;
    t.equal(flow.resetCode, code);
    await failed(index + 1);
  }
  // What waits for the end of a flow has heard of it after this turn.
  await new Promise(setImmediate);
  const open = Array.from({ length: limits.app_flows_per_node_max }, () => connect(new NodeFlow(one)));
  t.ok(
    open.every((flow) => flow.resetCode === null),
    'flows that ended count no more',
  );
  t.equal(connect(new NodeFlow(one)).resetCode, 'limit_reached');
  t.equal(connect(new NodeFlow(await join('two'))).resetCode, null, 'nobody else is refused for it');
  served.close();
  t.ok(open.every((flow) => flow.resetCode === 'shutting_down'));
  t.equal(connect(new NodeFlow(one)).resetCode, 'shutting_down');
});

t.test('no bytes make the service do or say anything but end the flow or answer by its schema', async (t) => {
  const { tower, join, connect } = await service(t);
  const one = await join('one');
  const before = (await tower.status()).version;
  const word = fc.oneof(fc.constantFrom('op', 'attach', 'detach', 'wireguard', 'network', 'attachment', 'keys', 'listen'), fc.string());
  const message = fc.oneof(
    fc.string(),
    fc.json(),
    fc.dictionary(word, fc.oneof(word, fc.jsonValue())).map((value) => JSON.stringify(value)),
  );
  await fc.assert(
    fc.asyncProperty(message, async (text) => {
      const flow = connect(new NodeFlow(one));
      flow.ask(text);
      flow.ask(null);
      await flow.closed;
      for (const bytes of flow.got) readJson(bytes, limits.message_bytes_max, checkAppAnswer);
      return flow.got.length <= 1;
    }),
    { numRuns: 300 },
  );
  t.equal((await tower.status()).version, before);
});
