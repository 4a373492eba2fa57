/** The simulator finds a planted bug of each kind, finds nothing where nothing fails, and replays a seed to the octet. */
import t from 'tap';
import { SelvedgeError } from '../../src/base/errors.ts';
import { Draining } from '../../src/channel/drain.ts';
import { frameTypes } from '../../src/channel/frames.ts';
import { type FaultRates, usualFaults } from '../../src/lab/sim/faults.ts';
import { type SimOptions, simulate } from '../../src/lab/sim/simulate.ts';
import type { Program } from '../../src/lab/sim/program.ts';
import type { DrainStatus } from '../../src/peering/drain.ts';
import type { FlowHandle } from '../../src/peering/mesh.ts';
import { PeerMesh } from '../../src/peering/peer-mesh.ts';
import type { Session } from '../../src/transport/session.ts';

t.setTimeout(180_000);

const small = { seed: 3, nodes: 8, sites: 2, minutes: 3, conversations_per_minute: 40 } as const;
const noFaults: FaultRates = {
  ...usualFaults,
  crashes_per_minute: 0,
  outages_per_minute: 0,
  cuts_per_minute: 0,
  weather_per_minute: 0,
  clockSteps_per_minute: 0,
  revocations_per_minute: 0,
  denials_per_minute: 0,
  drains_per_minute: 0,
  rotations_per_minute: 0,
};
type Plant = NonNullable<SimOptions['plant']>;

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

