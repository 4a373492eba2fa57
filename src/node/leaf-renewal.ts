/**
 * Renews this node's leaf while it runs (spec 1.1, 3.4): a new key, a request for it over the channel to the tower, and the answer, checked, in the place of the
 * old one. Sessions that begin from then on show it; the channels that are there move over, one after the other, and lose nothing.
 *
 * A kill at any point leaves a leaf that works: the request is sealed before it is sent and asked again as it was, and the answer replaces key and
 * certificate in one step. The tower accepts the old leaf until the new one was seen.
 */
import { createHash } from 'node:crypto';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { equalBytes, TOWER_ID, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { checkRenewAnswer, RENEW_SERVICE, type RenewRequest } from '../enroll/renew-wire.ts';
import type { NodeState } from '../enroll/state.ts';
import { bytesOf, readJson } from '../enroll/wire.ts';
import { toBase64 } from '../identity/base64.ts';
import { createCsr } from '../identity/csr.ts';
import { type CertificateFacts, certificateFacts, ExpiryWatch, type Watched, warningText } from '../identity/expiry.ts';
import { fingerprint, formatFingerprint } from '../identity/fingerprint.ts';
import { generateKeyPair, importPrivateKey } from '../identity/keys.ts';
import { lifetimeOf, renewAt_ms } from '../identity/lifetime.ts';
import { verifyPeer } from '../identity/verify.ts';
import type { Mesh } from '../peering/mesh.ts';
import type { Credentials } from '../transport/session.ts';
import type { Timers } from '../transport/system.ts';
import { ReissuePlan } from './reissue.ts';

export interface LeafRenewalOptions {
  readonly mesh: Pick<Mesh, 'open'>;
  readonly state: NodeState;
  readonly timers: Timers;
  readonly random: Random;
  /** The new credentials hold: show them. How many channels moved over, of how many. */
  readonly onRenewed: () => Promise<Moved>;
  /** Other certificates to warn of: those of files. */
  readonly others?: () => readonly Watched[];
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

interface Moved {
  readonly moved: number;
  readonly of: number;
}

export interface Renewed {
  /** `sha256:HEX` of the leaf before and of the one now. */
  readonly before: string;
  readonly now: string;
  readonly not_after_ms: number;
  readonly channels_moved: number;
  readonly channels: number;
}

/** Between two looks at the clock on the wall, which may be set in between. */
const LOOK_MS_MAX = 3_600_000;

export class LeafRenewal {
  readonly #options: LeafRenewalOptions;
  readonly #watch = new ExpiryWatch();
  readonly #reissue = new ReissuePlan();
  #due_ms = 0;
  /** The leaf of which `#usual_ms` is. */
  #planned: Uint8Array | undefined;
  #usual_ms = 0;
  #cancel: () => void = () => {};
  #running: Promise<Renewed> | null = null;
  #lastError: SelvedgeError | null = null;
  #failures = 0;
  #isClosed = false;

  constructor(options: LeafRenewalOptions) {
    this.#options = options;
  }

  /** From now on it renews by itself. */
  start(): void {
    this.#plan();
    this.#look();
  }

  /** A snapshot may call for another leaf before this one is due. */
  follow(): void {
    const before_ms = this.#due_ms;
    this.#plan();
    if (this.#due_ms < before_ms && this.#running === null) this.#look();
  }

  /** For status. */
  get facts(): Readonly<Record<string, string | number | boolean | null>> {
    const { notAfter_ms } = lifetimeOf(this.#options.state.credentials.chain[0]);
    return {
      certificate_not_after_ms: notAfter_ms,
      certificate_renew_ms: Math.round(this.#due_ms),
      certificate_renew_error: this.#lastError?.code ?? null,
      certificate_warning: this.#warning,
    };
  }

  /** At once, whenever it is due. Who asks meanwhile gets the same answer. @throws not_connected, timeout, certificate_invalid, disk_full, what the tower refuses with */
  renewNow(): Promise<Renewed> {
    this.#running ??= this.#renew().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  /** Its own, which is renewed by itself, and the roots that it trusts. */
  get certificates(): CertificateFacts[] {
    const { state, timers, others } = this.#options;
    const [leaf = new Uint8Array()] = state.credentials.chain;
    const roots = state.trust.roots.map((der, index): Watched => ({ name: index === 0 ? 'the root' : `root ${index + 1}`, der, renews_ms: null }));
    const own: Watched = { name: "this node's certificate", der: leaf, renews_ms: this.#due_ms };
    return [own, ...roots, ...(others?.() ?? [])].map((one) => certificateFacts(one, timers.clock.wall()));
  }

  get #warning(): string | null {
    const near = this.certificates.filter(({ warning_days }) => warning_days !== null);
    return near.length === 0 ? null : near.map(warningText).join('; ');
  }

  #plan(): void {
    const { state, random, timers } = this.#options;
    const [leaf] = state.credentials.chain;
    if (leaf !== this.#planned) this.#usual_ms = renewAt_ms(lifetimeOf(leaf), random.unit());
    this.#planned = leaf;
    this.#due_ms = Math.min(this.#usual_ms, this.#reissue.due_ms(state, timers.clock.wall(), () => random.unit()) ?? Number.POSITIVE_INFINITY);
  }

  #look(): void {
    const { timers, log } = this.#options;
    this.#cancel();
    if (this.#isClosed) return;
    for (const facts of this.#watch.look(this.certificates))
      log('certificate nears its end', { certificate: facts.name, days: facts.days, not_after_ms: facts.not_after_ms, text: warningText(facts) });
    const left_ms = this.#due_ms - timers.clock.wall();
    if (left_ms > 0) {
      this.#cancel = timers.after(Math.min(left_ms, LOOK_MS_MAX), () => this.#look());
      return;
    }
    void this.renewNow()
      .catch(() => undefined)
      .finally(() => {
        if (!this.#isClosed) this.#cancel = timers.after(this.#failures === 0 ? 0 : this.#retry_ms(), () => this.#look());
      });
  }

  #retry_ms(): number {
    const most_ms = Math.min(limits.leaf_retry_ms_max, limits.leaf_retry_ms_base * 2 ** (this.#failures - 1));
    return most_ms * (0.5 + this.#options.random.unit() / 2);
  }

  async #renew(): Promise<Renewed> {
    const { state, log, onRenewed } = this.#options;
    const before = fingerprint(state.credentials.chain[0] ?? new Uint8Array());
    try {
      const credentials = await this.#fetch(before);
      await state.keepCredentials(credentials);
      // Peers refuse a leaf that they have not heard of.
      await this.#wait(limits.leaf_publish_ms);
      state.useCredentials(credentials);
    } catch (error) {
      const failure = asSelvedgeError(error, 'internal_error', { what: 'renewing the certificate' });
      this.#failures++;
      this.#lastError = failure;
      log('certificate not renewed', { code: failure.code, reason: failure.message, failures: this.#failures });
      throw failure;
    }
    this.#failures = 0;
    this.#lastError = null;
    this.#reissue.later(this.#options.timers.clock.wall());
    this.#plan();
    const [leaf = new Uint8Array()] = state.credentials.chain;
    const facts = { before: formatFingerprint(before), now: formatFingerprint(fingerprint(leaf)), not_after_ms: lifetimeOf(leaf).notAfter_ms };
    const { moved, of } = await onRenewed();
    log('certificate renewed', { ...facts, channels_moved: moved, channels: of });
    return { ...facts, channels_moved: moved, channels: of };
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#options.timers.after(ms, resolve));
  }

  async #fetch(before: Uint8Array): Promise<Credentials> {
    const { state } = this.#options;
    const { key, csr } = await state.pendingRenewal(() => {
      const { privateKey } = generateKeyPair();
      return { key: privateKey, csr: createCsr(privateKey, state.identity.name) };
    });
    try {
      const answer = await this.#ask({ csr: toBase64(csr), holding: toHex(before) });
      return this.#believe(answer, key);
    } catch (error) {
      // Its key is known already, or it is no good: the next attempt has another.
      if (error instanceof SelvedgeError && error.code === 'csr_invalid') await state.forgetRenewal();
      throw error;
    }
  }

  async #ask(request: RenewRequest): Promise<Uint8Array> {
    const { mesh, timers } = this.#options;
    const flow = mesh.open(TOWER_ID, 'fabric_control', 'messages', RENEW_SERVICE);
    const patience_ms = limits.leaf_answer_ms_max;
    const cancel = timers.after(patience_ms, () => flow.reset('timeout', `no answer for ${patience_ms} ms`));
    try {
      flow.send(new TextEncoder().encode(JSON.stringify(request)));
      const message = await flow.receive();
      if (message === null) throw (await flow.closed) ?? new SelvedgeError('flow_lost', { why: 'the tower ended it' });
      flow.end();
      return message;
    } finally {
      cancel();
    }
  }

  /** What the tower sends is judged as a stranger's: it must be this node's, for the new key, and good now. */
  #believe(message: Uint8Array, key: Uint8Array): Credentials {
    const { state, timers } = this.#options;
    const { cluster, node, site } = state.identity;
    const { chain: texts } = readJson(message, limits.api_body_bytes_max, checkRenewAnswer);
    const chain = texts.map((text, index) => bytesOf(text, limits.certificate_bytes_max, `/chain/${index}`));
    const now_ms = timers.clock.wall();
    const own = verifyPeer({ chain, roots: state.trust.roots, cluster, now_ms, usage: 'client', expectedNode: node, expectedSite: site });
    const { publicKey } = importPrivateKey(key);
    if (!equalBytes(own.spkiHash, new Uint8Array(createHash('sha256').update(publicKey).digest()))) {
      throw new SelvedgeError('certificate_invalid', { peer: 'this node', why: 'the tower issued it for another key' });
    }
    return { chain, key };
  }
}
