#!/usr/bin/env node
/**
 * How fast a tower lets nodes in and answers about them: enrollments a second over the real HTTPS API (proof, request, signature, audit row,
 * transaction on disk), a page of 100 nodes of 10,000, and a snapshot of one of them. Tower and client are processes of their own.
 *
 *     npx node bench/identity/run.ts [--enrollments 1500] [--connections 16] [--nodes 10000]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fillWithNodes } from './fill.ts';
import type { Order } from './tower.ts';

const { values } = parseArgs({
  options: { enrollments: { type: 'string', default: '1500' }, connections: { type: 'string', default: '16' }, nodes: { type: 'string', default: '10000' } },
});
const directory = await mkdtemp(join(tmpdir(), 'selvedge-identity-'));
const state = join(directory, 'tower');
/** For the compiler, before what counts. */
const WARM = 300;
const PAGES = 300;
const SNAPSHOTS = 300;
const PAGE_NODES = 100;

type Extent = 'certificate' | 'whole';
const extents: Record<Extent, string> = {
  certificate: 'proof, request and certificate',
  whole: 'with a boot identity and the site token, as a node asks today',
};

const program = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

async function startTower(isNew: boolean): Promise<{ port: number; socket: string; tower: ChildProcess }> {
  const tower = fork(program('tower.ts'), [state, isNew ? 'new' : 'old']);
  const [{ result }] = (await once(tower, 'message')) as [{ result: { port: number; socket: string } }];
  return { ...result, tower };
}

async function ask<T>(tower: ChildProcess, order: Order): Promise<T> {
  tower.send(order);
  const [{ result }] = (await once(tower, 'message')) as [{ result: T }];
  return result;
}

async function stop(tower: ChildProcess): Promise<void> {
  tower.send({ what: 'stop' } satisfies Order);
  await once(tower, 'exit');
}

async function enroll(port: number, token: string, count: number, prefix: string, extent: Extent): Promise<{ seconds: number; latencies_ms: number[] }> {
  const client = fork(program('client.ts'), [String(port), token, String(count), values.connections, prefix, extent]);
  const [result] = (await once(client, 'message')) as [{ seconds: number; latencies_ms: number[] }];
  return result;
}

/** Pages all over the list, each with its connection, as the command line asks. Milliseconds. */
async function timePages(socketPath: string, count: number): Promise<number[]> {
  const times: number[] = [];
  let after: string | null = null;
  for (let index = 0; index < count; index++) {
    const began = performance.now();
    const outgoing = request({ socketPath, path: `/v1/nodes?limit=${PAGE_NODES}${after === null ? '' : `&after=${encodeURIComponent(after)}`}`, agent: false });
    outgoing.end();
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    const page = (await json(response)) as { items: unknown[]; next: string | null };
    times.push(performance.now() - began);
    if (response.statusCode !== 200 || page.items.length === 0) throw new Error(`no page: ${response.statusCode}`);
    after = page.next;
  }
  return times;
}

const percentile = (sorted: readonly number[], part: number): number => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN;

function report(name: string, value: number, unit: string, bound: number, isAtLeast: boolean): boolean {
  const holds = isAtLeast ? value >= bound : value <= bound;
  process.stdout.write(`${name}: ${value.toFixed(2)} ${unit}, promised ${isAtLeast ? 'at least' : 'at most'} ${bound}: ${holds ? 'holds' : 'MISSED'}\n`);
  return holds;
}

const spread = (times: readonly number[]): string => {
  const sorted = [...times].sort((left, right) => left - right);
  return `p50 ${percentile(sorted, 0.5).toFixed(2)} ms, p99 ${percentile(sorted, 0.99).toFixed(2)} ms`;
};
const median = (times: readonly number[]): number =>
  percentile(
    [...times].sort((left, right) => left - right),
    0.5,
  );

const verdicts: boolean[] = [];
try {
  const count = Number(values.enrollments);
  const first = await startTower(true);
  const token = await ask<string>(first.tower, { what: 'token', uses: 2 * (count + WARM) });
  for (const extent of ['certificate', 'whole'] as const) {
    await enroll(first.port, token, WARM, `warm-${extent}`, extent);
    const before = await ask<number>(first.tower, { what: 'cpu' });
    const { seconds, latencies_ms } = await enroll(first.port, token, count, extent, extent);
    const cpu_ms = (1_000 * ((await ask<number>(first.tower, { what: 'cpu' })) - before)) / count;
    process.stdout.write(
      `${count} over ${values.connections} connections, ${extents[extent]}: ${spread(latencies_ms)}, ${cpu_ms.toFixed(2)} CPU ms of the tower for each\n`,
    );
    if (extent === 'certificate') verdicts.push(report('enrollments', count / seconds, 'per s', 150, true));
    else process.stdout.write(`enrollments with all of it: ${(count / seconds).toFixed(2)} per s\n`);
  }
  await stop(first.tower);

  fillWithNodes(join(state, 'tower.db'), Number(values.nodes) - 2 * (count + WARM));
  const second = await startTower(false);
  await timePages(second.socket, PAGES / 10);
  const pages = await timePages(second.socket, PAGES);
  process.stdout.write(`a page of ${PAGE_NODES} nodes of ${values.nodes}: ${spread(pages)}\n`);
  verdicts.push(report('page', median(pages), 'ms', 10, false));
  await ask<number[]>(second.tower, { what: 'snapshots', count: SNAPSHOTS / 10 });
  const snapshots = await ask<number[]>(second.tower, { what: 'snapshots', count: SNAPSHOTS });
  process.stdout.write(`a snapshot of one node of ${values.nodes}, built and signed: ${spread(snapshots)}\n`);
  verdicts.push(report('snapshot', median(snapshots), 'ms', 5, false));
  await stop(second.tower);
} finally {
  await rm(directory, { recursive: true, force: true });
}
process.exitCode = verdicts.every(Boolean) ? 0 : 1;
