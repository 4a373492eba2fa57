/** Clusters under faults keep their promises, for many seeds; the simulator itself finds a planted bug of each kind, and replays a seed to the octet. */
import t from 'tap';
import { frameTypes } from '../../src/channel/frames.ts';
import { runSeeds } from '../../src/lab/sim/index.ts';
import { type SimOptions, simulate } from '../../src/lab/sim/simulate.ts';
import type { FlowHandle } from '../../src/peering/mesh.ts';
import type { Session } from '../../src/transport/session.ts';

t.setTimeout(300_000);

const SEEDS = 30;
const small = { seed: 3, nodes: 8, sites: 2, minutes: 3, conversations_per_minute: 40 } as const;
const noFaults = {
  crashes_per_minute: 0,
  down_ms_max: 0,
  tower_part: 0,
  cuts_per_minute: 0,
  cut_ms_max: 0,
  oneWay_part: 0,
  udp_part: 0,
  weather_per_minute: 0,
  delay_ms_max: 0,
  jitter_ms_max: 0,
  loss_part_max: 0,
  doubled_part_max: 0,
  clockSteps_per_minute: 0,
  clockStep_ms_max: 0,
  drift_part_max: 0,
  revocations_per_minute: 0,
};
type Plant = NonNullable<SimOptions['plant']>;

t.test(`${SEEDS} clusters of 12 nodes live through five minutes of faults each`, { timeout: 180_000 }, async (t) => {
  const { violated, conversations } = await runSeeds({ seed: 1, seeds: SEEDS, nodes: 12, sites: 3, minutes: 5 });
  for (const { seed, violations, transcript } of violated) t.fail(`seed ${seed}: ${violations[0]}`, { violations, transcript: transcript.slice(-60) });
  t.ok(conversations > 25 * SEEDS, `${conversations} conversations`);
});

t.test('the same seed gives the same run, another seed another', async (t) => {
  const [first, again, other] = [await simulate(small), await simulate(small), await simulate({ ...small, seed: 4 })];
  t.equal(first.digest, again.digest);
  t.same(first.transcript, again.transcript);
  t.not(first.digest, other.digest);
});

t.test('without faults nothing fails', async (t) => {
  const { violations, flows_done, flows_failed } = await simulate({ ...small, faults: noFaults });
  t.same(violations, []);
  t.equal(flows_failed, 0);
  t.ok(flows_done > 60);
});

/** Each program's flows pass through `change` before anybody uses them. */
const changed =
  (change: (flow: FlowHandle) => Partial<FlowHandle>): Plant =>
  ({ hosts }) => {
    for (const host of hosts) {
      const start = host.start.bind(host);
      host.start = () => {
        start();
        const { mesh } = host;
        if (mesh === null) return;
        const open = mesh.open.bind(mesh);
        mesh.open = (...args) => {
          const flow = open(...args);
          return args[3].startsWith('sim-') ? overlaid(flow, change(flow)) : flow;
        };
      };
    }
  };

function overlaid<Target extends object>(target: Target, changes: Partial<Target>): Target {
  return new Proxy(target, {
    get(_target, name) {
      const value: unknown = Reflect.get(changes, name) ?? Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const speaksEarly: Plant = ({ network }) => {
  const transport = network.transport.bind(network);
  network.transport = (...args) => {
    const real = transport(...args);
    const early = (session: Session): Session =>
      overlaid(session, {
        approve(handler) {
          session.approve(handler);
          session.write(1, 'bulk', 1, Uint8Array.of(frameTypes.data, 0), null);
        },
      });
    return { ...real, dial: async (...dial) => early(await real.dial(...dial)) };
  };
};

const keepsRevoked: Plant = ({ hosts, tower }) => {
  for (const host of [tower, ...hosts]) {
    const start = host.start.bind(host);
    host.start = () => {
      start();
      if (host.mesh !== null) host.mesh.revalidate = () => {};
    };
  }
};

const plants: readonly [name: string, plant: Plant, found: RegExp, faults?: Partial<typeof noFaults>][] = [
  ['octets are lost', changed((flow) => ({ write: (bytes) => flow.write(bytes.subarray(bytes.length > 100 ? 1 : 0)) })), /were counted|another than was sent/],
  [
    'octets are doubled',
    changed((flow) => ({ write: (bytes) => [bytes.slice(0, 1), bytes].every((piece) => flow.write(piece)) })),
    /another than was sent|were counted/,
  ],
  ['octets are reordered', changed((flow) => ({ write: (bytes) => flow.write(bytes.toReversed()) })), /another than was sent/],
  ['a message is lost', changed((flow) => dropping(flow)), /some are lost/],
  ['a message comes again', changed((flow) => ({ send: (message) => [message, message].every((one) => flow.send(one)) })), /came after/],
  ['a conversation never ends', changed(() => ({ end: () => {} })), /do not end/],
  [
    'a failure has no reason',
    changed(() => ({
      end: () => {
        throw new TypeError('of a bug');
      },
    })),
    /without a reason/,
  ],
  ['something is said before it is accepted', speaksEarly, /before it was accepted|frame_invalid|flow_violation/],
  ['a revoked peer keeps its channel', keepsRevoked, /known to be revoked/, { revocations_per_minute: 2 }],
  [
    'a host does not come back',
    ({ hosts }) => {
      for (const host of hosts.slice(0, 1)) host.start = () => {};
    },
    /has no channel with/,
  ],
  [
    'a timer is left',
    ({ agenda }) => {
      const again = (): void => void agenda.at(agenda.now + 1_000, again);
      again();
    },
    /timers are left/,
  ],
];

function dropping(flow: FlowHandle): Partial<FlowHandle> {
  let count = 0;
  return { send: (message) => (flow.kind === 'messages' && count++ === 1 ? true : flow.send(message)) };
}

for (const [name, plant, found, faults = {}] of plants) {
  t.test(`planted, and found: ${name}`, async (t) => {
    const { violations } = await simulate({ ...small, faults: { ...noFaults, ...faults }, plant });
    t.ok(
      violations.some((one) => found.test(one)),
      'it is named',
      { violations: violations.slice(0, 5) },
    );
  });
}
