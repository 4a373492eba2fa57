/**
 * Subnets and addresses, IPv4 and IPv6, as numbers: read in any spelling that is unambiguous, written in the one canonical way (RFC 5952 for IPv6), compared, and
 * judged by what an app network may use. Pure.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { SelvedgeError } from '../../base/errors.ts';

export type Family = 4 | 6;

export interface Subnet {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
  readonly prefix: number;
  /** Canonical: `10.9.0.0/24`, `fd00::/64`. */
  readonly text: string;
}

const bitsOf = { 4: 32, 6: 128 } as const;

/** Sizes that an app network may have. Below, there would be too few addresses to give out; above, nobody means it. */
const prefixes = { 4: { min: 8, max: 30 }, 6: { min: 32, max: 120 } } as const;

/** What no app network may lie in: this host, loopback, link-local, multicast, reserved. */
const forbidden4 = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'].map((text) => readSubnet(text));
/** What an IPv6 one has to lie in: unique local, or global unicast. */
const allowed6 = ['fc00::/7', '2000::/3'].map((text) => readSubnet(text));

/** @throws argument_invalid, naming `name` */
export function checkAppSubnet(name: string, text: string, family: Family): Subnet {
  const refuse = (why: string) => new SelvedgeError('argument_invalid', { name, why: `'${text}' ${why}` });
  const subnet = parseSubnet(text);
  if (subnet === null) throw refuse(`is no subnet such as ${family === 4 ? '10.9.0.0/24' : 'fd12:3456::/64'}`);
  if (typeof subnet === 'string') throw refuse(`has bits set behind its prefix; do you mean ${subnet}?`);
  if (subnet.family !== family) throw refuse(`is IPv${subnet.family}, not IPv${family}`);
  const { min, max } = prefixes[family];
  if (subnet.prefix < min || subnet.prefix > max) throw refuse(`is /${subnet.prefix}; allowed are /${min} to /${max}`);
  if (family === 4 && forbidden4.some((other) => overlaps(subnet, other))) throw refuse('is loopback, link-local, multicast or reserved');
  if (family === 6 && !allowed6.some((other) => contains(other, subnet))) throw refuse('is neither unique local (fc00::/7) nor global unicast (2000::/3)');
  return subnet;
}

/** A subnet that this program wrote itself. */
export function readSubnet(text: string): Subnet {
  const subnet = parseSubnet(text);
  if (subnet === null || typeof subnet === 'string') throw new Error(`'${text}' is no subnet`);
  return subnet;
}

/** Null for what is no subnet; for an address with bits set behind its prefix, the subnet that it lies in, as text. */
export function parseSubnet(text: string): Subnet | string | null {
  const match = /^([0-9a-fA-F.:]{2,39})\/(0|[1-9][0-9]{0,2})$/.exec(text);
  const address = parseAddress(match?.[1] ?? '');
  const prefix = Number(match?.[2]);
  if (address === null || prefix > bitsOf[address.family]) return null;
  const { family, value } = address;
  const size = 1n << BigInt(bitsOf[family] - prefix);
  const first = value - (value % size);
  const canonical = `${formatAddress(family, first)}/${prefix}`;
  return first === value ? { family, first, last: first + size - 1n, prefix, text: canonical } : canonical;
}

/** Null for what is no plain address: also for one with a zone or with an IPv4 address inside. */
export function parseAddress(text: string): { family: Family; value: bigint } | null {
  if (isIPv4(text)) return { family: 4, value: text.split('.').reduce((value, octet) => value * 256n + BigInt(octet), 0n) };
  if (!isIPv6(text) || !/^[0-9a-fA-F:]+$/.test(text)) return null;
  const [head = '', tail] = text.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const groups = tail === undefined ? [...head] : [...head, ...new Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  return { family: 6, value: groups.reduce((value, group) => value * 65_536n + BigInt(`0x${group}`), 0n) };
}

export function formatAddress(family: Family, value: bigint): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, index) => ((value >> BigInt(112 - 16 * index)) & 65_535n).toString(16));
  const run = longestZeros(groups);
  // A single zero group is written out (RFC 5952, section 4.2.2).
  if (run.length < 2) return groups.join(':');
  return `${groups.slice(0, run.start).join(':')}::${groups.slice(run.start + run.length).join(':')}`;
}

function longestZeros(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (const [index, group] of groups.entries()) {
    length = group === '0' ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  }
  return best;
}

export function overlaps(left: Subnet, right: Subnet): boolean {
  return left.family === right.family && left.first <= right.last && right.first <= left.last;
}

function contains(outer: Subnet, inner: Subnet): boolean {
  return outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last;
}

/** Whether an IP address, as a socket names it, lies in a network that this program wrote itself. */
export function liesIn(address: string, network: string): boolean {
  const [plain = ''] = address.split('%');
  const found = parseAddress(/^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)?.[1] ?? plain);
  const { family, first, last } = readSubnet(network);
  return found !== null && found.family === family && first <= found.value && found.value <= last;
}
