/**
 * Which number of a pool is given out next: an address of a subnet, a VTEP, a VNI. The walk goes on behind the last one given and comes round, so that what
 * was released rests as long as it can before somebody else has it. The same pool and the same past give the same answer. Pure: who
 * holds what is the caller's to look up, candidate by candidate.
 */
import type { Subnet } from './subnet.ts';

/** Both ends are given out. Empty where `last` is less than `first`. */
export interface Pool {
  readonly first: bigint;
  readonly last: bigint;
}

/** IPv6: the last 128 addresses of a subnet are anycast addresses that are spoken for (RFC 2526). */
const ANYCAST_RESERVED = 128n;

/** An app network's addresses: neither the subnet's own, nor the first (a gateway's, should there be one), nor broadcast or anycast. */
export function appPool({ family, first, last }: Subnet): Pool {
  return { first: first + 2n, last: last - (family === 4 ? 1n : ANYCAST_RESERVED) };
}

/** Addresses of hosts on the outer network, where there is no gateway. */
export function vtepPool({ first, last }: Subnet): Pool {
  return { first: first + 1n, last: last - 1n };
}

/** VNIs below are left to what else speaks VXLAN on a host. */
export const vniPool: Pool = { first: 1_001n, last: 2n ** 24n - 1n };

export function sizeOf({ first, last }: Pool): bigint {
  return last < first ? 0n : last - first + 1n;
}

/** Every number of the pool once, beginning behind `after`; from the first one where there is no `after`, or none in this pool. */
export function* walk(pool: Pool, after: bigint | null): Generator<bigint, void, undefined> {
  const { first, last } = pool;
  const start = after === null || after < first || after >= last ? first : after + 1n;
  for (let value = start; value <= last; value++) yield value;
  for (let value = first; value < start; value++) yield value;
}
