/**
 * `POST /v1/unseal`, the same at the tower and at a node of the site: a node that has just started shows its boot identity in the TLS handshake and is told the key of
 * its own store, in a box for its boot key. Nothing else can be asked with that identity, and nothing is said before it was judged.
 */
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { ErrorSchema } from '../api/http.ts';
import { RateLimit } from '../api/rate-limit.ts';
import { SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Clock } from '../base/seam.ts';
import { toBase64 } from '../identity/base64.ts';
import { sealBox } from '../identity/sealed-box.ts';
import { type SiteToken, siteUnsealKey } from '../identity/unseal/site.ts';
import { type RecordedBoot, verifyBoot } from '../identity/verify-boot.ts';
import { chainOf } from '../transport/peer-chain.ts';
import { boxPurposes, UnsealAnswerSchema, UnsealRequestSchema, type UnsealAnswer } from './unseal-wire.ts';

export const UNSEAL_ROUTE = '/v1/unseal';

export interface UnsealHelper {
  readonly clock: Clock;
  readonly cluster: string;
  readonly roots: () => readonly Uint8Array[];
  readonly recordedBoot: (identity: NodeIdentity) => RecordedBoot | Promise<RecordedBoot>;
  /** The site's token of this generation; null: it is not held here. */
  readonly siteToken: (site: string, generation: number) => Promise<Uint8Array | null>;
  /** Told of each that was helped or refused, once it was known who asks, or claims to. Awaited before it is answered. */
  readonly onUnseal: (told: { readonly node: string; readonly generation: number; readonly error: SelvedgeError | null }) => Promise<void> | void;
}

/** Registers the route, which stands in the list of open ones: it asks for its own proof. */
export function unsealRoute(routes: FastifyInstance, helper: UnsealHelper): void {
  const api = routes.withTypeProvider<TypeBoxTypeProvider>();
  const rate = new RateLimit({ clock: helper.clock, per_minute: limits.unseal_per_node_per_minute_max });
  const schema = { body: UnsealRequestSchema, response: { 200: UnsealAnswerSchema, '4xx': ErrorSchema, '5xx': ErrorSchema } };
  api.post(UNSEAL_ROUTE, { schema }, ({ raw, body }) => help(helper, rate, raw.socket, body.generation));
}

async function help(helper: UnsealHelper, rate: RateLimit, socket: Socket, generation: number): Promise<UnsealAnswer> {
  const chain = chainOf(socket);
  if (chain.length === 0) throw new SelvedgeError('unauthorized', { why: 'no boot identity was shown' });
  let asking: string | null = null;
  const recordedBoot = (identity: NodeIdentity) => {
    // Its chain is good: from here on it is known who asks, though not yet whether that is still anybody.
    asking = identity.node;
    rate.take(identity.node);
    return helper.recordedBoot(identity);
  };
  try {
    const { roots, cluster, clock } = helper;
    const { identity, publicKey } = await verifyBoot({ chain, roots: roots(), cluster, now_ms: clock.wall(), recordedBoot });
    const token = await helper.siteToken(identity.site, generation);
    if (token === null) throw new SelvedgeError('unseal_generation_unknown', { site: identity.site, generation });
    const answer = answerOf({ generation, token }, identity.node, publicKey);
    token.fill(0);
    await helper.onUnseal({ node: identity.node, generation, error: null });
    return answer;
  } catch (error) {
    if (error instanceof SelvedgeError && asking !== null && error.code !== 'rate_limited') await helper.onUnseal({ node: asking, generation, error });
    throw error;
  }
}

function answerOf(token: SiteToken, node: string, publicKey: Uint8Array): UnsealAnswer {
  const { key, generation } = siteUnsealKey(token, node);
  const box = toBase64(sealBox(publicKey, boxPurposes.unsealKey(node, generation), key));
  key.fill(0);
  return { generation, box };
}
