/** A process that writes a sealed store is killed with SIGKILL, 200 times: what is on disk is the old state or the new, never anything else. */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { toHex } from '../../../src/base/ids.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { siteUnsealKey } from '../../../src/identity/unseal/site.ts';
import { systemRandom } from '../../../src/transport/system.ts';

t.setTimeout(300_000);

const KILLS = 200;
/** Stores that are written and killed at the same time: a start of Node takes longer than all the rest. */
const LANES = 4;

const directory = await mkdtemp(join(tmpdir(), 'selvedge-kill-'));
t.teardown(() => rm(directory, { recursive: true }));

interface Tally {
  changes: number;
  reseals: number;
  inTheMiddle: number;
  readonly wrong: string[];
}

t.test('killed at any moment, a store holds the old state or the new, also while it is sealed anew', { timeout: 240_000 }, async (t) => {
  const started = performance.now();
  const tallies = await Promise.all(Array.from({ length: LANES }, (_, lane) => killAgainAndAgain(join(directory, String(lane)), KILLS / LANES)));
  const sum = (of: (tally: Tally) => number) => tallies.reduce((total, tally) => total + of(tally), 0);
  t.same(
    tallies.flatMap((tally) => tally.wrong),
    [],
  );
  t.ok(sum((tally) => tally.inTheMiddle) > 0, 'some kills fell into a write');
  t.comment(
    `${KILLS} kills over ${sum((tally) => tally.changes)} changes, ${sum((tally) => tally.reseals)} of them sealed anew; ` +
      `${sum((tally) => tally.inTheMiddle)} left a half-written file; ${((performance.now() - started) / 1_000).toFixed(1)} s`,
  );
});

async function killAgainAndAgain(place: string, kills: number): Promise<Tally> {
  await mkdir(place);
  const path = join(place, 'sealed.bin');
  const token = systemRandom.bytes(32);
  const keyOf = (generation: number) => siteUnsealKey({ generation, token }, '0123456789ab');
  await (await SealedStore.create(path, keyOf(1))).close();
  const tally: Tally = { changes: 0, reseals: 0, inTheMiddle: 0, wrong: [] };
  for (let kill = 0; kill < kills; kill++) {
    const acknowledged = await writeUntilKilled(path, toHex(token), randomInt(1, 6), randomInt(0, 4_000) / 1_000);
    tally.inTheMiddle += (await readdir(place)).length - 1;
    const { generation } = (await SealedStore.head(path)).key;
    const store = await SealedStore.open(path, keyOf(generation));
    const [left = Number.NaN, right = Number.NaN] = ['left', 'right'].map((name) => Number(Buffer.from(store.get(name) ?? []).toString()));
    // One more change than was acknowledged may have reached the disk, whole.
    const isWhole = left === right && (left === acknowledged || left === acknowledged + 1) && generation === 1 + Math.floor(left / 3);
    if (!isWhole || acknowledged <= tally.changes)
      tally.wrong.push(`kill ${kill}: left ${left}, right ${right}, generation ${generation}, acknowledged ${acknowledged}, before ${tally.changes}`);
    if ((await readdir(place)).length !== 1) tally.wrong.push(`kill ${kill}: what the killed left behind is still there`);
    tally.changes = left;
    tally.reseals = generation - 1;
  }
  return tally;
}

/** The last number that the writer said was durable, before it was killed: `delay_ms` after its change number `changes`. */
function writeUntilKilled(path: string, hex: string, changes: number, delay_ms: number): Promise<number> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.resolve('./store-writer.ts')), path, hex], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // Most of a start is reading the same sources again.
    env: { ...process.env, NODE_COMPILE_CACHE: join(directory, 'compiled') },
  });
  let output = '';
  let isDoomed = false;
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (isDoomed || output.split('\n').length <= changes) return;
    isDoomed = true;
    setTimeout(() => child.kill('SIGKILL'), delay_ms);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve(Number(output.split('\n').at(-2))));
  });
}
