/** Pre-flight over real HTTPS against a real tower: an installer registers a node, and its daemon finishes by what the installer left. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { callHome } from '../../../src/enroll/call-home.ts';
import { callHomeBy, callPreflight, type PreflightCall } from '../../../src/enroll/preflight.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { DAY_MS, HOUR_MS, makeTower, random, type Served, serve, unseal } from '../tower/support.ts';

t.setTimeout(300_000);

interface World {
  readonly tower: Tower;
  readonly served: Served;
  readonly token: string;
  readonly call: PreflightCall;
  uses(): Promise<number>;
}

async function world(t: Test, { made, uses = 1 }: { made?: Tower; uses?: number } = {}): Promise<World> {
  const tower = made ?? (await makeTower(t));
  const served = await serve(t, tower);
  const { text: token, token: row } = await tower.createToken({ uses, life_ms: HOUR_MS, site: 'north', purpose: 'preflight' });
  const where = { tower: { host: served.host, port: served.port }, fingerprint: tower.rootFingerprint, timers: systemTimers };
  const call = { ...where, file: join(freshDirectory(t), 'call-home.json'), token, name: 'till-7' };
  return { tower, served, token, call, uses: async () => (await tower.tokens()).find(({ id }) => id === row.id)?.uses ?? -1 };
}

async function finish(t: Test, file: string) {
  const how = await callHomeBy(file, systemClock.wall());
  return await callHome({ ...how, state: join(freshDirectory(t), 'node'), unseal, listen: [], timers: systemTimers, random, attempts_max: 1 });
}

t.test('what an installer registered becomes that one node, with a key of its own, and the file goes', async (t) => {
  const { tower, call, uses } = await world(t);
  const prepared = await callPreflight(call);
  t.match(prepared, { name: 'till-7', site: 'north', host: 'till-7.north.alpha', pool: 'north.alpha' });
  t.equal(statSync(call.file).mode & 0o777, 0o600);
  t.notOk(readFileSync(call.file, 'utf8').includes(call.token), 'the token is not in the file');
  t.equal(await uses(), 1);
  t.equal((await tower.nodes()).length, 0, 'a node is made when its daemon calls home');

  const kept = readFileSync(call.file);
  const node = await finish(t, call.file);
  t.match(node.identity, { node: prepared.node, name: 'till-7', site: 'north', cluster: 'alpha' });
  t.not(Buffer.from(node.credentials.key).toString('base64'), (JSON.parse(kept.toString()) as { key: string }).key);
  t.notOk(existsSync(call.file));
  t.equal(await uses(), 1);

  // A copy that somebody kept makes no second node.
  writeFileSync(call.file, kept);
  await rejectsWith(t, finish(t, call.file), 'proof_exhausted');
  t.equal((await tower.nodes()).length, 1);
});

t.test('an installer whose answer was lost asks again and uses no more of the token', async (t) => {
  const made = await makeTower(t);
  const preflight = made.preflight.bind(made);
  let lost = 0;
  const { call, uses, served } = await world(t, {
    made: Object.assign(made, {
      async preflight(...given: Parameters<Tower['preflight']>) {
        const answer = await preflight(...given);
        if (lost++ === 0) for (const socket of served.sockets) socket.destroy();
        return answer;
      },
    }),
  });
  await rejectsWith(t, callPreflight(call), 'network_unreachable');
  await rejectsWith(t, callHomeBy(call.file, systemClock.wall()), 'store_damaged');
  const prepared = await callPreflight(call);
  t.equal(await uses(), 1);
  await rejectsWith(t, callPreflight(call), 'file_exists');
  t.equal((await finish(t, call.file)).identity.node, prepared.node);
});

t.test('a token of another purpose, one that is used up, a name that is taken and an end that came too late are refused with their codes', async (t) => {
  const { tower, call, uses } = await world(t, { uses: 2 });
  const { text: other } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const another = () => join(freshDirectory(t), 'call-home.json');
  await rejectsWith(t, callPreflight({ ...call, file: another(), token: other }), 'token_invalid');
  await callPreflight(call);
  await rejectsWith(t, callHomeBy(call.file, systemClock.wall() + 8 * DAY_MS), 'proof_expired');
  await finish(t, call.file);
  await rejectsWith(t, callPreflight({ ...call, file: another() }), 'name_taken');
  t.equal(await uses(), 1, 'what is refused uses nothing');
  const { name: _name, ...unnamed } = call;
  const second = await callPreflight({ ...unnamed, file: another() });
  t.equal(second.name, second.node, 'without a name it is called by its id');
  await rejectsWith(t, callPreflight({ ...unnamed, file: another() }), 'token_exhausted');
  t.equal((await tower.nodes()).length, 1);
});

t.test('a tower with another root is fingerprint_mismatch, and nothing is used', async (t) => {
  const { call, uses } = await world(t);
  await rejectsWith(t, callPreflight({ ...call, fingerprint: new Uint8Array(32) }), 'fingerprint_mismatch');
  t.equal(await uses(), 0);
});
