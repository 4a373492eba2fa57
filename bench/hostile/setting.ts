/** What the three programs of this benchmark are told, in a file: who they are, and where the host is. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Credentials } from '../../src/transport/session.ts';

export const kinds = ['stalled', 'flooding', 'lying'] as const;
export type Kind = (typeof kinds)[number];
export const transports = ['quic', 'tcp'] as const;
export type BenchTransport = (typeof transports)[number];

export const ADDRESS = '203.0.113.10';
export const PORT = 4443;

export interface Setting {
  readonly role: 'host' | 'honest' | 'hostile';
  readonly node: string;
  readonly credentials: Credentials;
  readonly root: Uint8Array;
  readonly transport: BenchTransport;
  readonly kind: Kind;
}

const coded = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const decoded = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

export function writeSetting(file: string, { credentials: { chain, key }, root, ...setting }: Setting): void {
  const octets = { root: coded(root), chain: chain.map(coded), key: coded(key) };
  writeFileSync(file, JSON.stringify({ ...setting, ...octets }), { mode: 0o600 });
}

export function readSetting(file: string): Setting {
  const { chain, key, root, ...setting } = JSON.parse(readFileSync(file, 'utf8')) as Omit<Setting, 'credentials' | 'root'> & {
    readonly chain: readonly string[];
    readonly key: string;
    readonly root: string;
  };
  return { ...setting, root: decoded(root), credentials: { chain: chain.map(decoded), key: decoded(key) } };
}
