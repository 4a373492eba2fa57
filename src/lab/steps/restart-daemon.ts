/** `restart_daemon`: selvedged is killed and started again while a TCP flow and echoes cross the app network; neither notices, since the tunnel outlives the daemon. */
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { nameOf } from '../schema.ts';
import { APP_HTTP_PORT, AppLab } from '../app-lab.ts';
import { round } from '../units.ts';
import { defineStep, judge } from './step.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'the node whose daemon is killed; a server of app_network is on it')),
    from: Type.Optional(nameOf('node', 'the node on which flow and echoes end')),
    mbit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'Mbit/s of the flow' })),
    lost_pings_max: Type.Optional(Type.Integer({ minimum: 0, description: 'a whole number' })),
    gap_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
  },
  { additionalProperties: false, description: 'node, from, mbit, lost_pings_max, gap_ms_max' },
);

const PING_S = 0.01;
/** Shorter pauses of the flow are not told of. */
const GAP_STEP_MS = 4;
/** Both run this long before anything happens, are without a daemon, and go on after it is back. */
const BEFORE_MS = 1_000;
const GONE_MS = 1_000;
const AFTER_MS = 2_000;
const BACK_MS = 20_000;

export const restartDaemon = defineStep(
  'restart_daemon',
  'selvedged is killed with SIGKILL and started again during a TCP flow and echoes over the app network',
  parameters,
  async (world, { node = 'a', from = 'b', mbit = 100, lost_pings_max = 0, gap_ms_max = 50 }) => {
    const fleet = world.fleet();
    const app = AppLab.of(world);
    const [server, client] = [app.place('web'), app.place(`till-${from}`)];
    const before = await app.factsOf(node);
    const answered = new Set<number>();
    const pings = world.lab.spawn(client.name, ['ping', '-n', '-i', String(PING_S), server.address], {
      name: 'app-ping',
      onLine: (line) => {
        const sequence = /icmp_seq=(\d+) .*time=/.exec(line)?.[1];
        if (sequence !== undefined) answered.add(Number(sequence));
      },
    });
    const gaps: { readonly at_ms: number; readonly gap_ms: number }[] = [];
    const stalls: { readonly at_ms: number; readonly gap_ms: number }[] = [];
    let bytes = 0;
    let isBroken = false;
    const flow = app.run(client.name, ['watch', `http://${server.address}:${APP_HTTP_PORT}/flow?mbit=${mbit}`, String(GAP_STEP_MS)], (facts) => {
      if (typeof facts.stalled_ms === 'number') stalls.push({ at_ms: Number(facts.at_ms), gap_ms: facts.stalled_ms });
      if (typeof facts.gap_ms === 'number') gaps.push({ at_ms: Number(facts.at_ms), gap_ms: facts.gap_ms });
      if (typeof facts.bytes === 'number') bytes = facts.bytes;
      if ('broken_ms' in facts) isBroken = true;
    });
    const wait = (ms: number) => pause(ms, undefined, { signal: world.signal });
    try {
      await wait(BEFORE_MS);
      const killed_ms = epochNow();
      await fleet.kill(node);
      world.say(`the daemon of ${node} is killed`);
      await wait(GONE_MS);
      await fleet.startNode(node);
      const after = await app.until(node, `the daemon of ${node} has not taken up its tunnel`, BACK_MS, (facts) => facts?.tunnel.is_current === true);
      const back_ms = epochNow();
      await wait(AFTER_MS);
      const end_ms = epochNow();
      pings.kill('SIGINT');
      flow.endInput();
      await Promise.all([pings.ended, flow.ended]);
      const sent = Math.max(0, ...answered);
      const lost_pings = sent - answered.size;
      const longest = (pauses: readonly { readonly at_ms: number; readonly gap_ms: number }[]) =>
        Math.max(0, ...pauses.filter(({ at_ms }) => at_ms > killed_ms && at_ms <= end_ms).map(({ gap_ms }) => gap_ms));
      const flow_gap_ms = longest(gaps);
      const ends_stalled_ms = longest([...stalls, ...(app.heardBy(server.name)?.stalls ?? [])]);
      world.say(
        `${answered.size} of ${sent} echoes, the flow stood still for at most ${round(flow_gap_ms)} ms; the daemon was back after ${Math.round(back_ms - killed_ms)} ms`,
      );
      const figures = {
        lost_pings,
        pings: sent,
        flow_gap_ms: round(flow_gap_ms),
        ends_stalled_ms: round(ends_stalled_ms),
        flow_mb: round(bytes / 1e6),
        back_ms: Math.round(back_ms - killed_ms),
      };
      return judge(figures, [
        [`at most ${lost_pings_max} echoes are lost`, lost_pings <= lost_pings_max],
        ['echoes went on until the end', sent >= ((end_ms - killed_ms) / (PING_S * 1000)) * 0.5],
        [`the flow stands still for at most ${gap_ms_max} ms`, !isBroken && bytes > 0 && flow_gap_ms <= gap_ms_max],
        ['the tunnel is the one that ran before', after?.tunnel.pid === before?.tunnel.pid],
      ]);
    } finally {
      pings.kill('SIGKILL');
      flow.kill('SIGKILL');
    }
  },
);

/** As the programs in the namespaces tell the time. */
function epochNow(): number {
  return performance.timeOrigin + performance.now();
}
