/** The same measurement without the governor: what the report shows beside it. Not a step, since nothing is promised of it. */
import type { World } from './step.ts';
import { measureQos } from './qos.ts';

const IDLE_S = 5;
const LOADED_S = 15;

/** Does nothing unless `qos_quic` was measured. */
export async function measureWithoutGovernor(world: World): Promise<void> {
  const measured = world.trace.runs.get('qos_quic');
  if (!measured) return;
  const fleet = world.fleet();
  const node = measured.node;
  world.say(`for the report: ${node} once more without the governor`);
  await fleet.stop(node);
  await fleet.startNode(node, ['--no-governor']);
  try {
    await fleet.established(node, fleet.tower.name, 20_000);
    await measureQos(world, node, 'before', 'without the governor', IDLE_S, LOADED_S);
  } finally {
    await fleet.stop(node);
    await fleet.startNode(node);
  }
}
