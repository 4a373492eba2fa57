/**
 * This host's WireGuard keys: one, and while it is being replaced two. The private halves are in the sealed store and in memory, and go nowhere but over the
 * tunnel's socket. `nextStep` decides when a key is made and when the old one goes; it has no clock.
 *
 * A rotation loses no packet, since both keys work while it lasts: the new one is published beside the old, peers go over to it as they make their next
 * handshake, and the old one goes once nothing has come or gone under it for longer than any of its sessions lives.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { fromBase64, toBase64 } from '../identity/base64.ts';
import type { SecretStore } from '../identity/signer.ts';

/** Name in the sealed store. */
export const WIREGUARD_SECRET = 'app/wireguard';

const KEY_BYTES = 32;

export interface WireGuardKey {
  /** Base64, as WireGuard writes them. */
  readonly privateKey: string;
  readonly publicKey: string;
  readonly made_ms: number;
  /** 0: the listen port of the configuration; 1: the one after it. Two keys that live at once need one each. */
  readonly portOffset: 0 | 1;
}

/** Newest first, at most two. */
export type KeyRing = readonly WireGuardKey[];

export interface RotationFacts {
  /** Milliseconds since the epoch. */
  readonly now_ms: number;
  /** How old a key may become. */
  readonly age_ms_max: number;
  /** How long ago this daemon told the tower of the newest key; null: it has not yet. */
  readonly published_ms_ago: number | null;
  /** How long ago the older key was last used; null: never, or nobody knows. */
  readonly oldUsed_ms_ago: number | null;
}

export type RotationStep = 'make' | 'drop' | 'none';

export function nextStep(ring: KeyRing, { now_ms, age_ms_max, published_ms_ago, oldUsed_ms_ago }: RotationFacts): RotationStep {
  const [newest, old] = ring;
  if (newest === undefined) return 'make';
  if (old === undefined) {
    // A key from the future is that of a clock that was set back; it counts as fresh.
    return now_ms - newest.made_ms >= age_ms_max ? 'make' : 'none';
  }
  if (published_ms_ago === null || published_ms_ago < limits.wireguard_overlap_ms_min) return 'none';
  if (published_ms_ago >= limits.wireguard_overlap_ms_max) return 'drop';
  return oldUsed_ms_ago !== null && oldUsed_ms_ago >= limits.wireguard_unused_ms_min ? 'drop' : 'none';
}

/** A new key in front. Of two that were there the older one goes. */
export function withNewKey(ring: KeyRing, now_ms: number): KeyRing {
  const [newest] = ring;
  const { privateKey } = generateKeyPairSync('x25519');
  const { d, x } = privateKey.export({ format: 'jwk' });
  if (d === undefined || x === undefined) throw new Error('node:crypto made an X25519 key without its parts');
  const fresh: WireGuardKey = { privateKey: fromUrl(d), publicKey: fromUrl(x), made_ms: now_ms, portOffset: newest?.portOffset === 0 ? 1 : 0 };
  return newest === undefined ? [fresh] : [fresh, newest];
}

const checkRing = Compile(
  Type.Object({
    format: Type.Literal(1),
    keys: Type.Array(
      Type.Object({ privateKey: Type.String({ maxLength: 64 }), made_ms: Type.Number(), portOffset: Type.Union([Type.Literal(0), Type.Literal(1)]) }),
      { maxItems: 2 },
    ),
  }),
);

/** Empty before the first key. @throws store_damaged */
export function readKeyRing(store: SecretStore): KeyRing {
  const secret = store.get(WIREGUARD_SECRET);
  if (secret === null) return [];
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(secret));
  } catch {
    value = null;
  }
  if (!checkRing.Check(value)) throw damaged();
  return value.keys.map(({ privateKey, made_ms, portOffset }) => ({ privateKey, publicKey: publicHalf(privateKey), made_ms, portOffset }));
}

export async function saveKeyRing(store: SecretStore, ring: KeyRing): Promise<void> {
  const keys = ring.map(({ privateKey, made_ms, portOffset }) => ({ privateKey, made_ms, portOffset }));
  await store.update({ [WIREGUARD_SECRET]: new TextEncoder().encode(JSON.stringify({ format: 1, keys })) });
}

/** PKCS#8 of X25519 is these octets and then the key (RFC 8410, section 7). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex');

function publicHalf(privateKey: string): string {
  const bytes = fromBase64(privateKey, KEY_BYTES);
  if (bytes?.length !== KEY_BYTES) throw damaged();
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, bytes]), format: 'der', type: 'pkcs8' });
  const { x } = createPublicKey(key).export({ format: 'jwk' });
  if (x === undefined) throw damaged();
  return fromUrl(x);
}

function fromUrl(text: string): string {
  return toBase64(new Uint8Array(Buffer.from(text, 'base64url')));
}

function damaged(): SelvedgeError {
  return new SelvedgeError('store_damaged', { path: WIREGUARD_SECRET, why: 'it holds no keys of WireGuard' });
}
