/** What every way of unsealing has in common: what opens a store, what its head says of it, and how the one becomes the key for the other. */
import { randomBytes } from 'node:crypto';

/** What opens a sealed store. The bytes are secret. */
export type UnsealKey =
  | { readonly kind: 'key'; readonly key: Uint8Array }
  | { readonly kind: 'passphrase'; readonly passphrase: Uint8Array }
  | { readonly kind: 'credential'; readonly key: Uint8Array }
  | { readonly kind: 'site'; readonly key: Uint8Array; readonly generation: number };

export type UnsealKind = UnsealKey['kind'];

/** What the head of a store says of its key. Not secret; authenticated only once the store has opened. */
export interface KeyHead {
  readonly salt: Uint8Array;
  /** Cost of scrypt: 2^cost_log2 blocks of 1 KiB, `passes` times. 0 where there is none. */
  readonly cost_log2: number;
  readonly passes: number;
  /** Of the site's access token; 0 where there is none. */
  readonly generation: number;
}

export interface UnsealMode {
  readonly kind: UnsealKind;
  /** In the head of a store; never used again for another. */
  readonly number: number;
  /** What the operator calls it, and how a refusal names the key. */
  readonly name: string;
  readonly what: string;
  /** The head for a store that is sealed with this key from now on. */
  begin(key: UnsealKey): KeyHead;
  /** Why this head cannot be one of this mode; null: it can. Asked before anything is paid for it. */
  objection(head: KeyHead): string | null;
  /** The store's own key; null: this is not what opens such a store. */
  derive(key: UnsealKey, head: KeyHead): Promise<Uint8Array | null>;
}

export const UNSEAL_KEY_BYTES = 32;
export const SALT_BYTES = 32;

export function newHead(rest: Partial<Omit<KeyHead, 'salt'>> = {}): KeyHead {
  return { salt: new Uint8Array(randomBytes(SALT_BYTES)), cost_log2: 0, passes: 0, generation: 0, ...rest };
}
