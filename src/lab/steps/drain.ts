/** `drain`: the tower is emptied while a file and control messages are under way; what finishes, what is refused, and how it comes back. */
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { bottleneckOf } from '../paths.ts';
import { nameOf } from '../schema.ts';
import { defineStep, judge } from './step.ts';
import { Transfer } from './transfer.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'a node')),
    file_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 600, description: 'seconds that the file takes, 1 to 600' })),
    lost_control_max: Type.Optional(Type.Integer({ minimum: 0, description: 'messages' })),
  },
  { additionalProperties: false, description: 'node, file_s, lost_control_max' },
);

const CONTROL_INTERVAL_MS = 20;
/** Control messages go on for longer than the file. */
const TAIL_S = 6;
/** The file has so much time on top of what its line takes. */
const DEADLINE = '120s';
const READY_MS = 20_000;

export const drain = defineStep(
  'drain',
  'the tower drains while a file and control messages are under way: both arrive whole, new flows are refused, and it comes back',
  parameters,
  async (world, given) => {
    const { file_s = 6, lost_control_max = 0 } = given;
    const fleet = world.fleet();
    const node = given.node ?? fleet.nodes[0]?.name ?? '';
    await fleet.established(node, fleet.tower.name, READY_MS);
    const { mbit } = bottleneckOf(world.lab.topology, node);
    const transfer = await Transfer.prepare(world, node, `drain-${node}.bin`, Math.round((mbit * 1e6 * file_s) / 8));
    const count = Math.round(((file_s + TAIL_S) * 1_000) / CONTROL_INTERVAL_MS);
    const control = fleet.ping(node, fleet.tower.name, { count, interval_ms: CONTROL_INTERVAL_MS, class: 'fabric_control' });
    try {
      transfer.start();
      await transfer.reached(1, READY_MS);
      const began_ms = performance.now();
      const over = fleet.atTower(['drain', '--deadline', DEADLINE, '--force']).then((answer) => ({ answer, after_ms: performance.now() - began_ms }));
      await fleet.hasState(node, fleet.tower.name, 'draining', READY_MS);
      const told_ms = performance.now() - began_ms;
      const refused = await fleet.atNode(node, ['ping', fleet.tower.name, '--class', 'input', '--count', '1']);
      world.say(`${node} knows after ${Math.round(told_ms)} ms; what it opens anew: ${refused.code ?? 'not refused'}`);
      const arrival = await transfer.finish(READY_MS + file_s * 10_000);
      const { answer, after_ms } = await over;
      if (!answer.ok) throw new SelvedgeError('lab_failed', { why: `drain: ${answer.text}` });
      world.say(`drained after ${Math.round(after_ms)} ms, ${String(answer.facts.forced)} flows by force`);
      const echoes = await control.ended;
      await fleet.atTower(['undrain']);
      await fleet.established(node, fleet.tower.name, READY_MS);
      const isBack = (await fleet.pingOnce(node, fleet.tower.name, READY_MS)) !== null;
      const lost = count - echoes.length;
      const figures = {
        state: String(answer.facts.state),
        forced: Number(answer.facts.forced),
        drained_ms: Math.round(after_ms),
        told_ms: Math.round(told_ms),
        control_messages: count,
        lost_control: lost,
        refused_code: refused.code ?? 'none',
        sha256_equal: arrival.sha256_equal,
      };
      return judge(figures, [
        ['the tower has drained, and nothing was ended by force', answer.facts.state === 'drained' && answer.facts.forced === 0],
        ['the file arrived as it was sent', arrival.sha256_equal],
        [`at most ${lost_control_max} control messages are lost`, lost <= lost_control_max],
        ['a new flow is refused with peer_draining', refused.code === 'peer_draining'],
        ['the tower is back in service', isBack],
      ]);
    } finally {
      control.stop();
      await transfer.close();
    }
  },
);
