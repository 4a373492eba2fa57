/**
 * A tower in a process of its own, as its daemon composes it, on the real shared port, but with no bound on how often one address may enroll. It
 * answers orders of its parent: a token, the time of snapshots, the CPU time that it has used.
 */
import { join } from 'node:path';
import { publicApi, adminApi } from '../../src/tower/api.ts';
import { initTower, openTower } from '../../src/tower/init.ts';
import { listen } from '../../src/transport/listener.ts';
import { systemClock, systemRandom } from '../../src/transport/system.ts';

export type Order =
  | { readonly what: 'token'; readonly uses: number }
  | { readonly what: 'snapshots'; readonly count: number }
  | { readonly what: 'cpu' }
  | { readonly what: 'stop' };

const HOUR_MS = 3_600_000;
/** More than any machine enrolls. */
const PER_MINUTE = 1_000_000;

const [state = '', isNew = ''] = process.argv.slice(2);
const parts = { state, unseal: { kind: 'key', key: new Uint8Array(32).fill(7) }, clock: systemClock, random: systemRandom } as const;
if (isNew === 'new') await initTower({ ...parts, cluster: 'bench', endpoints: [] });
const tower = await openTower(parts);
const api = await publicApi(tower, { clock: systemClock, per_minute_max: PER_MINUTE });
const socket = join(state, 'tower.sock');
const admin = await adminApi(tower, socket);
const listener = await listen({
  host: '127.0.0.1',
  tcpPort: 0,
  udpPort: null,
  credentials: tower.credentials,
  onSession: (session) => session.close('shutting_down', 'no fabric here'),
  onHttp: (connection) => api.server.emit('connection', connection),
  listenQuic: null,
});

async function answer(order: Order): Promise<unknown> {
  switch (order.what) {
    case 'token':
      return (await tower.createToken({ uses: order.uses, life_ms: HOUR_MS })).text;
    case 'snapshots':
      return await timeSnapshots(order.count);
    case 'cpu': {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000_000;
    }
    case 'stop':
      await listener.close();
      await api.close();
      await admin.close();
      await tower.close();
      process.disconnect();
      return null;
  }
}

/** Built, signed and packed, each of another node, so that nothing is remembered. Milliseconds. */
async function timeSnapshots(count: number): Promise<number[]> {
  const nodes = await tower.nodes();
  const times: number[] = [];
  for (let index = 0; index < count; index++) {
    const { id } = nodes[(index * 7_919) % nodes.length] ?? { id: '' };
    const began = performance.now();
    await tower.snapshot(id);
    times.push(performance.now() - began);
  }
  return times;
}

process.on('message', (order: Order) => {
  void answer(order).then((result) => process.connected && process.send?.({ result }));
});
// Nobody is left to order anything.
process.on('disconnect', () => process.exit());
process.send?.({ result: { port: listener.tcp.port, socket } });
