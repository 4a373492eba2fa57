/**
 * Nobody is locked out by a certificate that ends without having been warned: at 30, 14, 7 and 1 days, and once it has ended. One that is renewed by itself
 * counts only once that is late. `certificates` is what status, log and metrics all show.
 */
import { lifetimeOf } from './lifetime.ts';

const DAY_MS = 86_400_000;
export const WARNING_DAYS = [30, 14, 7, 1] as const;

/** A certificate that somebody has to look after. */
export interface Watched {
  /** What it is, in words for an operator: "the intermediate". */
  readonly name: string;
  readonly der: Uint8Array;
  /** When it is renewed by itself; null: it is not. */
  readonly renews_ms: number | null;
}

export interface CertificateFacts {
  readonly name: string;
  readonly not_after_ms: number;
  readonly days: number;
  /** The last threshold that was crossed, in days; 0: it has ended; null: all is well. */
  readonly warning_days: number | null;
}

/** After this long a renewal is late. */
const LATE_MS = 2 * DAY_MS;

export function certificateFacts({ name, der, renews_ms }: Watched, now_ms: number): CertificateFacts {
  const { notAfter_ms } = lifetimeOf(der);
  const left_ms = notAfter_ms - now_ms;
  const isLate = renews_ms === null || now_ms > renews_ms + LATE_MS;
  const crossed = isLate ? WARNING_DAYS.filter((days) => left_ms <= days * DAY_MS).at(-1) : undefined;
  return { name, not_after_ms: notAfter_ms, days: Math.floor(left_ms / DAY_MS), warning_days: left_ms <= 0 ? 0 : (crossed ?? null) };
}

/** For status and log. */
export function warningText({ name, not_after_ms, days, warning_days }: CertificateFacts): string {
  const at = new Date(not_after_ms).toISOString().slice(0, 16);
  if (warning_days === 0) return `${name} ended at ${at}Z`;
  return `${name} ends at ${at}Z, in ${days < 1 ? 'less than a day' : `${days} days`}`;
}

export class ExpiryWatch {
  readonly #told = new Map<string, string>();

  /** Those whose next threshold was crossed since the last look, each once. */
  look(certificates: readonly CertificateFacts[]): CertificateFacts[] {
    return certificates.filter(({ name, not_after_ms, warning_days }) => {
      const state = `${not_after_ms} ${warning_days}`;
      if (this.#told.get(name) === state) return false;
      this.#told.set(name, state);
      return warning_days !== null;
    });
  }
}
