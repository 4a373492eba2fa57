/**
 * A certificate that is refused for its dates, told apart: has it ended, or is a clock off; whose, and by how much. Evidence is used for the words of an error alone: none of it
 * makes anything acceptable.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Lifetime } from './lifetime.ts';

/** What another clock says now. */
export interface OtherClock {
  /** Whose: `the tower at 192.0.2.1:443`. */
  readonly of: string;
  readonly at_ms: number;
}

/** Something that this host holds was made then, so that it cannot be earlier now. */
export interface KnownPast {
  /** `its snapshot`. */
  readonly name: string;
  readonly at_ms: number;
}

/** What refusals for dates concern (`facts.what`); the remedies of the error table go by it. */
const concerns = { clock: 'the clock of this host', eitherClock: 'one of two clocks', expiry: 'expiry' } as const;

/**
 * Two clocks and a certificate that ours refuses: the one by which it is good is right, as its issuer's was. Null: they agree, and it has ended or not begun.
 */
export function skewOf(now_ms: number, { of, at_ms }: OtherClock, life: Lifetime | null): SelvedgeError | null {
  const off_ms = now_ms - at_ms;
  if (!(Math.abs(off_ms) > limits.clock_skew_ms_max)) return null;
  const isGoodThere = life !== null && life.notBefore_ms <= at_ms && at_ms <= life.notAfter_ms;
  const whose = isGoodThere ? 'by which the certificate is valid' : 'and by neither is the certificate valid';
  return clockSkew(isGoodThere ? concerns.clock : concerns.eitherClock, off_ms, `it says ${isoTime(now_ms)}, and that of ${of} ${isoTime(at_ms)}, ${whose}`);
}

/** Of a certificate that was made a moment ago, by a clock that put its beginning `backdate_ms` before. Null: it is good now. */
export function skewOfFresh(now_ms: number, { notBefore_ms, notAfter_ms }: Lifetime, backdate_ms: number): SelvedgeError | null {
  if (notBefore_ms <= now_ms && now_ms <= notAfter_ms) return null;
  const made_ms = notBefore_ms + backdate_ms;
  return clockSkew(
    concerns.clock,
    now_ms - made_ms,
    `it says ${isoTime(now_ms)}, and the tower made this host's certificate just now, by its own clock at ${isoTime(made_ms)}`,
  );
}

/** `off_ms`: by how much it is ahead; negative: behind. */
export function clockSkew(what: string, off_ms: number, why: string): SelvedgeError {
  const seconds = Math.round(Math.abs(off_ms) / 1_000);
  return new SelvedgeError('clock_skew', { what, by: spanText(off_ms), direction: off_ms > 0 ? 'ahead' : 'behind', seconds, why });
}

/** Why a certificate is refused that is not valid now, by our clock and what we know of it; null: its dates are good. */
export function datesObjection(
  now_ms: number,
  { notBefore_ms, notAfter_ms }: Lifetime,
  past: KnownPast | null,
): { readonly what: string; readonly why: string } | null {
  const clock = `this host's clock says ${isoTime(now_ms)}`;
  if (now_ms > notAfter_ms) return { what: concerns.expiry, why: `it expired at ${isoTime(notAfter_ms)}, ${clock}` };
  if (now_ms >= notBefore_ms) return null;
  const begins = `it is not valid before ${isoTime(notBefore_ms)}, ${clock}`;
  if (past === null || now_ms >= past.at_ms - limits.clock_skew_ms_max) return { what: concerns.eitherClock, why: `${begins}: one of the two clocks is wrong` };
  return {
    what: concerns.clock,
    why: `${begins}, and is behind by ${spanText(past.at_ms - now_ms)} at least: ${past.name} was made at ${isoTime(past.at_ms)}`,
  };
}

const UNITS = [
  ['days', 86_400_000],
  ['hours', 3_600_000],
  ['minutes', 60_000],
  ['seconds', 1_000],
] as const;

/** In the largest unit of which there are two: `400 days`. */
function spanText(ms: number): string {
  const [name, unit_ms] = UNITS.find(([, each_ms]) => Math.abs(ms) >= 2 * each_ms) ?? ['seconds', 1_000];
  return `${Math.round(Math.abs(ms) / unit_ms)} ${name}`;
}

/** To the second, and never throwing on a time that no calendar has. */
export function isoTime(ms: number): string {
  return Math.abs(ms) <= 8.64e15 ? `${new Date(ms).toISOString().slice(0, 19)}Z` : 'no time at all';
}
