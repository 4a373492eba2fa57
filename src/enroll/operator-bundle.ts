/**
 * A bundle: all that an operator needs to get a certificate, once, on one line of JSON. It says where the tower is and by which root it is known, and holds a
 * secret that is worth one certificate until it expires. The tower keeps only the secret's SHA-256; the text is printed once and never logged.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { closed, Label, NodeId } from './shapes.ts';
import { checker, EndpointsSchema, readJson } from './wire.ts';

const SECRET_BYTES = 32;
export const BundleSecret = Type.String({ pattern: '^svb_[A-Za-z0-9_-]{43}$', description: 'the secret of the bundle' });

export const BundleSchema = closed({
  format: Type.Literal(1),
  cluster: Label,
  /** Of the cluster's root: `sha256:HEX`. */
  fingerprint: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
  towers: EndpointsSchema,
  operator: NodeId,
  name: Label,
  secret: BundleSecret,
  expires_ms: Type.Integer({ minimum: 0 }),
});
export type Bundle = Static<typeof BundleSchema>;

const checkBundle = checker(BundleSchema);

export function makeBundleSecret(): { readonly text: string; readonly hash: string } {
  const text = `svb_${randomBytes(SECRET_BYTES).toString('base64url')}`;
  return { text, hash: hashOfSecret(text) };
}

/** SHA-256, hex: what the tower keeps and compares. */
export function hashOfSecret(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** @throws bundle_invalid, without a word of the secret in it */
export function readBundle(bytes: Uint8Array): Bundle {
  try {
    return readJson(bytes, limits.operator_bundle_bytes_max, checkBundle);
  } catch (error) {
    throw new SelvedgeError('bundle_invalid', { why: `it is none: ${asSelvedgeError(error, 'bundle_invalid').message}` }, { cause: error });
  }
}
