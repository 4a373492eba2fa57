/**
 * Spec 9.3 and 6.2: the root of a running site of ten nodes is rotated while a transfer goes on between two of them and echoes pass to the tower. Nothing is dropped; then the old
 * root is refused, over either transport; and a node that was away for all of it comes back with a fresh proof.
 */
import t from 'tap';
import { isIssuedBy } from '../../src/identity/authority.ts';
import { fingerprint, formatFingerprint } from '../../src/identity/fingerprint.ts';
import type { NodeState } from '../../src/enroll/state.ts';
import type { Agent } from '../../src/node/agent.ts';
import { systemTimers } from '../../src/transport/system.ts';
import { dials } from './agents.ts';
import { type RunningTower, runningTower } from './running-tower.ts';

t.setTimeout(180_000);

const NODES = 10;
const CHUNK_BYTES = 64 * 1024;
const CHUNK_MS = 10;
const NOBODY = new Uint8Array();

/** Where something was interrupted, by the log of either end. */
const dropped = ({ lines }: RunningTower) => lines.filter(({ message }) => ['channel ended', 'channel revalidation failed', 'session lost'].includes(message));

/** Asks and is answered on one flow, one after the other, until it is stopped. How often; rejects where an answer is missing or another. */
async function talk(agent: Agent, to: string, stop: AbortSignal): Promise<number> {
  const flow = agent.mesh.open(to, 'input', 'messages', 'echo');
  let count = 0;
  for (; !stop.aborted; count++) {
    flow.send(new TextEncoder().encode(`echo ${count}`));
    const answer = await flow.receive();
    if (answer === null || new TextDecoder().decode(answer) !== `echo ${count}`) throw new Error(`echo ${count}: ${String(await flow.closed)}`);
    await new Promise<void>((resolve) => void systemTimers.after(CHUNK_MS, resolve));
  }
  flow.end();
  return count;
}

/** One flow that is written and read until it is stopped: every octet comes back, in its order. */
function transfer(agent: Agent, to: string) {
  const flow = agent.mesh.open(to, 'file_transfer', 'stream', 'echo');
  let written = 0;
  let read = 0;
  let isStopped = false;
  const octet = (at: number) => (at * 31 + (at >> 8)) & 0xff;
  const write = async (): Promise<void> => {
    while (!isStopped) {
      const chunk = new Uint8Array(CHUNK_BYTES).map((_, index) => octet(written + index));
      written += chunk.length;
      if (!flow.write(chunk)) await flow.drained();
      await new Promise<void>((resolve) => void systemTimers.after(CHUNK_MS, resolve));
    }
    flow.end();
  };
  const check = async (): Promise<void> => {
    while (await flow.readable()) {
      for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) {
        for (const byte of bytes) if (byte !== octet(read++)) throw new Error(`octet ${read - 1} is another`);
      }
    }
  };
  const done = Promise.all([write(), check()]);
  done.catch(() => undefined);
  return {
    async finish() {
      isStopped = true;
      await done;
      return { written, read, error: await flow.closed };
    },
  };
}

