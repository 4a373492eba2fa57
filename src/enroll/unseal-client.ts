/**
 * A node that has just started asks for the key of its sealed store: the tower first, then the nodes of its site that listen, and again with growing pauses until
 * somebody says it. The tower's word that the node is revoked is final; a peer's is only what that peer knows.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { type NodeIdentity, TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { openBox } from '../identity/sealed-box.ts';
import { SealedStore } from '../identity/sealed-store.ts';
import type { UnsealKey } from '../identity/unseal.ts';
import { verifyPeer } from '../identity/verify.ts';
import type { Timers } from '../transport/system.ts';
import type { BootFile } from './boot-file.ts';
import { postAs } from './https.ts';
import { UNSEAL_ROUTE } from './unseal-route.ts';
import { boxPurposes, checkUnsealAnswer } from './unseal-wire.ts';
import { bytesOf, type Endpoint, readJson } from './wire.ts';

export interface UnsealClientOptions {
  readonly boot: BootFile;
  /** Path of the store that is to be opened. */
  readonly store: string;
  readonly timers: Timers;
  readonly random: Random;
  readonly signal: AbortSignal;
  /** Somebody said no, or nothing. */
  readonly onRefusal: (by: string, error: SelvedgeError) => void;
  /** Nobody has said it yet. */
  readonly onWait: (round: number, delay_ms: number) => void;
}

export interface Unsealed {
  readonly key: UnsealKey;
  /** `tower`, or the id of the node that helped. */
  readonly by: string;
}

interface Helper {
  readonly identity: NodeIdentity;
  readonly endpoint: Endpoint;
}

/** @throws certificate_revoked, boot_identity_missing, store_damaged, and what ended the wait */
export async function askForUnsealKey(options: UnsealClientOptions): Promise<Unsealed> {
  const { boot, store, random, signal, onWait } = options;
  const { generation } = (await SealedStore.head(store)).key;
  if (boot.credentials === null) throw new SelvedgeError('boot_identity_missing', { path: boot.path });
  for (let round = 1; ; round++) {
    const unsealed = await askAll(options, generation);
    if (unsealed !== null) return unsealed;
    signal.throwIfAborted();
    const delay_ms = (0.5 + random.unit() / 2) * Math.min(limits.unseal_backoff_ms_max, limits.backoff_ms_base * 2 ** round);
    onWait(round, delay_ms);
    await waitFor(options, delay_ms);
  }
}

async function waitFor({ timers, signal }: UnsealClientOptions, delay_ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = timers.after(delay_ms, resolve);
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
  cancel();
  signal.throwIfAborted();
}

/** One round. A few of the site's nodes at a time, in an order of chance, so that they share the work when a whole site starts. */
async function askAll(options: UnsealClientOptions, generation: number): Promise<Unsealed | null> {
  const { boot, random } = options;
  const { cluster, site } = boot.who;
  const tower: Helper[] = boot.tower.map((endpoint) => ({ identity: { cluster, site: TOWER_SITE, node: TOWER_ID }, endpoint }));
  const peers: Helper[] = boot.peers.flatMap(({ id, endpoints }) => endpoints.map((endpoint) => ({ identity: { cluster, site, node: id }, endpoint })));
  const order = peers.map((peer) => ({ peer, by: random.unit() })).sort((left, right) => left.by - right.by);
  for (const helper of [...tower, ...order.slice(0, limits.unseal_peers_per_round_max).map(({ peer }) => peer)]) {
    const unsealed = await ask(options, helper, generation);
    if (unsealed !== null) return unsealed;
  }
  return null;
}

async function ask(options: UnsealClientOptions, helper: Helper, generation: number): Promise<Unsealed | null> {
  const { node } = helper.identity;
  try {
    const key = await keyFrom(options, helper, generation);
    // Whoever says a wrong key, for whatever reason, must not keep the others from being asked.
    await (await SealedStore.peek(options.store, key)).close();
    return { key, by: node };
  } catch (error) {
    options.signal.throwIfAborted();
    const refusal = asSelvedgeError(error, 'internal_error', { what: 'asking for the key of the sealed store' });
    options.onRefusal(node, refusal);
    if (node === TOWER_ID && refusal.code === 'certificate_revoked') throw refusal;
    if (refusal.code === 'store_damaged') throw refusal;
    return null;
  }
}

async function keyFrom({ boot, timers, signal }: UnsealClientOptions, { identity, endpoint }: Helper, generation: number): Promise<UnsealKey> {
  const { credentials, roots } = boot;
  if (credentials === null) throw new SelvedgeError('boot_identity_missing', { path: boot.path });
  const body = await postAs({ host: endpoint.host, port: endpoint.tcp }, credentials, {
    path: UNSEAL_ROUTE,
    body: Buffer.from(JSON.stringify({ generation })),
    answer_bytes_max: limits.api_body_bytes_max,
    signal: AbortSignal.any([signal, AbortSignal.timeout(limits.unseal_request_ms_max)]),
    judge: (chain) => {
      const expected = { expectedNode: identity.node, expectedSite: identity.site };
      verifyPeer({ chain, roots, cluster: identity.cluster, now_ms: timers.clock.wall(), usage: 'server', ...expected });
    },
  });
  const answer = readJson(body, limits.api_body_bytes_max, checkUnsealAnswer);
  const { node } = boot.who;
  const key = openBox(credentials.key, boxPurposes.unsealKey(node, generation), bytesOf(answer.box, limits.api_body_bytes_max, '/box'));
  return { kind: 'site', key, generation };
}
