/** `rotate_root`: the cluster's root is rotated while a file and echoes pass to the tower: every node is reissued, the old root retired and then refused, and no channel notices. */
import { fileURLToPath } from 'node:url';
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { NodeState } from '../../enroll/state.ts';
import { loadUnsealKey } from '../../identity/unseal.ts';
import type { Answer } from '../fleet.ts';
import { bottleneckOf } from '../paths.ts';
import { nameOf } from '../schema.ts';
import { round } from '../units.ts';
import type { AttackOrder, AttackResult } from './refuse-client.ts';
import { endedChannels } from './rotate.ts';
import { defineStep, judge, type World } from './step.ts';
import { Transfer } from './transfer.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'the node that sends, and whose old certificate is tried afterwards')),
    file_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 600, description: 'seconds that the file takes, 1 to 600' })),
    within_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 600, description: 'seconds for each phase' })),
  },
  { additionalProperties: false, description: 'node, file_s, within_s' },
);

const READY_MS = 20_000;
const POLL_MS = 200;
const PING_MS = 50;

interface Status {
  readonly phase: string;
  readonly is_ready: boolean;
  readonly nodes: { readonly enabled: number; readonly ready: number };
  readonly roots: readonly { readonly fingerprint: string }[];
  readonly missing: { readonly nodes: readonly { readonly name: string; readonly why: string }[] };
}

export const rotateRoot = defineStep(
  'rotate_root',
  'the root of the cluster is rotated while a file and echoes pass: every node gets a certificate under the new one, the old one is refused, no channel is dropped',
  parameters,
  async (world, given) => {
    const { file_s = 20, within_s = 60 } = given;
    const fleet = world.fleet();
    const names = fleet.nodes.map(({ name }) => name);
    const node = given.node ?? names[0] ?? '';
    for (const name of names) await fleet.established(name, fleet.tower.name, READY_MS);
    const hosts = [fleet.tower.name, ...names];
    const before = await Promise.all(hosts.map((host) => endedChannels(world, host)));
    const thief = await orderWithOldLeaf(world, node);
    const shown = await Promise.all(names.map((name) => towerLeafAt(world, name)));
    const { mbit } = bottleneckOf(world.lab.topology, node);
    const transfer = await Transfer.prepare(world, node, `rotate-root-${node}.bin`, Math.round((mbit * 1e6 * file_s) / 8));
    const echoes = fleet.ping(names.find((name) => name !== node) ?? node, fleet.tower.name, { count: 1_000_000, interval_ms: PING_MS });
    try {
      transfer.start();
      await transfer.reached(1, READY_MS);
      const began_ms = performance.now();
      mustHold('trust rotate', await fleet.atTower(['trust', 'rotate']));
      const ready = await statusWhere(world, ({ is_ready }) => is_ready, within_s * 1_000);
      const reissued_ms = performance.now() - began_ms;
      world.say(`${ready.nodes.ready} of ${ready.nodes.enabled} nodes have a certificate under the new root after ${Math.round(reissued_ms)} ms`);
      mustHold('trust retire', await fleet.atTower(['trust', 'retire']));
      const { roots } = await statusWhere(world, ({ phase }) => phase === 'stable', within_s * 1_000);
      fleet.knowRoot(roots[0]?.fingerprint ?? '');
      for (const [index, name] of names.entries())
        await until(world, async () => (await towerLeafAt(world, name)) !== shown[index], within_s * 1_000, `${name} moves over`);
      const moved_ms = performance.now() - began_ms;
      const arrival = await transfer.finish(READY_MS + file_s * 10_000);
      const isAnswered = echoes.running && echoes.samples.length > 0;
      const tried = await attack(world, node, thief);
      const after = await Promise.all(hosts.map((host) => endedChannels(world, host)));
      const dropped = after.reduce((sum, count, index) => sum + count - (before[index] ?? 0), 0);
      const codes = [...new Set(tried.map(({ code }) => code))];
      const figures = {
        dropped,
        reissued: ready.nodes.ready,
        reissued_s: round(reissued_ms / 1_000),
        moved_s: round(moved_ms / 1_000),
        sha256_equal: arrival.sha256_equal,
        refused_code: codes.join(', '),
      };
      return judge(figures, [
        ['no channel is dropped', dropped === 0],
        ['every node has a certificate under the new root', ready.nodes.ready === ready.nodes.enabled],
        ['the file arrived as it was sent', arrival.sha256_equal],
        ['echoes are answered all the time', isAnswered],
        ['the old root is refused over both transports', tried.length === 2 && codes.join() === 'certificate_invalid'],
      ]);
    } finally {
      echoes.stop();
      await echoes.ended.catch(() => undefined);
      await transfer.close();
    }
  },
);

