/**
 * Renewing a leaf over the channel: one message each way on a flow of service `renew` (class `fabric_control`, kind `messages`). Who asks, says the channel;
 * a refusal ends the flow with its code. Shapes only.
 */
import { type Static, Type } from 'typebox';
import { limits } from '../base/limits.ts';
import { closed } from './shapes.ts';
import { base64, CertificateText, checker, Sha256Hex } from './wire.ts';

/** Name of the flow's service. */
export const RENEW_SERVICE = 'renew';

const RenewRequestSchema = closed({
  csr: base64(Math.ceil(limits.csr_bytes_max / 3) * 4),
  /** SHA-256 of the leaf that the node has on disk. */
  holding: Sha256Hex,
});
export type RenewRequest = Static<typeof RenewRequestSchema>;

const RenewAnswerSchema = closed({
  /** Leaf, intermediate. */
  chain: Type.Array(CertificateText, { minItems: 2, maxItems: limits.certificate_chain_certs_max }),
});
export type RenewAnswer = Static<typeof RenewAnswerSchema>;

export const checkRenewRequest = checker(RenewRequestSchema);
export const checkRenewAnswer = checker(RenewAnswerSchema);