t.test('the root of a running site of ten nodes is rotated while a transfer goes on: nothing is dropped, and the old root is refused', async (t) => {
  const running = await runningTower(t);
  const { tower, until } = running;
  const names = Array.from({ length: NODES }, (_, index) => `n${index}`);
  const away = await running.joined('away');
  const nodes: { agent: Agent; port: number }[] = [];
  for (const name of names) nodes.push(await running.run(await running.joined(name), name));
  const [first, second] = nodes;
  if (first === undefined || second === undefined) throw new Error('there are nodes');
  const isMeshed = ({ agent }: { agent: Agent }) => agent.mesh.status().filter(({ state }) => state === 'established').length === NODES;
  await until(() => nodes.every(isMeshed));
  const old = { root: tower.own.root, credentials: first.agent.state.credentials };

  const moving = transfer(first.agent, second.agent.state.identity.node);
  const stop = new AbortController();
  const echoes = talk(nodes[2]?.agent ?? first.agent, 'tower', stop.signal);
  const began_ms = performance.now();
  await tower.trust.rotate({ threshold_percent: 90 }, 'local');
  await until(async () => (await tower.trust.status()).phase === 'reissuing');
  await until(async () => (await tower.trust.status()).is_ready);
  const next = tower.own.next?.root ?? NOBODY;
  t.ok(nodes.every(({ agent }) => isIssuedBy(agent.state.credentials.chain[1] ?? NOBODY, next)));
  t.match(await tower.trust.status(), { nodes: { enabled: NODES + 1, holding: NODES, ready: NODES }, missing: { nodes: [{ name: 'away', why: 'bundle' }] } });
  const reissued_ms = performance.now() - began_ms;

  t.match(await tower.trust.retire({}, 'local'), { phase: 'stable', version: 3 });
  await until(() => nodes.every(({ agent }) => agent.state.trust.version === 3));
  // Every channel stands on the new root alone by now, or moves over to a session that does.
  const leaves = new Set(
    [tower.credentials, ...nodes.map(({ agent }) => agent.state.credentials)].map(({ chain }) => formatFingerprint(fingerprint(chain[0] ?? NOBODY))),
  );
  const hasMoved = ({ agent }: { agent: Agent }) =>
    agent.mesh.status().every(({ peer, state }) => state === 'established' && leaves.has(agent.mesh.show(peer).certificate?.fingerprint ?? ''));
  await until(() => nodes.every((node) => isMeshed(node) && hasMoved(node)));
  const moved_ms = performance.now() - began_ms;
  for (const { agent } of nodes) agent.mesh.revalidate();
  running.host.mesh.revalidate();

  stop.abort();
  const { written, read, error } = await moving.finish();
  const answered = await echoes;
  t.strictSame([read, error], [written, null], 'every octet came back in its order, on one flow');
  t.ok(answered > 0, 'every echo came back, on one flow');
  t.strictSame(dropped(running), []);
  t.comment(`reissued after ${Math.round(reissued_ms)} ms, moved over after ${Math.round(moved_ms)} ms; ${written} octets and ${answered} echoes meanwhile`);

  const { identity } = first.agent.state;
  const thief = { identity, credentials: old.credentials, roots: [old.root, next] };
  const at = (node: NodeState, port: number) => ({
    agent: second.agent,
    node,
    at: (way: string) => ({ host: '127.0.0.1', tcp: way === 'tcp' ? port : null, udp: way === 'quic' ? port : null }),
  });
  const asTower = { identity: { ...identity, site: 'tower', node: 'tower' }, snapshot: { peers: [] } } as unknown as NodeState;
  const refused = (host: string, transport: string) =>
    running.lines.some(
      ({ host: by, message, facts }) => by === host && message === 'session refused' && facts.transport === transport && facts.code === 'certificate_invalid',
    );
  for (const transport of ['tcp', 'quic'] as const) {
    t.not(await dials(t, thief, at(second.agent.state, second.port), transport), 'established');
    await until(() => refused('n1', transport));
    t.not(await dials(t, thief, at(asTower, running.port), transport), 'established');
    await until(() => refused('tower', transport));
    t.pass(`the old root is refused by node and tower over ${transport}`);
  }

  const returning = await running.run(away, 'away');
  await until(() => running.lines.some(({ host, message, facts }) => host === 'away' && message === 'dial failed' && facts.code === 'certificate_invalid'));
  await returning.agent.close();
  await tower.revokeNode(returning.agent.state.identity.node);
  const fresh = await running.run(await running.joined('away'), 'away');
  await until(() => isMeshed(fresh) || fresh.agent.mesh.status().some(({ peer, state }) => peer === 'tower' && state === 'established'));
  t.equal(fresh.agent.state.trust.version, 3, 'a fresh proof brings it back');
});