function mustHold(what: string, answer: Answer): void {
  if (!answer.ok) throw new SelvedgeError('lab_failed', { why: `${what}: ${answer.text}` });
}

/** What `trust status` says, once that holds. @throws lab_failed */
async function statusWhere(world: World, holds: (status: Status) => boolean, within_ms: number): Promise<Status> {
  let status = await statusOf(world);
  await until(
    world,
    async () => {
      status = await statusOf(world);
      return holds(status);
    },
    within_ms,
    () => `the rotation is ${status.phase}, and lacks ${status.missing.nodes.map(({ name, why }) => `${name} (${why})`).join(', ') || 'nobody'}`,
  );
  return status;
}

async function statusOf(world: World): Promise<Status> {
  const fleet = world.fleet();
  return (await fleet.ask(fleet.tower.name, 'GET', '/v1/trust')) as unknown as Status;
}

/** The fingerprint of what the tower showed for the session that this node has with it. */
async function towerLeafAt(world: World, node: string): Promise<string> {
  const detail = (await world.fleet().ask(node, 'GET', `/v1/channels/${world.fleet().tower.name}`)) as { certificate?: { fingerprint?: string } | null };
  return detail.certificate?.fingerprint ?? '';
}

async function until(world: World, holds: () => Promise<boolean>, within_ms: number, what: string | (() => string)): Promise<void> {
  const until_ms = performance.now() + within_ms;
  while (!(await holds())) {
    if (performance.now() > until_ms) throw new SelvedgeError('lab_failed', { why: `not within ${within_ms} ms: ${typeof what === 'string' ? what : what()}` });
    await pause(POLL_MS, undefined, { signal: world.signal });
  }
}

/** What a thief would try who has the node's key and certificate of before. */
async function orderWithOldLeaf(world: World, name: string): Promise<AttackOrder> {
  const fleet = world.fleet();
  const { credentials, identity, secrets } = await NodeState.load(fleet.stateOf(name), await loadUnsealKey({ keyFile: fleet.keyFileOf(name) }), Date.now());
  await secrets.close();
  const old = { chain: credentials.chain.map((der) => Buffer.from(der).toString('base64')), key: Buffer.from(credentials.key).toString('base64') };
  return {
    host: fleet.towerAddress,
    port: 443,
    cluster: identity.cluster,
    honestNode: identity.node,
    victimNode: identity.node,
    credentials: { honest: old, otherCluster: old, forgedRoot: old, expired: old, stolen: old },
    only: ['forged_root'],
  };
}

async function attack(world: World, from: string, order: AttackOrder): Promise<readonly AttackResult[]> {
  const results: AttackResult[] = [];
  const client = world.lab.spawn(from, [process.execPath, fileURLToPath(new URL('refuse-client.ts', import.meta.url))], {
    name: 'attacker',
    onLine: (line, stream) => {
      if (stream === 'stdout') results.push(JSON.parse(line) as AttackResult);
    },
  });
  client.write(JSON.stringify(order));
  client.endInput();
  await client.succeeded();
  return results;
}
