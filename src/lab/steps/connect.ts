/** `connect`: the daemons start, and each node has a channel to the tower on the transport that its network allows. */
import { Type } from 'typebox';
import type { Lab } from '../lab.ts';
import { gatewaysOf } from '../paths.ts';
import { defineStep, judge } from './step.ts';

const parameters = Type.Object(
  { within_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 120, description: 'seconds, 1 to 120' })) },
  { additionalProperties: false, description: 'within_s' },
);

export const connect = defineStep(
  'connect',
  'starts every node; each reaches the tower, on QUIC where UDP passes, else on TCP',
  parameters,
  async (world, { within_s = 20 }) => {
    const fleet = world.fleet();
    const transports: Record<string, string> = {};
    const connect_ms: Record<string, number> = {};
    const why: Record<string, string> = {};
    for (const node of fleet.nodes) {
      const started = performance.now();
      await fleet.startNode(node.name);
      const channel = await fleet.established(node.name, fleet.tower.name, within_s * 1000, (found) => found.transport !== null);
      connect_ms[node.name] = Math.round(performance.now() - started);
      transports[node.name] = channel.transport ?? 'none';
      why[node.name] = channel.why;
      world.say(`${node.name} is on ${channel.transport} after ${connect_ms[node.name]} ms (${channel.why})`);
    }
    const checks = fleet.nodes.map((node) => {
      const expected = udpReachesTower(world.lab, node.name) ? 'quic' : 'tcp';
      return [`${node.name} is on ${expected}`, transports[node.name] === expected] as const;
    });
    return judge({ transports, connect_ms, why }, checks);
  },
  { essential: true },
);

/** Whether UDP passes at the node and at its gateways. */
function udpReachesTower(lab: Lab, node: string): boolean {
  return ![node, ...gatewaysOf(lab.topology, node).map((host) => host.name)].some((name) => lab.udpBlocked(name));
}
