/** One host's app networks against a small tunnel on a real socket and a tower in memory, for tests. */
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import type { AppSnapshot } from '../../../src/overlay/app-snapshot.ts';
import { AppNetworks, type AppNetworksOptions } from '../../../src/overlay/app-networks.ts';
import type { ServiceMesh } from '../../../src/services/mesh.ts';
import { systemRandom, systemTimers } from '../../../src/transport/system.ts';
import { MemoryNet } from '../services/memory-mesh.ts';
import { unseal } from '../tower/support.ts';
import { SmallStarter, socketPath } from './small-tunnel.ts';
import { host, network, snapshot } from './snapshots.ts';

const SELF = 'aaaaaaaaaaaa';
const hosts = [host('bbbbbbbbbbbb')];
export const plain = snapshot({ networks: [network({ name: 'shop', vni: 1001, places: [`${SELF}/`, 'bbbbbbbbbbbb/'] })], hosts });
export const withWeb = snapshot({ networks: [network({ name: 'shop', vni: 1001, places: [`${SELF}/`, 'bbbbbbbbbbbb/', `${SELF}/web`] })], hosts });
export const none: AppSnapshot | null = null;

/** A tower that writes down what it is asked, and pushes a snapshot after an attach as the real one does. */
function serveTower(mesh: ServiceMesh, onAsked: (request: Record<string, unknown>) => object) {
  mesh.handle('app', (flow) => {
    void (async () => {
      for (let message = await flow.receive(); message !== null; message = await flow.receive()) {
        flow.send(new TextEncoder().encode(JSON.stringify(onAsked(JSON.parse(new TextDecoder().decode(message))))));
      }
    })();
  });
}

export async function oneHost(t: Test, { carrier = null }: Partial<Pick<AppNetworksOptions, 'carrier'>> = {}) {
  const path = socketPath(t);
  const folder = dirname(path);
  const net = new MemoryNet();
  const asked: Record<string, unknown>[] = [];
  const starter = new SmallStarter(path);
  const daemons: AppNetworks[] = [];
  const log: string[] = [];
  let refusal: object | null = null;
  serveTower(net.mesh('tower'), (request) => {
    asked.push(request);
    if (refusal !== null) return refusal;
    if (request.op === 'attach') {
      void daemons.at(-1)?.follow(withWeb);
      return { ok: true, mac: '02:00:00:00:03:02', address4: '10.9.0.3', address6: null };
    }
    return { ok: true };
  });
  const secrets = await SealedStore.create(join(folder, 'sealed.bin'), unseal);
  const options: AppNetworksOptions = {
    program: 'small 1',
    self: { cluster: 'edge', node: SELF, name: 'a' },
    settings: { engine: 'user', listenPort: 51_820, fwmark: 0, isIpv4Only: false, keyAge_ms_max: 1e9, socketPath: path },
    attachmentsPath: join(folder, 'attachments.json'),
    secrets,
    mesh: net.mesh(SELF),
    channels: () => [{ peer: 'tower', state: 'established', transport: 'quic', suspect: false }],
    isReachable: true,
    starter,
    carrier,
    timers: systemTimers,
    random: systemRandom,
    log: (message, facts) => log.push(`${message} ${JSON.stringify(facts)}`),
  };
  const daemon = async () => {
    const apps = await AppNetworks.open(options);
    daemons.push(apps);
    apps.channelsChanged();
    return apps;
  };
  t.teardown(async () => {
    for (const apps of daemons) await apps.close();
    for (const tunnel of starter.started) await tunnel.kill();
  });
  const running = async (apps: AppNetworks) => {
    await apps.follow(plain);
    while (starter.started.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await starter.last.until(() => starter.last.state !== null);
  };
  return {
    folder,
    net,
    starter,
    daemon,
    running,
    asked,
    log,
    refuse: (answer: object | null) => {
      refusal = answer;
    },
  };
}
