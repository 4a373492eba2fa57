/** The tower killed at many random moments of enrolling, with several enrollments in flight each time: no use without a node, no node twice, an audit log that holds. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { EnrollRequest } from '../../../src/enroll/wire.ts';
import { openTower } from '../../../src/tower/init.ts';
import { openSqliteStore } from '../../../src/tower/store/sqlite.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, random, unseal } from '../tower/support.ts';
import type { Task } from './fixtures/enrolling-tower.ts';

t.setTimeout(280_000);

/** Each takes as long as a program takes to start: `KILLS=100` for more. */
const KILLS = Number(process.env.KILLS ?? 30);
const LANES = 6;
/** After the first was asked: from before its commit to after several. */
const LIFE_MS_MAX = 60;
/** Loaded ahead, so that a kill waits for no module. */
const WAITING = 3;
const program = fileURLToPath(new URL('fixtures/enrolling-tower.ts', import.meta.url));

type Asked = Omit<EnrollRequest, 'proof'>;

class Victim {
  readonly #child: ChildProcess;
  readonly #died: Promise<unknown>;
  #text = '';

  constructor(cache: string) {
    this.#child = spawn(process.execPath, [program], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, NODE_COMPILE_CACHE: cache } });
    this.#died = once(this.#child, 'close');
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
  }

  /** Lets it open its tower, and kills it so long after it began to enroll. */
  async killAt(task: Task, after_ms: number): Promise<void> {
    await this.#said('ready\n');
    this.#child.stdin?.write(`${JSON.stringify(task)}\n`);
    await this.#said('ask ');
    await new Promise((resolve) => setTimeout(resolve, after_ms));
    await this.end();
  }

  async end(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#died;
  }

  async #said(word: string): Promise<void> {
    while (!this.#text.includes(word)) {
      const { stdout } = this.#child;
      if (stdout === null || this.#child.exitCode !== null) throw new Error(`the tower ended before it said ${word}`);
      await Promise.race([once(stdout, 'data'), this.#died]);
    }
  }

  get asked(): Asked[] {
    return this.#lines('ask').map((line) => JSON.parse(line) as Asked);
  }

  /** Node by name. */
  get got(): ReadonlyMap<string, string> {
    return new Map(this.#lines('got').map((line) => line.split(' ') as [string, string]));
  }

  #lines(word: string): string[] {
    const whole = this.#text.split('\n').slice(0, -1);
    return whole.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1));
  }
}

/** As the files are after a kill: `uses` of the one token there is, and all nodes. */
async function verify(state: string): Promise<{ uses: number; nodes: ReadonlyMap<string, string> }> {
  const store = await openSqliteStore({ path: join(state, 'tower.db') });
  try {
    await store.verifyAudit();
    const [token] = await store.proofs.grants('token');
    const rows = await store.nodes();
    for (const { id } of rows) if ((await store.unseal.boot(id)) === null) throw new Error(`node ${id} has no boot identity`);
    return { uses: token?.uses ?? -1, nodes: new Map(rows.map(({ name, id }) => [name, id])) };
  } finally {
    await store.close();
  }
}

/** All that was asked is asked again, as nodes do that got no answer: each is one node, the one that was answered, if any was. */
async function askAgain(t: Test, state: string, token: string, victim: Victim): Promise<{ uses: number; names: ReadonlySet<string>; nodes: number }> {
  const tower = await openTower({ state, unseal, clock: systemClock, random });
  try {
    const got = victim.got;
    const asked = victim.asked.filter(({ name }, index, all) => !got.has(name) || index >= all.length - 2 * LANES);
    for (const request of asked) {
      const { node } = await tower.enroll({ proof: { kind: 'token', token }, ...request }, '192.0.2.1');
      const answered = got.get(request.name);
      if (answered !== undefined && answered !== node) t.fail(`${request.name} was ${answered}, and is ${node}`);
    }
    const nodes = await tower.nodes();
    return { uses: (await tower.tokens())[0]?.uses ?? -1, names: new Set(nodes.map(({ name }) => name)), nodes: nodes.length };
  } finally {
    await tower.close();
  }
}

t.test(`a tower killed at ${KILLS} random moments of enrolling burns no use, makes no node twice, and its audit log holds each time`, async (t) => {
  const first = await makeTower(t);
  const { text: token } = await first.createToken({ uses: 10_000, life_ms: HOUR_MS });
  const { state } = first;
  await first.close();
  const cache = freshDirectory(t);
  const waiting = Array.from({ length: WAITING }, () => new Victim(cache));
  t.teardown(() => Promise.all(waiting.map((victim) => victim.end())));
  let [inFlight, committed, lives] = [0, 0, 0];
  for (let kill = 0; kill < KILLS; kill++) {
    const victim = waiting.shift();
    if (victim === undefined) throw new Error('one always waits');
    if (kill + WAITING < KILLS) waiting.push(new Victim(cache));
    await victim.killAt({ state, token, prefix: `k${kill}`, lanes: LANES }, random.unit() * LIFE_MS_MAX);
    const { uses, nodes } = await verify(state);
    if (uses !== nodes.size) t.fail(`kill ${kill}: ${uses} uses, ${nodes.size} nodes`);
    for (const [name, node] of victim.got) if (nodes.get(name) !== node) t.fail(`kill ${kill}: ${name} was answered, and is not there`);
    const open = victim.asked.filter(({ name }) => !victim.got.has(name));
    inFlight += open.length;
    committed += open.filter(({ name }) => nodes.has(name)).length;
    lives++;
    const after = await askAgain(t, state, token, victim);
    if (after.uses !== after.nodes || after.names.size !== after.nodes) t.fail(`kill ${kill}: asked again, ${after.uses} uses, ${after.nodes} nodes`);
    if (open.some(({ name }) => !after.names.has(name))) t.fail(`kill ${kill}: one that asked again is not there`);
  }
  t.equal(lives, KILLS);
  const { uses, nodes } = await verify(state);
  t.equal(uses, nodes.size);
  t.ok(inFlight > KILLS, `${inFlight} enrollments were in flight when the tower died, ${committed} of them were committed and not answered`);
});
