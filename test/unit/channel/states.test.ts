/** The one table of a channel's states (spec 5.3). */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { type Cause, type ChannelState, channelStates, StateMachine, transitions } from '../../../src/channel/states.ts';
import { Pair } from './pair.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

const causes: readonly Cause[] = [
  'dial',
  'accept',
  'connected',
  'handshaken',
  'authenticated',
  'authorized',
  'revalidate',
  'revalidated',
  'degrade',
  'drain',
  'undrain',
  'close',
  'closed',
  'failure',
];

/** Causes that lead to a state from idle, shortest first. */
const paths = new Map<ChannelState, readonly Cause[]>([['idle', []]]);
for (const [state, path] of paths) {
  for (const [cause, next] of Object.entries(transitions[state]) as [Cause, ChannelState][]) if (!paths.has(next)) paths.set(next, [...path, cause]);
}

function machineIn(state: ChannelState): StateMachine {
  const machine = new StateMachine();
  for (const cause of paths.get(state) ?? []) machine.move(cause);
  return machine;
}

t.test('every state can be reached, and from each only the edges of the table lead on', async (t) => {
  t.same([...paths.keys()].sort(), [...channelStates].sort());
  for (const state of channelStates) {
    for (const cause of causes) {
      const machine = machineIn(state);
      const next = transitions[state][cause];
      t.equal(machine.allows(cause), next !== undefined);
      if (next === undefined) t.throws(() => machine.move(cause), /no edge/, `${state} by ${cause}`);
      else t.equal(machine.move(cause), next);
    }
  }
});

t.test('every walk of eight causes from idle keeps to the table, and what has ended stays so', async (t) => {
  const DEPTH = 8;
  let walks = 0;
  const wrong: string[] = [];
  const walk = (path: readonly Cause[], state: ChannelState): void => {
    walks++;
    if (path.length === DEPTH) return;
    for (const cause of causes) {
      const machine = new StateMachine();
      for (const before of path) machine.move(before);
      const next = transitions[state][cause];
      if (machine.state !== state || machine.allows(cause) !== (next !== undefined)) wrong.push([...path, cause].join(' '));
      if (next === undefined) continue;
      const isBackwards = (machine.hasEnded && next !== undefined) || (machine.isCarrying && !carryingOrOver.has(next));
      machine.move(cause);
      if (isBackwards || machine.state !== next) wrong.push([...path, cause].join(' '));
      walk([...path, cause], next);
    }
  };
  walk([], 'idle');
  t.same(wrong, []);
  t.ok(walks > 100, `${walks} walks`);
});

/** Once traffic has passed, no state leads back to before authorization. */
const carryingOrOver = new Set<ChannelState>(['established', 'revalidating', 'degraded', 'draining', 'closing', 'closed', 'failed']);

t.test('each cause is somebody’s to bring about', async (t) => {
  const source = globSync('src/{channel,peering}/*.ts', { cwd: root })
    .map((file) => readFileSync(join(root, file), 'utf8'))
    .join('\n');
  for (const cause of causes) {
    // Named where a state is moved, but not in the table itself.
    const isUsed = source.split(`'${cause}'`).length - 1 > readFileSync(join(root, 'src/channel/states.ts'), 'utf8').split(`'${cause}'`).length - 1;
    t.ok(isUsed, cause);
  }
});

t.test('closed and failed are never left', async (t) => {
  for (const state of ['closed', 'failed'] as const) {
    t.same(transitions[state], {});
    t.equal(machineIn(state).hasEnded, true);
  }
});

t.test('traffic passes only from established on', async (t) => {
  const carrying = channelStates.filter((state) => machineIn(state).isCarrying);
  t.same(carrying, ['established', 'revalidating', 'degraded', 'draining', 'closing']);
});

t.test('a channel can be closed, and can fail, in every state that is not the end', async (t) => {
  for (const state of channelStates) {
    for (const ending of ['close', 'fail'] as const) {
      const { a } = new Pair({ isIdle: true });
      for (const cause of paths.get(state) ?? []) a.channel.move(cause);
      const before = a.channel.state;
      a.do((channel) => (ending === 'close' ? channel.close('channel_closed', 'over') : channel.fail(new SelvedgeError('heartbeat_timeout'))));
      const expected = before === 'closed' || before === 'failed' ? before : ending === 'close' ? 'closed' : 'failed';
      t.equal(a.channel.state, expected, `${state}: ${ending}`);
    }
  }
});

t.test('nothing is sent, opened or carried before authorization', async (t) => {
  const pair = new Pair({ isIdle: true });
  pair.a.channel.move('dial');
  t.throws(() => pair.a.channel.open('input', 'stream', 'echo'), { code: 'not_connected' });
  pair.a.channel.attach(pair.world.now, 1, { transport: 'memory', chunkBytesMax: 1000 }, 'new');
  t.equal(pair.a.channel.pollTransmit(pair.world.now), null);
  t.match(pair.a.channel.pollEvent(), { type: 'state' });
  t.match(pair.a.channel.pollEvent(), { type: 'drop', key: 1 });
});

t.test('a draining channel refuses new flows of both ends, and lets the open ones go on', async (t) => {
  const pair = new Pair();
  pair.attach('new');
  const flow = pair.a.open('clipboard', 'stream', 'x');
  pair.world.run(100);
  pair.b.do((channel) => channel.drain(pair.world.now + 1_000));
  t.throws(() => pair.b.channel.open('input', 'stream', 'y'), { code: 'peer_draining' });
  const refused = pair.a.open('input', 'stream', 'z');
  pair.a.do(() => flow.write(Uint8Array.of(1, 2, 3)));
  pair.world.run(100);
  t.match(refused.error, { code: 'peer_draining' });
  t.same(pair.b.accepted[0]?.read(), Uint8Array.of(1, 2, 3));
  t.same(pair.leftovers(), []);
});
