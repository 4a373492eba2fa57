/**
 * What a host says of itself, by which it may be known again (spec 2.2d): hashes of its machine id and of the addresses of its network cards, and its local IP
 * addresses. The hashes are made for one cluster: the same host has others elsewhere.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { limits } from '../base/limits.ts';
import { readFileBounded } from '../identity/files.ts';
import type { HostFacts } from './proof.ts';

const MACHINE_ID_FILES = ['/etc/machine-id', '/var/lib/dbus/machine-id'] as const;
const NETWORK_CLASS = '/sys/class/net';
const PRODUCT_ID = '/sys/class/dmi/id/product_uuid';

/** Null on a host without a machine id: it could never be told from another. */
export async function hostFacts(cluster: string): Promise<HostFacts | null> {
  const machine = await machineId();
  if (machine === null) return null;
  const macs = [...new Set(await cardAddresses())].sort();
  return { machine: hashOf(cluster, 'machine id', machine), macs: hashOf(cluster, 'network cards', macs.join('\n')), addresses: localAddresses() };
}

/** What this host is called by where nobody gave it another id: its board's UUID, else its machine id. */
export async function ownHostId(): Promise<string | null> {
  const product = await readShort(PRODUCT_ID);
  return product !== null && /^[0-9a-fA-F-]{36}$/.test(product) ? product.toLowerCase() : await machineId();
}

async function machineId(): Promise<string | null> {
  for (const path of MACHINE_ID_FILES) {
    const text = await readShort(path);
    if (text !== null && /^[0-9a-f]{32}$/.test(text)) return text;
  }
  return null;
}

/** Of what is built in or plugged in; bridges, tunnels and the ends of containers come and go. */
async function cardAddresses(): Promise<string[]> {
  const names = await readdir(NETWORK_CLASS).catch(() => []);
  const found: string[] = [];
  for (const name of names.slice(0, limits.host_interfaces_max)) {
    const isCard = await readdir(join(NETWORK_CLASS, name, 'device')).then(
      () => true,
      () => false,
    );
    const address = isCard ? await readFile(join(NETWORK_CLASS, name, 'address'), 'latin1').catch(() => '') : '';
    if (/^[0-9a-f:]{17}$/.test(address.trim())) found.push(address.trim());
  }
  return found;
}

function localAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const outward = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  return [...new Set(outward.map(({ address }) => address.split('%')[0] ?? address))].sort().slice(0, limits.host_addresses_max);
}

async function readShort(path: string): Promise<string | null> {
  const bytes = await readFileBounded(path, 4_096).catch(() => null);
  return bytes === null ? null : Buffer.from(bytes).toString('latin1').trim();
}

function hashOf(cluster: string, what: string, text: string): string {
  return createHash('sha256').update(`selvedge ${what} 1\n${cluster}\n${text}`).digest('hex');
}
