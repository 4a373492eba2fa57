/** From when to when a certificate is good, and when its holder asks for the next one (spec 1.1): at two thirds, spread. Pure but for reading the DER. */
import { X509Certificate } from 'node:crypto';

export interface Lifetime {
  readonly notBefore_ms: number;
  readonly notAfter_ms: number;
}

/** Throws on what is no certificate: this is for one's own. */
export function lifetimeOf(certificate: Uint8Array | undefined): Lifetime {
  const { validFromDate, validToDate } = new X509Certificate(certificate ?? '');
  return { notBefore_ms: validFromDate.getTime(), notAfter_ms: validToDate.getTime() };
}

const RENEW_PART = 2 / 3;
/** Of the life, to either side: hosts that were enrolled together do not come back together. */
const JITTER_PART = 1 / 20;

/** `unit` is uniform in [0, 1). A certificate that begins in the future is due: it was made by a clock that was wrong. */
export function renewAt_ms({ notBefore_ms, notAfter_ms }: Lifetime, unit: number): number {
  return notBefore_ms + (notAfter_ms - notBefore_ms) * (RENEW_PART + (2 * unit - 1) * JITTER_PART);
}
