/** What is compared: each makes a way from the first host to the second, and says to which address it leads and which processes carry it. */
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mustRun } from '../../src/lab/command.ts';
import { type Hosts, type Side, type Subject, sides, underlay } from './hosts.ts';
import { startSelvedge } from './selvedge.ts';

export const subjectNames = ['veth', 'plain', 'kernel-vxlan', 'nebula', 'selvedge'] as const;
export type SubjectName = (typeof subjectNames)[number];

export const starters: Readonly<Record<SubjectName, (hosts: Hosts) => Promise<Subject>>> = {
  veth: async () => ({ to: underlay[1], pids: [] }),
  plain: (hosts) => startPlain(hosts, { name: 'plain0', port: 51_900, subnet: '10.88.0' }),
  'kernel-vxlan': startKernelVxlan,
  nebula: startNebula,
  selvedge: startSelvedge,
};

/** Built programs that are not part of the product. */
const CACHE = fileURLToPath(new URL('../../.selvedge/bench', import.meta.url));
const TUNNEL_SOURCES = fileURLToPath(new URL('../../native/tunnel', import.meta.url));
/** Newer ones want a newer Go than the tunnel does. */
const NEBULA = 'v1.11.0';
/** WireGuard's own headers over IPv6; what wg-quick sets. Nebula's are no bigger. */
const MTU = '1420';
const VXLAN_MTU = '1370';
const BUILD_MS_MAX = 600_000;

/** Builds what is not there yet. @returns why a subject is left out, by name */
export async function prepare(names: readonly SubjectName[]): Promise<Map<SubjectName, string>> {
  const missing = new Map<SubjectName, string>();
  const attempt = async (subjects: readonly SubjectName[], build: () => Promise<unknown>) => {
    if (!names.some((name) => subjects.includes(name))) return;
    await build().catch((error: Error) => {
      for (const name of subjects) missing.set(name, error.message);
    });
  };
  const env = { ...process.env, CGO_ENABLED: '0', GOBIN: join(CACHE, 'nebula') };
  const options = { env, timeout_ms: BUILD_MS_MAX };
  await attempt(['plain', 'kernel-vxlan'], () =>
    mustRun('go', ['-C', TUNNEL_SOURCES, 'build', '-trimpath', '-buildvcs=false', '-ldflags=-s -w', '-o', join(CACHE, 'plain'), './internal/plain'], options),
  );
  const modules = ['nebula', 'nebula-cert'].map((name) => `github.com/slackhq/nebula/cmd/${name}@${NEBULA}`);
  if (!existsSync(join(CACHE, 'nebula/nebula'))) await attempt(['nebula'], () => mustRun('go', ['install', ...modules], options));
  return missing;
}

interface PlainOptions {
  readonly name: string;
  readonly port: number;
  readonly subnet: string;
}

async function startPlain(hosts: Hosts, { name, port, subnet }: PlainOptions): Promise<Subject> {
  const keys = sides.map(newKey);
  const pids: number[] = [];
  for (const side of sides) {
    const [own, other] = [keys[side], keys[1 - side]];
    const input = `private_key=${own?.secret}\nlisten_port=${port}\npublic_key=${other?.open}\nendpoint=${underlay[1 - side]}:${port}\nallowed_ip=${subnet}.0/24\n\n`;
    const child = await hosts.start(side, [join(CACHE, 'plain'), name, MTU], { input, ready: /^up$/ });
    pids.push(child.pid ?? 0);
    await address(hosts, side, `${subnet}.${side + 1}/24`, name);
  }
  return { to: `${subnet}.2`, pids };
}

/** The kernel's VXLAN device on a plain WireGuard of its own. */
async function startKernelVxlan(hosts: Hosts): Promise<Subject> {
  const { pids } = await startPlain(hosts, { name: 'plain1', port: 51_901, subnet: '10.89.0' });
  for (const side of sides) {
    const ends = ['local', `10.89.0.${side + 1}`, 'remote', `10.89.0.${2 - side}`, 'dev', 'plain1'];
    await hosts.ip(side, 'link', 'add', 'vx0', 'mtu', VXLAN_MTU, 'type', 'vxlan', 'id', '42', 'dstport', '4789', ...ends);
    await address(hosts, side, `10.90.0.${side + 1}/24`, 'vx0');
  }
  return { to: '10.90.0.2', pids };
}

async function startNebula(hosts: Hosts): Promise<Subject> {
  const at = (file: string) => join(hosts.directory, file);
  const cert = (...args: string[]) => mustRun(join(CACHE, 'nebula/nebula-cert'), args);
  await cert('ca', '-name', 'bench', '-out-crt', at('ca.crt'), '-out-key', at('ca.key'));
  const pids: number[] = [];
  for (const side of sides) {
    const name = `host${side + 1}`;
    const own = ['-name', name, '-ip', `10.91.0.${side + 1}/24`, '-out-crt', at(`${name}.crt`), '-out-key', at(`${name}.key`)];
    await cert('sign', '-ca-crt', at('ca.crt'), '-ca-key', at('ca.key'), ...own);
    const anyone = [{ port: 'any', proto: 'any', host: 'any' }];
    const config = {
      pki: { ca: at('ca.crt'), cert: at(`${name}.crt`), key: at(`${name}.key`) },
      static_host_map: { [`10.91.0.${2 - side}`]: [`${underlay[1 - side]}:4242`] },
      lighthouse: { am_lighthouse: false, hosts: [] },
      listen: { host: '0.0.0.0', port: 4242 },
      tun: { dev: 'neb0', mtu: Number(MTU) },
      firewall: { outbound: anyone, inbound: anyone },
    };
    // JSON is YAML.
    writeFileSync(at(`${name}.yml`), JSON.stringify(config));
    const child = await hosts.start(side, [join(CACHE, 'nebula/nebula'), '-config', at(`${name}.yml`)], { ready: /interface is active/ });
    pids.push(child.pid ?? 0);
  }
  return { to: '10.91.0.2', pids };
}

async function address(hosts: Hosts, side: Side, cidr: string, device: string): Promise<void> {
  await hosts.ip(side, 'address', 'add', cidr, 'dev', device);
  await hosts.ip(side, 'link', 'set', device, 'up');
}

/** Hexadecimal, as the configuration protocol has keys. */
function newKey(): { readonly secret: string; readonly open: string } {
  const { d = '', x = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
  const hex = (text: string) => Buffer.from(text, 'base64url').toString('hex');
  return { secret: hex(d), open: hex(x) };
}
