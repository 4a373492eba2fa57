/** Rules on both ends of a channel (spec 6): who opens is refused before anything leaves, who accepts judges for itself, and what is there is judged again when rules change. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import type { TrafficClass } from '../../../src/channel/classes.ts';
import { A, B, converse, echo, Hosts, policy } from './hosts.ts';

async function connected(): Promise<Hosts> {
  const hosts = new Hosts(5);
  hosts.b.handle('echo', (flow) => void echo(flow).catch(() => {}));
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  return hosts;
}

const noInput = { policies: [policy('no-input', { effect: 'deny', classes: ['input'] })] };
const apart = { policies: [policy('apart', { effect: 'deny' })] };

function codeOf(open: () => unknown): string {
  try {
    open();
    return 'opened';
  } catch (error) {
    return error instanceof SelvedgeError ? `${error.code}: ${error.message}` : String(error);
  }
}

t.test('a flow of a class that rules deny is refused before it leaves, with the policy that did it', async (t) => {
  const hosts = await connected();
  hosts.rule(noInput);
  t.match(
    codeOf(() => hosts.a.open('beta', 'input', 'messages', 'echo')),
    /channel_class_denied: class input is not allowed here: policy no-input \(priority 100\) denies it/,
  );
  t.equal(
    codeOf(() => hosts.a.open('beta', 'clipboard', 'messages', 'echo')),
    'opened',
  );
  t.same(await hosts.close(), []);
});

t.test('who accepts judges for itself: an opener that knows of no rule is refused at the other end', async (t) => {
  const hosts = await connected();
  hosts.rule(noInput, [B]);
  const flow = hosts.a.open('beta', 'input', 'messages', 'echo');
  t.match(await within(hosts, flow.closed), { code: 'channel_class_denied', message: /policy no-input/ });
  t.equal(hosts.state, 'established');
  t.same(await hosts.close(), []);
});

t.test(
  'when rules change, flows of a class now denied end at both ends with channel_class_denied, the others lose nothing, and allowed again it works again',
  async (t) => {
    for (const first of [A, B]) {
      const hosts = await connected();
      const classes: TrafficClass[] = ['file_transfer', 'clipboard'];
      const talks = classes.map((cls) => converse(hosts.a.open('beta', cls, 'stream', 'echo'), 2_000_000));
      const denied = hosts.a.open('beta', 'input', 'stream', 'echo');
      denied.write(new Uint8Array(1_000));
      const back = hosts.b.open(A.node, 'input', 'stream', 'none');
      await hosts.run(30);
      hosts.rule(noInput, [first]);
      t.match(await within(hosts, denied.closed), { code: 'channel_class_denied', message: /policy no-input/ }, 'also where the other end heard of it first');
      t.ok((await within(hosts, back.closed)) !== null);
      for (const talk of talks) t.same(await within(hosts, talk), { received: 2_000_000, isRight: true });
      t.equal(hosts.a.status()[0]?.reconnects, 0);
      hosts.rule({});
      t.same(await within(hosts, converse(hosts.a.open('beta', 'input', 'stream', 'echo'), 10_000)), { received: 10_000, isRight: true });
      t.same(await hosts.close(), []);
    }
  },
);

t.test('a channel that rules no longer allow fails with policy_denied at both ends, is not dialed again, and comes back once it is allowed', async (t) => {
  for (const first of [A, B]) {
    const hosts = await connected();
    hosts.rule(apart, [first]);
    t.ok(await hosts.until(() => hosts.a.status()[0]?.last_error?.code === 'policy_denied'));
    t.ok(await hosts.until(() => hosts.b.status().length === 0));
    hosts.rule(apart);
    await hosts.run(1_000);
    const { dials } = hosts;
    await hosts.run(60_000);
    t.equal(hosts.dials, dials, 'the dialing end refuses before it dials');
    hosts.rule({});
    t.ok(await hosts.until(() => hosts.state === 'established', 60_000));
    t.same(await hosts.close(), []);
  }
});

t.test('an end that rules do not let in is told so when it dials, and has no channel for a moment', async (t) => {
  const hosts = new Hosts(6);
  hosts.rule(apart, [B]);
  hosts.connect();
  await hosts.run(5_000);
  t.equal(hosts.a.status()[0]?.last_error?.code, 'policy_denied');
  t.notOk(hosts.log.some((line) => line.includes('channel accepted') || line.includes('channel carried')));
  t.same(await hosts.close(), []);
});

t.test('an end that has not heard of the newest rules begins no channel, in either direction, and does once it has', async (t) => {
  for (const [knowing, behind] of [
    [B, A],
    [A, B],
  ] as const) {
    const hosts = new Hosts(7);
    hosts.epochs.expected = 7;
    hosts.epochs.of.set(behind.node, 6);
    hosts.rule({}, [knowing]);
    hosts.connect();
    t.ok(await hosts.until(() => hosts.a.status()[0]?.last_error?.code === 'route_epoch_stale'));
    hosts.epochs.of.set(behind.node, 7);
    t.ok(await hosts.until(() => hosts.state === 'established', 60_000));
    t.same(await hosts.close(), []);
  }
});

async function within<Result>(hosts: Hosts, result: Promise<Result>): Promise<Result> {
  let isThere = false;
  void result.finally(() => {
    isThere = true;
  });
  await hosts.until(() => isThere, 60_000);
  return result;
}
