/** Arguments of the CLI: parsed once, each with a message that says what is allowed. */
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { checkLabel } from '../../src/base/ids.ts';
import { namesSource, type UnsealSource } from '../../src/identity/unseal.ts';
import type { ControlCall } from '../../src/node/control-client.ts';
import { type TrafficClass, trafficClassNames } from '../../src/channel/classes.ts';

export const DEFAULT_NODE_STATE = '/var/lib/selvedge/node';
export const DEFAULT_TOWER_STATE = '/var/lib/selvedge/tower';

const invalid = (name: string, why: string) => new SelvedgeError('argument_invalid', { name, why });

/** An integer between the two, both included. */
export function integer(name: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw invalid(name, `'${text}' is not a whole number from ${min} to ${max}`);
    return value;
  };
}

const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `90s`, `15m`, `1h`, `7d` in milliseconds. */
export function duration(name: string): (text: string) => number {
  return (text) => {
    const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
    if (match === null) throw invalid(name, `'${text}' is not a time such as 90s, 15m, 1h or 7d`);
    return Number(match[1]) * units[match[2] as keyof typeof units];
  };
}

export interface UnsealFlags extends UnsealSource {
  readonly unseal?: 'site';
}

/** For whoever makes a node's store. */
export function unsealOption(): Option {
  const what = "`site`: the store that joining makes is sealed with the site's token: at each start the tower or a node of the site must say its key";
  return new Option('--unseal <how>', what).choices(['site']);
}

/** @throws argument_invalid */
export function willBeSiteSealed({ unseal, ...source }: UnsealFlags): boolean {
  if (unseal === 'site' && namesSource(source)) throw invalid('unseal', "a store is sealed with the site's token or with a key of your own, not both");
  return unseal === 'site';
}

/** A file descriptor that the parent left open for this program. */
export const descriptor = integer('passphrase-fd', 0, 1_024);

export function trafficClass(text: string): TrafficClass {
  const found = trafficClassNames.find((one) => one === text);
  if (found === undefined) throw invalid('class', `'${text}' is not one of ${trafficClassNames.join(', ')}`);
  return found;
}

/** Name of an app network. */
export function appName(text: string): string {
  if (!/^[a-z][a-z0-9-]{0,31}$/.test(text))
    throw invalid('network', `'${text}' is not a name: lower-case letters, digits and hyphens, a letter first, at most 32`);
  return text;
}

/** A node's name or id. */
export function nodeWord(text: string): string {
  return checkLabel('node', text);
}

/** `HOST`, `HOST:PORT`, `[IPv6]:PORT`; 443 without a port. */
export function address(text: string): { host: string; port: number } {
  const match = /^\[([0-9a-fA-F:.]+)\](?::(\d{1,5}))?$/.exec(text) ?? (isIP(text) === 6 ? [text, text] : /^([A-Za-z0-9.-]+)(?::(\d{1,5}))?$/.exec(text));
  const [, host, portText = '443'] = match ?? [];
  const port = Number(portText);
  if (host === undefined || port < 1 || port > 65_535)
    throw invalid('tower', `'${text}' is not an address such as 203.0.113.5, tower.example:443 or [2001:db8::5]:443`);
  return { host, port };
}

/** Adds `--state` and `--socket`, which say whose daemon is asked. */
export function withSocket(command: Command): Command {
  return command
    .option('--state <dir>', `state directory of the daemon (default: ${DEFAULT_NODE_STATE}, else ${DEFAULT_TOWER_STATE})`)
    .option('--socket <path>', 'Unix socket of the daemon (default: selvedged.sock or tower.sock in the state directory)');
}

export interface SocketFlags {
  readonly state?: string;
  readonly socket?: string;
}

/** The node's socket if there is one, else the tower's; of what is named, or of the default places. */
export function socketOf({ state, socket }: SocketFlags): string {
  if (socket !== undefined) return resolve(socket);
  const states = state === undefined ? [DEFAULT_NODE_STATE, DEFAULT_TOWER_STATE] : [state];
  const candidates = states.flatMap((one) => [join(one, 'selvedged.sock'), join(one, 'tower.sock')]);
  return resolve(candidates.find((path) => existsSync(path)) ?? candidates[0] ?? '');
}

export interface TowerFlags extends SocketFlags {
  readonly tower?: string;
  readonly identity?: string;
}

/** Adds what says which tower is asked: by its socket, or from afar as an operator. */
export function withTower(command: Command): Command {
  return withRemote(command.option('--state <dir>', 'state directory of the tower').option('--socket <path>', "the tower's Unix socket")).option(
    '--json',
    'print JSON',
  );
}

export function withRemote(command: Command): Command {
  return command
    .option('--identity <file>', 'ask a tower elsewhere, as the operator of this identity file')
    .option('--tower <address>', 'where that tower is: HOST or HOST:PORT (default: as the identity file says)');
}

/** The tower on this host by its socket, or the one elsewhere. */
export function towerOf(flags: TowerFlags): Pick<ControlCall, 'socketPath' | 'remote'> {
  return remoteOf(flags) ?? { socketPath: towerSocketOf(flags) };
}

/** Null unless a tower elsewhere is asked for. */
export function remoteOf({ tower, identity, state, socket }: TowerFlags): Pick<ControlCall, 'socketPath' | 'remote'> | null {
  if (tower !== undefined && identity === undefined) throw invalid('tower', 'a tower elsewhere is asked as an operator: give --identity FILE');
  if (identity === undefined) return null;
  if (state !== undefined || socket !== undefined) throw invalid('identity', 'either a tower elsewhere is asked, or the one of --state or --socket');
  const place = tower === undefined ? undefined : address(tower);
  // Only who asks from afar pays for loading it.
  const connect = async () => (await import('./remote.ts')).connectAs(resolve(identity), place);
  return { socketPath: tower ?? `the tower of ${identity}`, remote: { connect } };
}

/** The tower's socket, for what only a tower does. Where a node lives in its place, the node's: it says itself that it is none. */
export function towerSocketOf({ state = DEFAULT_TOWER_STATE, socket }: SocketFlags): string {
  if (socket !== undefined) return resolve(socket);
  const [towers, nodes] = [join(state, 'tower.sock'), join(state, 'selvedged.sock')];
  return resolve(!existsSync(towers) && existsSync(nodes) ? nodes : towers);
}

export function sessionId(text: string): string {
  if (!/^[0-9a-f]{12}$/.test(text))
    throw invalid('id', `'${/^svs_/.test(text) ? 'svs_…' : text}' is not an id of 12 hexadecimal digits, as \`session list\` tells it`);
  return text;
}

export function label(name: string): (text: string) => string {
  return (text) => checkLabel(name, text);
}

export function scopeName(text: string): string {
  if (text !== 'management' && text !== 'client') throw invalid('scope', `'${text}' is not management or client`);
  return text;
}

/** A token's id, not the token itself. */
export function tokenId(text: string): string {
  if (!/^[0-9a-f]{12}$/.test(text))
    throw invalid('id', `'${/^svt_/.test(text) ? 'svt_…' : text}' is not an id of 12 hexadecimal digits, as \`token list\` tells it`);
  return text;
}