t.test('the root is rotated again and again, and where nothing else is wrong no channel is lost and no conversation fails', async (t) => {
  const { violations, flows_failed, transcript } = await simulate({ ...small, faults: { ...noFaults, rotations_per_minute: 6 }, minutes: 10 });
  t.same(violations, []);
  t.equal(flows_failed, 0);
  const retired = transcript.flatMap((line) => /keeps root (\d+) alone/.exec(line)?.[1] ?? []);
  t.ok(Number(retired.at(-1)) > 3, `root ${retired.at(-1)} was the last to be kept alone`);
  t.same(
    transcript.filter((line) => /channel (ended|revalidation failed)/.test(line) && !line.includes('shutting_down')),
    [],
  );
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

/** Each program is broken before it has said anything. */
const broken =
  (breakIt: (program: Program) => void): Plant =>
  ({ hosts, tower }) => {
    for (const host of [tower, ...hosts]) {
      const start = host.start.bind(host);
      host.start = () => {
        const isRunning = host.isUp;
        start();
        if (host.program !== null && !isRunning) breakIt(host.program);
      };
    }
  };

/** One node never asks for a leaf under the new root, the tower does not count it, and nobody looks at roots. */
const standsStill: Plant = (world) => {
  const [still] = world.hosts;
  if (still === undefined) return;
  still.showsRoot = () => true;
  broken(({ trust }) => {
    for (const roots of ['roots', 'liveRoots']) Object.defineProperty(trust, roots, { get: () => [1, 2, 3, 4, 5, 6] });
  })(world);
  broken(({ trust }) => {
    trust.renewLater = () => {};
  })({ ...world, hosts: [], tower: still });
};

/** A drain that ends what it must not end, once its time is over. */
const endsControl = broken(({ mesh }) => {
  const flows: FlowHandle[] = [];
  const [open, drain] = [mesh.open.bind(mesh), mesh.drain.bind(mesh)];
  mesh.open = (...args) => {
    const flow = open(...args);
    flows.push(flow);
    return flow;
  };
  mesh.drain = (request) => {
    for (const flow of flows) flow.reset('peer_draining', 'it is time');
    return drain(request);
  };
});

const plants: readonly [name: string, plant: Plant, found: RegExp, faults?: Partial<FaultRates>, more?: Partial<SimOptions>][] = [
  ['octets are lost', changed((flow) => ({ write: (bytes) => flow.write(bytes.subarray(bytes.length > 100 ? 1 : 0)) })), /were counted|another than was sent/],
  [
    'octets are doubled',
    changed((flow) => ({ write: (bytes) => [bytes.slice(0, 1), bytes].every((piece) => flow.write(piece)) })),
    /another than was sent|were counted/,
  ],
  ['octets are reordered', changed((flow) => ({ write: (bytes) => flow.write(bytes.toReversed()) })), /another than was sent/],
  ['a message is lost', changed((flow) => dropping(flow)), /some are lost/],
  ['a message comes again', changed((flow) => ({ send: (message) => [message, message].every((one) => flow.send(one)) })), /came after/],
  [
    'a writer does not wait for a slow reader',
    changed((flow) => ({ write: (bytes) => flow.write(bytes) || true })),
    /octets wait for a slow reader/,
    {},
    { conversations_per_minute: 1_500, minutes: 4 },
  ],
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
  [
    'a revoked peer keeps its channel',
    broken(({ mesh }) => {
      mesh.revalidate = () => {};
    }),
    /known to be revoked/,
    { revocations_per_minute: 2 },
  ],
  [
    'a denied class goes on',
    broken(({ policy }) => {
      policy.follow = () => {};
    }),
    /denied as it should know/,
    { denials_per_minute: 4 },
  ],
  [
    'a class is denied without a rule',
    broken(({ policy }) => {
      const flow = policy.flow.bind(policy);
      policy.flow = (peer, asked) => (asked.class === 'clipboard' ? new SelvedgeError('channel_class_denied', { class: 'clipboard' }) : flow(peer, asked));
    }),
    /though no rule is against it/,
  ],
  [
    'a host that drains takes new flows',
    () => {
      Draining.prototype.objection = () => null;
    },
    /while that drains/,
    { drains_per_minute: 6 },
  ],
  ['a drain ends what keeps the mesh together', endsControl, /though it is essential/, { drains_per_minute: 20 }, { conversations_per_minute: 1200 }],
  [
    'a drain is never over',
    broken(({ mesh }) => {
      const status = (): DrainStatus => Reflect.get(PeerMesh.prototype, 'drainStatus', mesh);
      Object.defineProperty(mesh, 'drainStatus', { get: () => (status().state === 'none' ? status() : { ...status(), state: 'draining' }) });
    }),
    /has not drained by its deadline/,
    { drains_per_minute: 6 },
  ],
  [
    'a node does not notice that its tower is away',
    broken(({ away }) => {
      away.channelsChanged = () => {};
    }),
    /of class render to .* denied as it should know/,
    { outages_per_minute: 0.6 },
  ],
  [
    'a node follows a snapshot that has expired',
    broken(({ expiry }) => {
      expiry.objection = () => null;
    }),
    /though its snapshot has expired/,
    { outages_per_minute: 2, outage_ms_max: 600_000 },
    { minutes: 10 },
  ],
  [
    'channels do not move over to renewed leaves',
    broken(({ mesh }) => {
      mesh.refresh = () => Promise.resolve({ moved: 0, of: 0 });
      mesh.moveOver = () => {};
    }),
    /has lost its channel with .* by a rotation alone/,
    { rotations_per_minute: 6 },
  ],
  [
    'a peer on a retired root is accepted',
    standsStill,
    /whose root 1 it has known to be retired/,
    { rotations_per_minute: 6, crashes_per_minute: 3, tower_part: 0 },
    { minutes: 5 },
  ],
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

for (const [name, plant, found, faults = {}, more = {}] of plants) {
  t.test(`planted, and found: ${name}`, async (t) => {
    const { objection } = Draining.prototype;
    t.teardown(() => {
      Draining.prototype.objection = objection;
    });
    const { violations } = await simulate({ ...small, ...more, faults: { ...noFaults, ...faults }, plant });
    t.ok(
      violations.some((one) => found.test(one)),
      'it is named',
      { violations: violations.slice(0, 5) },
    );
  });
}
