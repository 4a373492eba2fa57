/** What a dial that failed is told as: the peer's refusal if one was heard, else what each transport met, in words. */
import { asSelvedgeError, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { RaceLost } from './race.ts';
import type { TransportName } from './session.ts';

/** The caller wants it no more. */
export const givenUp = (peer: string): SelvedgeError => new SelvedgeError('network_unreachable', { peer, why: 'given up' });

/** Verdicts about a peer: no other way to it changes them, and they tell more than a silent network. */
const refusals: ReadonlySet<ErrorCode> = new Set(['certificate_invalid', 'certificate_revoked', 'peer_disabled', 'wrong_cluster', 'wrong_node']);
export const isRefusal = (error: SelvedgeError): boolean => refusals.has(error.code);

/** The errors of nested races, outermost first. */
export function flatErrors(error: unknown): SelvedgeError[] {
  if (error instanceof RaceLost) return error.errors.filter((each) => each !== undefined).flatMap(flatErrors);
  return [asSelvedgeError(error, 'network_unreachable')];
}

/** `udp: connection refused`, `quic: TLS handshake … failed`, `tcp: no route to host`. */
export function transportWhy(transport: TransportName, error: SelvedgeError): string {
  const carrier = transport === 'quic' ? 'udp' : transport;
  if (error.code === 'network_unreachable') return `${carrier}: ${error.facts.why ?? 'no answer'}`;
  if (error.code === 'handshake_timeout') return `${carrier}: no answer within ${error.facts.ms ?? limits.handshake_ms_max} ms`;
  return `${transport}: ${error.message}`;
}

/** `legs`: over which transports it was tried, as the errors of `error` have them. @returns the refusal, if one was heard */
export function dialFailure(peer: string, error: unknown, legs: readonly TransportName[]): SelvedgeError {
  if (legs.length === 0) return new SelvedgeError('network_unreachable', { peer, why: 'it offers no address' });
  const refusal = flatErrors(error).find(isRefusal);
  if (refusal !== undefined) return refusal;
  const byLeg = error instanceof RaceLost ? error.errors : [error];
  const whys = legs.flatMap((transport, index) => {
    const met = byLeg[index] === undefined ? [] : flatErrors(byLeg[index]);
    if (met.length === 0) return [`${transport === 'quic' ? 'udp' : transport}: no answer within ${limits.dial_ms_max} ms`];
    return met.map((each) => transportWhy(transport, each));
  });
  const errors = flatErrors(error);
  const [only] = errors;
  const code = errors.length > 0 && only !== undefined && errors.every((each) => each.code === only.code) ? only.code : 'network_unreachable';
  return new SelvedgeError(code, { peer, why: [...new Set(whys)].join('; '), ms: limits.dial_ms_max }, { cause: error });
}
