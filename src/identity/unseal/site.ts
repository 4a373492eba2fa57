/**
 * Mode `site`: the key of a node's store is derived from its site's access token, which is inside the store. So a host that was carried away opens nothing:
 * the tower or a node of the site must say the key again at each start, and says nothing to a node that was revoked (spec 3.1, 3.2).
 */
import { hkdfSync } from 'node:crypto';
import { newHead, UNSEAL_KEY_BYTES, type UnsealKey, type UnsealMode } from './mode.ts';

/** A site's access token of one generation: 32 random octets that the tower makes. */
export interface SiteToken {
  /** From 1. */
  readonly generation: number;
  readonly token: Uint8Array;
}

export const siteMode: UnsealMode = {
  kind: 'site',
  number: 2,
  name: 'site',
  what: "the site's access token",
  begin: (key) => newHead({ generation: key.kind === 'site' ? key.generation : 0 }),
  objection: ({ generation }) => (generation >= 1 ? null : 'it names no generation of the site token'),
  derive: async (key, { generation }) => (key.kind === 'site' && key.generation === generation ? key.key : null),
};

/** What opens the store of this node and no other: all that who helps it hands out. */
export function siteUnsealKey({ generation, token }: SiteToken, node: string): UnsealKey & { readonly kind: 'site' } {
  const key = hkdfSync('sha256', token, new Uint8Array(), `selvedge unseal 1\n${node}\n${generation}`, UNSEAL_KEY_BYTES);
  return { kind: 'site', key: new Uint8Array(key), generation };
}
