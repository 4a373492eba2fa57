/** `membership`: the tower takes a node out of the app network; how long packets pass after the command has returned, either way. */
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { nameOf } from '../schema.ts';
import { APP_NETWORK, AppLab, required } from '../app-lab.ts';
import { round } from '../units.ts';
import { defineStep, judge } from './step.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'the node that is taken out')),
    cut_ms_max: Type.Optional(Type.Integer({ minimum: 0, description: 'milliseconds' })),
  },
  { additionalProperties: false, description: 'node, cut_ms_max' },
);

const STEP_MS = 5;
const BEFORE_MS = 1_000;
/** How long it is watched whether something still passes. */
const WATCHED_MS = 4_000;
const READY_MS = 15_000;

export const membership = defineStep(
  'membership',
  'the tower takes a node out of the app network while datagrams pass both ways',
  parameters,
  async (world, { node = 'b', cut_ms_max = 1_000 }) => {
    const fleet = world.fleet();
    const app = AppLab.of(world);
    const [inside, removed] = [app.place('web'), app.place(`till-${node}`)];
    const last = new Map<string, number>();
    const seen = new Map<string, number>();
    const exchange = (own: string, ownAddress: string, peerAddress: string) =>
      app.run(own, ['exchange', ownAddress, peerAddress, String(STEP_MS)], (facts) => {
        if (typeof facts.last_ms === 'number') last.set(own, facts.last_ms);
        if (typeof facts.received === 'number') seen.set(own, facts.received);
      });
    const ends = [exchange(inside.name, inside.address, removed.address), exchange(removed.name, removed.address, inside.address)];
    try {
      await pause(BEFORE_MS, undefined, { signal: world.signal });
      required(`app remove ${APP_NETWORK} ${node}`, await fleet.atTower(['app', 'remove', APP_NETWORK, node]));
      const returned_ms = performance.timeOrigin + performance.now();
      world.say(`${node} is removed`);
      await pause(WATCHED_MS, undefined, { signal: world.signal });
      for (const end of ends) end.endInput();
      await Promise.all(ends.map((end) => end.ended));
      const received = Math.min(...[inside, removed].map(({ name }) => seen.get(name) ?? 0));
      const cut_ms = Math.max(0, ...[...last.values()].map((at_ms) => at_ms - returned_ms));
      const gone = await app.until(
        node,
        `${node} still has ${APP_NETWORK}`,
        READY_MS,
        (facts) => facts?.networks.some(({ name }) => name === APP_NETWORK) !== true,
      );
      const others = await app.until(
        inside.host,
        `${inside.host} still knows ${node}`,
        READY_MS,
        (facts) => facts?.peers.some(({ name }) => name === node) !== true,
      );
      const left = await world.lab.tryExec(removed.name, ['ip', '-o', 'link']);
      return judge({ cut_ms: round(cut_ms), passed_before: received, peers_left: others?.peers.length ?? 0 }, [
        ['datagrams passed both ways before', received > BEFORE_MS / STEP_MS / 4],
        [`nothing passes later than ${cut_ms_max} ms after the command has returned`, cut_ms <= cut_ms_max],
        [`${node} has neither network nor interface of it`, gone === null || !left.stdout.includes(APP_NETWORK)],
      ]);
    } finally {
      for (const end of ends) end.kill('SIGKILL');
    }
  },
);
