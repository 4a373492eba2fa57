/**
 * Call-home, the node's end (spec 2.1, 2.2): a key that never leaves this host, a request for it, a proof of identity, and what comes back, checked
 * before any of it is believed. Asking again after a lost answer or a kill uses the same key and request, which the tower answers
 * without counting another use of the proof.
 */
import { createHash, sign } from 'node:crypto';
import { once } from 'node:events';
import { SelvedgeError } from '../base/errors.ts';
import { checkLabel, equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { BACKDATE_MS } from '../identity/ca.ts';
import { skewOfFresh } from '../identity/clock-evidence.ts';
import { createCsr } from '../identity/csr.ts';
import { fingerprint, formatFingerprint } from '../identity/fingerprint.ts';
import { generateKeyPair, importPrivateKey } from '../identity/keys.ts';
import { lifetimeOf } from '../identity/lifetime.ts';
import { trustBundleFromJson } from '../identity/trust-bundle.ts';
import { toBase64 } from '../identity/base64.ts';
import type { UnsealKey } from '../identity/unseal.ts';
import { type VerifiedPeer, type VerifyInput, verifyPeer } from '../identity/verify.ts';
import type { Timers } from '../transport/system.ts';
import { bootRequest, type FirstSite, openFirstSite } from './boot-request.ts';
import { type Answer, post, type TlsTrust, type TowerAddress } from './https.ts';
import { JoiningState, type Pending } from './joining.ts';
import type { PendingRequest } from './pending.ts';
import { type Challenge, challengeDigest, type HostFacts, type ProofMaker } from './proof.ts';
import { openSnapshot } from './snapshot.ts';
import type { NodeParts, NodeState } from './state.ts';
import {
  bytesOf,
  checkChallengeAnswer,
  checkEndpointsSize,
  checkEnrollAnswer,
  type Endpoint,
  type EnrollAnswer,
  type EnrollRequest,
  readJson,
} from './wire.ts';

export interface CallHomeRequest {
  readonly state: string;
  readonly unseal: UnsealKey;
  readonly tower: TowerAddress;
  /** SHA-256 of the root's DER, as `tower init` printed it. */
  readonly fingerprint: Uint8Array;
  /** How the end of the connection is known, where that is not the tower itself. */
  readonly tls?: TlsTrust;
  /** How this host shows that it may become a node. */
  readonly proof: ProofMaker;
  readonly cluster: string;
  /** A node that was one before: it keeps its state and its key. */
  readonly isReturning?: boolean;
  /** Its store is to be sealed with the site's token, from the answer on. */
  readonly isSiteSealed?: boolean;
  readonly name: string;
  readonly site?: string;
  /** Where this node listens, if it does. */
  readonly listen: readonly Endpoint[];
  /** What the host says of itself, by which it may be known again. */
  readonly facts?: HostFacts;
  readonly timers: Timers;
  readonly random: Random;
  readonly signal?: AbortSignal;
  /** Told before each wait, with what went wrong. */
  readonly onRetry?: (error: SelvedgeError, delay_ms: number) => void;
  /** Times the tower is asked before giving up; `limits.enroll_attempts_max` unless told. */
  readonly attempts_max?: number;
}

/**
 * @throws argument_invalid, already_enrolled, token_…, proof_…, fingerprint_mismatch, clock_skew, network_unreachable, certificate_invalid, wrong_cluster, wrong_node,
 *   name_taken, document_invalid, store_damaged, store_locked, disk_full
 */
export async function callHome(request: CallHomeRequest): Promise<NodeState> {
  const { cluster, proof } = request;
  checkLabel('cluster', cluster);
  checkLabel('name', request.name);
  if (request.site !== undefined) checkLabel('site', request.site);
  checkEndpointsSize(request.listen);
  const joining = await JoiningState.open(request.state, request.unseal, request.isReturning);
  const pending = await joining.pending((key) => ({
    own: makeRequest(request.name, key ?? generateKeyPair().privateKey),
    boot: makeRequest('boot', generateKeyPair().privateKey),
  }));
  const answer = await askUntilAnswered(request, pending);
  const { node, envelope, first } = await believe(request, cluster, pending, answer);
  if (request.isSiteSealed && first === null) throw new SelvedgeError('document_invalid', { what: 'answer', why: "it has no token of the node's site" });
  const state = await joining.finish(node, envelope, first, request.isSiteSealed ?? false);
  await proof.done?.();
  return state;
}

function makeRequest(name: string, key: Uint8Array): PendingRequest {
  return { key, csr: createCsr(key, name) };
}

async function askUntilAnswered(request: CallHomeRequest, pending: Pending): Promise<Answer> {
  const { timers, random, attempts_max = limits.enroll_attempts_max } = request;
  const stop = request.signal ?? new AbortController().signal;
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask(request, pending, stop);
    } catch (error) {
      const delay_ms = retryDelay_ms(error, attempt, random);
      if (delay_ms === null || attempt >= attempts_max || stop.aborted) throw error;
      request.onRetry?.(error as SelvedgeError, delay_ms);
      await waitFor(timers, delay_ms, stop);
    }
  }
}

