/** Which version of the program this is: that of package.json. */
import { readFileSync } from 'node:fs';

const read = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

export const PROGRAM_VERSION = read.version;

/** Of a running daemon, for its status: safe to show. `listen` null: it has no listening socket. */
export function programFacts(
  listen: { readonly host: string; readonly tcp: number; readonly udp: number | null } | null,
): Readonly<Record<string, string | number | null>> {
  return {
    version: PROGRAM_VERSION,
    pid: process.pid,
    listen_host: listen?.host ?? null,
    listen_tcp_port: listen?.tcp ?? null,
    listen_udp_port: listen?.udp ?? null,
  };
}
