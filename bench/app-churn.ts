#!/usr/bin/env node
/**
 * What one member of an app network can cost the tower by attaching and detaching as often as it may: a real tower with its store on disk, flows in memory, and
 * a network of the member and N others, each with its flow of snapshots. First all at once, then evenly for some seconds, at the allowed rate. Prints
 * requests, snapshots pushed, their octets, and the CPU time of the process.
 *
 *     npx node bench/app-churn.ts [--members 50] [--attachments 256] [--seconds 10]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { limits } from '../src/base/limits.ts';
import { createCsr } from '../src/identity/csr.ts';
import { generateKeyPair } from '../src/identity/keys.ts';
import type { FlowHandle, Mesh } from '../src/peering/mesh.ts';
import { serveApp } from '../src/tower/app/fabric.ts';
import { serveSnapshots } from '../src/tower/fabric.ts';
import { initTower, openTower } from '../src/tower/init.ts';
import { systemClock, systemRandom, systemTimers } from '../src/transport/system.ts';
import { NodeFlow } from '../test/unit/tower/node-flow.ts';

const { values } = parseArgs({
  options: { members: { type: 'string', default: '50' }, attachments: { type: 'string', default: '256' }, seconds: { type: 'string', default: '10' } },
});
const members = Number(values.members);
const directory = await mkdtemp(join(tmpdir(), 'selvedge-churn-'));
const unseal = { kind: 'key', key: new Uint8Array(32).fill(7) } as const;
const parts = { state: join(directory, 'tower'), unseal, clock: systemClock, random: systemRandom };
await initTower({ ...parts, cluster: 'churn', endpoints: [] });
const tower = await openTower(parts);

const handlers = new Map<string, (flow: FlowHandle) => void>();
const mesh: Mesh = {
  open: () => {
    throw new Error('the tower opens no flow here');
  },
  handle: (service, handler) => void handlers.set(service, handler),
  status: () => [],
  close: async () => {},
};
const snapshots = serveSnapshots(mesh, tower, systemTimers);
const app = serveApp(mesh, tower.app, systemTimers);

const { text: token } = await tower.createToken({ uses: members + 1, life_ms: 3_600_000 });
await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/16', subnet6: 'fd00::/64' }, 'local');
const flows: NodeFlow[] = [];
const nodes: string[] = [];
for (let index = 0; index <= members; index++) {
  const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
  const { node } = await tower.enroll({ proof: { kind: 'token', token }, csr, name: `node-${index}`, site: `site-${index}`, listen: [] }, '192.0.2.1');
  await tower.app.add('shop', node, 'local');
  nodes.push(node);
}
const churner = nodes[0] ?? '';
for (let index = 0; index < Number(values.attachments) - 1; index++) await tower.app.attach(churner, 'shop', `kept-${index}`);
for (const node of nodes) {
  const flow = new NodeFlow(node);
  handlers.get('snapshot')?.(flow);
  flow.ask({ have: 0, listen: [] });
  await flow.messageNumber(1);
  flows.push(flow);
}
const asking = new NodeFlow(churner);
handlers.get('app')?.(asking);

interface Row {
  readonly what: string;
  readonly requests: number;
  readonly done: number;
  readonly wall_s: number;
  readonly cpu_s: number;
  readonly pushes: number;
  readonly mbytes: number;
}

async function measured(what: string, requests: number, gap_ms: number): Promise<Row> {
  const sent = () => flows.flatMap(({ got }) => got);
  const before = { cpu: process.cpuUsage(), at: performance.now(), pushes: sent().length, answers: asking.got.length };
  const bytesBefore = sent().reduce((sum, { length }) => sum + length, 0);
  for (let index = 0; index < requests; index++) {
    asking.ask({ op: index % 2 === 0 ? 'attach' : 'detach', network: 'shop', attachment: 'churn' });
    if (gap_ms > 0) await wait(gap_ms);
  }
  await asking.messageNumber(before.answers + requests);
  // The last change has reached everybody: nothing more is pushed.
  for (let quiet = -1; quiet !== sent().length; ) {
    quiet = sent().length;
    await wait(2 * limits.snapshot_push_interval_ms);
  }
  const { user, system } = process.cpuUsage(before.cpu);
  const refused = asking.got.slice(before.answers).filter((answer) => new TextDecoder().decode(answer).includes('"error"')).length;
  return {
    what,
    requests,
    done: requests - refused,
    wall_s: round((performance.now() - before.at) / 1_000),
    cpu_s: round((user + system) / 1e6),
    pushes: sent().length - before.pushes,
    mbytes: round((sent().reduce((sum, { length }) => sum + length, 0) - bytesBefore) / 1e6),
  };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

const per_minute = limits.app_requests_per_minute_max;
const gap_ms = 60_000 / per_minute;
console.table([await measured('all at once', per_minute, 0), await measured('evenly', Math.round((Number(values.seconds) * 1_000) / gap_ms), gap_ms)]);
snapshots.close();
app.close();
await tower.close();
await rm(directory, { recursive: true });
