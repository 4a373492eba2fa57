/** `refuse`: what must not get in is refused, each with its code, and the live channels do not notice. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import type { Credentials } from '../../transport/session.ts';
import { nameOf } from '../schema.ts';
import { round } from '../units.ts';
import type { AttackOrder, AttackResult } from './refuse-client.ts';
import { gatherMaterial } from './refuse-material.ts';
import { defineStep, judge, type World } from './step.ts';

const parameters = Type.Object(
  {
    from: Type.Optional(nameOf('node', 'the node from whose host the attacks come')),
    victim: Type.Optional(nameOf('node', 'the node whose name is claimed')),
    rss_mib_max: Type.Optional(Type.Integer({ minimum: 1, description: 'MiB by which the tower may grow' })),
    pause_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds that an echo of a live channel may take meanwhile' })),
  },
  { additionalProperties: false, description: 'from, victim, rss_mib_max, pause_ms_max' },
);

/** What each attempt must be refused with, on each transport on which it is made. */
const expected: Readonly<Record<string, string>> = {
  other_cluster: 'wrong_cluster',
  forged_root: 'certificate_invalid',
  another_name: 'wrong_node',
  expired: 'certificate_invalid',
  stolen: 'tls_handshake_failed',
  garbage: 'frame_invalid',
  garbage_64_mib: 'frame_too_large',
  raw_garbage: 'tls_handshake_failed',
  body_64_mib: 'body_too_large',
};

export const refuse = defineStep(
  'refuse',
  'false certificates, stolen ones and garbage are refused; live channels do not notice',
  parameters,
  async (world, given) => {
    const { rss_mib_max = 64, pause_ms_max = 500 } = given;
    const fleet = world.fleet();
    const victim = given.victim ?? fleet.nodes[0]?.name;
    const from = given.from ?? fleet.nodes.find((node) => node.name !== victim)?.name;
    if (victim === undefined || from === undefined) throw new SelvedgeError('lab_failed', { why: 'this step needs two nodes' });
    await fleet.established(victim, fleet.tower.name, 30_000);
    const before_kib = await residentKib(fleet.pidOf(fleet.tower.name));
    const pings = fleet.ping(victim, fleet.tower.name, { count: 60 * 50, interval_ms: 20 });
    const results = await attack(world, from, victim);
    const live = [...pings.samples];
    const alive = pings.running;
    pings.stop();
    const grown_mib = Math.max(0, ((await residentKib(fleet.pidOf(fleet.tower.name))) - before_kib) / 1024);
    const slowest_ms = Math.max(0, ...live.map((sample) => sample.rtt_ms));
    const wrong = Object.entries(expected).flatMap(([name, code]) => {
      const tried = results.filter((result) => result.attack === name);
      return tried.length === 0
        ? [`${name} was not tried`]
        : tried.filter((result) => result.code !== code).map((result) => `${name} over ${result.transport}: ${result.code} (${result.why}), expected ${code}`);
    });
    const figures = { codes: codesOf(results), live_echoes: live.length, live_slowest_ms: round(slowest_ms), tower_grown_mib: round(grown_mib) };
    return judge(figures, [
      ...wrong.map((what) => [what, false] as const),
      ['the live channel answers all the time', alive && live.length > 0],
      [`no echo of the live channel takes longer than ${pause_ms_max} ms`, slowest_ms <= pause_ms_max],
      [`the tower grows by at most ${rss_mib_max} MiB`, grown_mib <= rss_mib_max],
    ]);
  },
);

async function attack(world: World, from: string, victim: string): Promise<AttackResult[]> {
  const fleet = world.fleet();
  const material = await gatherMaterial(fleet, from, victim);
  const pack = ({ chain, key }: Credentials) => ({ chain: chain.map((der) => Buffer.from(der).toString('base64')), key: Buffer.from(key).toString('base64') });
  const { honest, otherCluster, forgedRoot, expired, stolen, cluster, honestNode, victimNode } = material;
  const credentials = { honest: pack(honest), otherCluster: pack(otherCluster), forgedRoot: pack(forgedRoot), expired: pack(expired), stolen: pack(stolen) };
  const order: AttackOrder = { host: fleet.towerAddress, port: 443, cluster, honestNode, victimNode, credentials };
  const results: AttackResult[] = [];
  const client = world.lab.spawn(from, [process.execPath, fileURLToPath(new URL('refuse-client.ts', import.meta.url))], {
    name: 'attacker',
    onLine: (line, stream) => {
      if (stream !== 'stdout') return;
      const result = JSON.parse(line) as AttackResult;
      results.push(result);
      world.say(`${result.attack} over ${result.transport}: ${result.code}`);
    },
  });
  client.write(JSON.stringify(order));
  client.endInput();
  await client.succeeded();
  return results;
}

/** One code for each attempt; where the transports differ, both. */
function codesOf(results: readonly AttackResult[]): Record<string, string> {
  const names = [...new Set(results.map((result) => result.attack))];
  return Object.fromEntries(
    names.map((name) => {
      const tried = results.filter((result) => result.attack === name);
      const codes = new Set(tried.map((result) => result.code));
      return [name, codes.size === 1 ? [...codes].join() : tried.map((result) => `${result.transport} ${result.code}`).join(', ')];
    }),
  );
}

async function residentKib(pid: number | null): Promise<number> {
  const status = pid === null ? '' : await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
}