/** Once: a challenge, where the proof is bound to one, and the request with the evidence for it. */
async function ask(request: CallHomeRequest, { own, boot }: Pending, stop: AbortSignal): Promise<Answer> {
  const { cluster, tls, proof, name, site, facts, timers, isSiteSealed = false } = request;
  const { key, csr } = own;
  const tower = { ...request.tower, cluster, fingerprint: request.fingerprint, ...(tls !== undefined && { tls }) };
  const send = (path: string, body: object, answer_bytes_max: number) =>
    post(tower, {
      path,
      body: Buffer.from(JSON.stringify(body)),
      answer_bytes_max,
      now_ms: () => timers.clock.wall(),
      signal: AbortSignal.any([stop, AbortSignal.timeout(limits.api_request_ms_max)]),
    });
  let challenge: Challenge | null = null;
  if (proof.isBound) {
    const answer = await send('/v1/enroll/challenge', {}, limits.enroll_challenge_bytes_max);
    const { nonce } = readJson(answer.body, limits.enroll_challenge_bytes_max, checkChallengeAnswer);
    const csrHash = createHash('sha256').update(csr).digest();
    const digest = challengeDigest(proof.kind, cluster, nonce, csrHash);
    challenge = { nonce, csrHash, digest, sign: (data) => sign('sha256', data, { key: importPrivateKey(key).key, dsaEncoding: 'der' }) };
  }
  const evidence = await proof.make(challenge);
  const body: EnrollRequest = {
    proof: { ...evidence, kind: proof.kind, ...(challenge !== null && { nonce: challenge.nonce }) },
    csr: toBase64(csr),
    name,
    listen: [...request.listen],
    boot: bootRequest(own, boot, isSiteSealed),
    ...(site !== undefined && { site }),
    ...(facts !== undefined && { facts: { ...facts, addresses: [...facts.addresses] } }),
  };
  return await send('/v1/enroll', body, limits.enroll_answer_bytes_max);
}

/** Full jitter (spec 8.1); null where asking again cannot help. */
function retryDelay_ms(error: unknown, attempt: number, random: Random): number | null {
  if (!(error instanceof SelvedgeError)) return null;
  const delay_ms = random.unit() * Math.min(limits.backoff_ms_max, limits.backoff_ms_base * 2 ** attempt);
  // The tower restarted, or the way there took too long: another challenge may be in time.
  if (error.code === 'network_unreachable' || error.code === 'nonce_invalid') return delay_ms;
  return error.code === 'rate_limited' ? Number(error.facts.ms) + delay_ms : null;
}

async function waitFor(timers: Timers, delay_ms: number, stop: AbortSignal): Promise<void> {
  const over = new AbortController();
  const cancel = timers.after(delay_ms, () => over.abort());
  try {
    const either = AbortSignal.any([stop, over.signal]);
    if (!either.aborted) await once(either, 'abort');
  } finally {
    cancel();
  }
}

/** Everything in the answer that this node will rely on, judged as if a stranger had sent it. */
async function believe(
  request: CallHomeRequest,
  cluster: string,
  pending: Pending,
  { body, root }: Answer,
): Promise<{ node: NodeParts; envelope: EnrollAnswer['snapshot']; first: FirstSite | null }> {
  const { key } = pending.own;
  const answer = readJson(body, limits.enroll_answer_bytes_max, checkEnrollAnswer);
  if (answer.cluster !== cluster) throw new SelvedgeError('wrong_cluster', { found: answer.cluster, expected: cluster });
  const trust = trustBundleFromJson(answer.trust);
  // The connection may have ended at a proxy: that the answer leads to the pinned root is what makes it the tower's.
  const pinned = trust.roots.find((trusted) => equalBytes(fingerprint(trusted), request.fingerprint));
  if (pinned === undefined || (root !== null && !equalBytes(pinned, root)))
    throw new SelvedgeError('document_invalid', { what: 'trust bundle', why: 'it lacks the pinned root' });
  const chain = answer.chain.map((text, index) => bytesOf(text, limits.certificate_bytes_max, `/chain/${index}`));
  const now_ms = request.timers.clock.wall();
  const own = believeOwn({ chain, roots: [pinned], cluster, now_ms, usage: 'client', expectedNode: answer.node, expectedSite: answer.site });
  const { publicKey } = importPrivateKey(key);
  if (!equalBytes(own.spkiHash, new Uint8Array(createHash('sha256').update(publicKey).digest()))) {
    throw new SelvedgeError('certificate_invalid', { peer: 'this node', why: 'the tower issued it for another key' });
  }
  const snapshot = openSnapshot(answer.snapshot, { roots: [pinned], cluster, node: answer.node, now_ms });
  const identity = {
    format: 1 as const,
    cluster,
    site: answer.site,
    node: answer.node,
    name: answer.name,
    tower: towerEndpoint(request.tower, snapshot.tower.endpoints),
    fingerprint: formatFingerprint(request.fingerprint),
  };
  const reader = { root: pinned, cluster, site: answer.site, node: answer.node, now_ms };
  const first = answer.site_secrets === undefined ? null : await openFirstSite(answer.site_secrets, pending.own, pending.boot, reader);
  return { node: { identity, credentials: { chain, key }, trust, snapshot }, envelope: answer.snapshot, first };
}

/** What the tower made just now tells its time: a refusal for the dates is a clock that is off. @throws clock_skew, and as verifyPeer */
function believeOwn(input: VerifyInput): VerifiedPeer {
  try {
    return verifyPeer(input);
  } catch (error) {
    const isForDates = error instanceof SelvedgeError && error.code === 'certificate_invalid' && error.facts.what !== undefined;
    throw (isForDates ? skewOfFresh(input.now_ms, lifetimeOf(input.chain[0]), BACKDATE_MS) : null) ?? error;
  }
}

/** Where the tower answered; its UDP port is the one it names for this TCP port, else the same number. */
function towerEndpoint({ host, port }: TowerAddress, named: readonly Endpoint[]): Endpoint {
  const known = named.find((endpoint) => endpoint.tcp === port);
  return { host, tcp: port, udp: known === undefined ? port : known.udp };
}
