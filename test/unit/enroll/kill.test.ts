/** kill -9 of a node in the middle of enrolling: no use of a token without a node, no node twice. Of the tower: tower-kill.test.ts. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { callHome } from '../../../src/enroll/call-home.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { NodeState } from '../../../src/enroll/state.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, random, serve, unseal } from '../tower/support.ts';

// Twenty processes are started one after the other.
t.setTimeout(180_000);

const ROUNDS = 20;
const url = (path: string) => JSON.stringify(new URL(`../../../src/${path}`, import.meta.url).href);
const key = "{ kind: 'key', key: new Uint8Array(32).fill(7) }";

/** The child says `go` when its modules are loaded, and begins when told, so that the kill falls into the work and not into loading. */
function start(program: string): ChildProcess {
  return spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['pipe', 'pipe', 'inherit'] });
}

/** Lets the child go and kills it `after_ms` later. True if it was still at work. */
async function killAfter(child: ChildProcess, after_ms: number): Promise<boolean> {
  if (child.stdout === null || child.stdin === null) throw new Error('the child has no pipes');
  const died = once(child, 'close').then(() => Promise.reject(new Error('the child died before it was ready')));
  await Promise.race([once(child.stdout, 'data'), died]);
  died.catch(() => undefined);
  child.stdin.end('go\n');
  const timer = setTimeout(() => child.kill('SIGKILL'), after_ms);
  const [, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  clearTimeout(timer);
  return signal === 'SIGKILL';
}

t.test(`a node killed ${ROUNDS} times while it joins ends up enrolled once for each use of the token`, async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const { text: token } = await tower.createToken({ uses: ROUNDS, life_ms: HOUR_MS });
  const parent = freshDirectory(t);
  let killed = 0;
  let interrupted = 0;
  let answerLost = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const state = join(parent, `n${round}`);
    const child = start(`
      const { callHome } = await import(${url('enroll/call-home.ts')});
      const { tokenMaker } = await import(${url('enroll/proofs/token.ts')});
      const { systemTimers, systemRandom } = await import(${url('transport/system.ts')});
      process.stdin.once('data', async () => {
        await callHome({ state: ${JSON.stringify(state)}, unseal: ${key}, tower: { host: '127.0.0.1', port: ${served.port} }, fingerprint: Buffer.from('${Buffer.from(tower.rootFingerprint).toString('hex')}', 'hex'),
          proof: tokenMaker(${JSON.stringify(token)}), cluster: 'alpha', name: 'n${round}', listen: [], timers: systemTimers, random: systemRandom });
      });
      process.stdout.write('ready');`);
    if (await killAfter(child, round * 10)) killed++;
    if (existsSync(join(state, 'identity.json'))) continue;
    interrupted++;
    if ((await tower.nodes()).some((row) => row.name === `n${round}`)) answerLost++;
    await callHome({
      state,
      unseal,
      tower: served,
      fingerprint: tower.rootFingerprint,
      proof: tokenMaker(token),
      cluster: 'alpha',
      name: `n${round}`,
      listen: [],
      timers: systemTimers,
      random,
    });
  }
  t.ok(
    interrupted > 0,
    `${killed} of ${ROUNDS} were killed at work, ${interrupted} of them before they had an identity, ${answerLost} of these after the tower had made the node`,
  );
  const nodes = await tower.nodes();
  t.equal(nodes.length, ROUNDS);
  t.equal((await tower.tokens())[0]?.uses, ROUNDS);
  for (let round = 0; round < ROUNDS; round++) {
    const { identity } = await NodeState.load(join(parent, `n${round}`), unseal, systemClock.wall());
    t.equal(nodes.find((row) => row.name === `n${round}`)?.id, identity.node);
  }
});
