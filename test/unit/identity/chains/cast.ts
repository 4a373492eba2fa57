/** What the tables of chains are made with: the cluster whose certificates they change, and the ways to change them. */
import { createHash } from 'node:crypto';
import type { ErrorCode } from '../../../../src/base/errors.ts';
import type { RecordedFingerprint } from '../../../../src/identity/verify.ts';
import type { Credentials } from '../../../../src/transport/session.ts';
import type { Element } from '../der-tree.ts';
import * as f from '../forge.ts';
import * as r from '../reissue.ts';

export type Verdict = 'accepted' | ErrorCode;

export interface ChainCase {
  readonly name: string;
  readonly chain: readonly Uint8Array[];
  /** Of the leaf: TLS proves it. */
  readonly keys: f.Keys;
  readonly asClient: Verdict;
  readonly asServer: Verdict;
  readonly recorded?: RecordedFingerprint;
}

export const SECOND_MS = 1_000;
/** The live transports go by the clock of the machine, and so does all of this. */
export const NOW_MS = Math.floor(Date.now() / SECOND_MS) * SECOND_MS;
export const life = { notBefore_ms: NOW_MS - f.DAY_MS, notAfter_ms: NOW_MS + 30 * f.DAY_MS };
export const YEAR_MS = 365 * f.DAY_MS;

export const forgeRoot = (shape: Partial<f.Shape> = {}) => f.forgeRoot({ ...life, notAfter_ms: NOW_MS + 10 * YEAR_MS, ...shape });
export const forgeIntermediate = (issuer: f.Forged, shape: Partial<f.Shape> = {}) =>
  f.forgeIntermediate(issuer, { ...life, notAfter_ms: NOW_MS + 2 * YEAR_MS, ...shape });
export const keys = f.ecKeys();
export const forgeLeaf = (issuer: f.Forged, parts: f.LeafParts = {}, shape: Partial<f.Shape> = {}) => f.forgeLeaf(issuer, parts, { keys, ...life, ...shape });

export const root = forgeRoot();
export const intermediate = forgeIntermediate(root);
export const leaf = forgeLeaf(intermediate);
/** Of the bundle too, while roots are rotated. */
export const secondRoot = forgeRoot({ name: 'second root' });
export const roots: readonly Uint8Array[] = [root.der, secondRoot.der];
export const stranger = forgeRoot({ name: 'stranger' });
export const strangeIntermediate = forgeIntermediate(stranger, { name: 'strange intermediate' });

export const of = (...certificates: f.Forged[]): Uint8Array[] => certificates.map(({ der }) => der);
export const sha256 = (der: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(der).digest());

type More = Partial<Pick<ChainCase, 'keys' | 'recorded'>> & { readonly asServer?: Verdict };
export const one = (name: string, chain: readonly Uint8Array[], asClient: Verdict, more: More = {}): ChainCase => ({
  name,
  chain,
  keys,
  asClient,
  asServer: asClient,
  ...more,
});
export const bad = (name: string, chain: readonly Uint8Array[], more: More = {}): ChainCase => one(name, chain, 'certificate_invalid', more);
export const good = (name: string, chain: readonly Uint8Array[], more: More = {}): ChainCase => one(name, chain, 'accepted', more);

/** Another leaf, under the true intermediate. */
export const leafWith = (parts: f.LeafParts, shape: Partial<f.Shape> = {}): Uint8Array[] => of(forgeLeaf(intermediate, parts, shape), intermediate);
/** A good leaf under another intermediate. */
export const under = (shape: Partial<f.Shape>): Uint8Array[] => {
  const made = forgeIntermediate(root, shape);
  return of(forgeLeaf(made), made);
};
export const leafAs = (change: (tbs: Element) => void, sealing?: r.Sealing): Uint8Array[] => of(r.reissue(leaf, intermediate, change, sealing), intermediate);
export const intermediateAs = (change: (tbs: Element) => void, sealing?: r.Sealing): Uint8Array[] => of(leaf, r.reissue(intermediate, root, change, sealing));

const victim = f.forgeLeaf(intermediate, { names: f.names({ uniformResourceIdentifier: f.URI.replace(f.NODE, 'bbbbbbbbbbbb') }) }, life);
/** Of a host that judges. */
export const victimCredentials: Credentials = {
  chain: of(victim, intermediate),
  key: new Uint8Array(victim.keys.privateKey.export({ format: 'der', type: 'pkcs8' })),
};
