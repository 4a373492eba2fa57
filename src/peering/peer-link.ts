/**
 * The dialing side of one peer: keeps a channel with it, always. It dials, greets, lets the channel resume over another session when one is lost or
 * silent, moves it back up to QUIC, and backs off between failures. It decides when to dial; how is the dialer's.
 */
import { asSelvedgeError, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { HelloMode } from '../channel/hello.ts';
import type { Dialed } from '../transport/dialer.ts';
import { greet } from '../transport/greeting.ts';
import type { RoomContext } from './context.ts';
import type { Candidate, FlowHandle } from './mesh.ts';
import { checkHello, PeerChannel, type PeerChannelOwner } from './peer-channel.ts';
import { Redial } from './redial.ts';
import { Refresh } from './refresh.ts';

/** Made once: an abort without a reason makes one of its own, with a stack trace. */
const NOT_NEEDED = new SelvedgeError('session_closed', { why: 'no longer needed' });

export class PeerLink implements PeerChannelOwner {
  readonly #context: RoomContext;
  #candidate: Candidate;
  readonly #onFlow: (flow: FlowHandle, from: PeerChannel) => void;
  readonly #redialing: Redial;
  #current: PeerChannel | null = null;
  #lastError: SelvedgeError | null = null;
  #rememberedRate: number | undefined;
  #dialing: AbortController | null = null;
  /** Once the dial that is under way has ended, well or not. */
  #dialed: Promise<void> = Promise.resolve();
  #probing: AbortController | null = null;
  readonly #refresh: Refresh;
  #isClosed = false;

  constructor(context: RoomContext, candidate: Candidate, onFlow: (flow: FlowHandle, from: PeerChannel) => void) {
    this.#context = context;
    this.#candidate = candidate;
    this.#onFlow = onFlow;
    this.#redialing = new Redial(context, () => {
      if (this.#needsSession) this.#redial();
    });
    this.#refresh = new Refresh(context.timers, context.random);
  }

  get candidate(): Candidate {
    return this.#candidate;
  }

  get channel(): PeerChannel | null {
    return this.#current;
  }

  get lastError(): SelvedgeError | null {
    return this.#lastError;
  }

  get attempts(): number {
    return this.#redialing.attempts;
  }

  /** Why there is no channel, and when there will be another attempt. */
  get why(): string {
    const { left_ms } = this.#redialing;
    const next = left_ms === null ? '' : `; next attempt in ${Math.ceil(left_ms / 1_000)} s`;
    return `${this.#lastError?.message ?? 'waiting to dial'}${next}`;
  }

  /** Milliseconds until the next attempt; null: it waits for none. */
  get next_ms(): number | null {
    return this.#redialing.left_ms;
  }

  start(): void {
    this.#redial();
  }

  /** What kept it from dialing is over: the wait is not sat out. */
  hurry(): void {
    if (this.#redialing.isWaiting && this.#needsSession) this.#redial();
  }

  /** The directory changed: the next dial uses the new addresses. */
  update(candidate: Candidate): void {
    this.#candidate = candidate;
    if (this.#refresh.isDue(candidate.leaf, this.#current?.verified ?? null)) this.#refresh.later(() => void this.refresh());
  }

  /**
   * Another session for the channel that is there, since a certificate of either end is new: make before break, as on the way back to QUIC.
   * True once it carries the channel, or where there is no channel to carry.
   */
  async refresh(): Promise<boolean> {
    // A dial that is under way shows what there was to show when it began.
    while (this.#dialing !== null) await this.#dialed;
    const channel = this.#current;
    if (this.#isClosed || channel === null || this.#needsSession) return true;
    const refreshing = new AbortController();
    this.#refresh.begin(refreshing);
    try {
      const dialed = await this.#context.dialer.dial(this.#candidate, refreshing.signal, channel.channel.hasBulk);
      await this.#carryOn(channel, dialed, 'migrate', refreshing.signal);
      return true;
    } catch (error) {
      if (refreshing.signal.aborted) return false;
      this.#context.log('session not refreshed', { peer: this.#candidate.name, reason: asSelvedgeError(error, 'network_unreachable').message });
      if (channel.isOutdated) this.#refresh.within(REPROBE_MS, () => void this.refresh());
      else this.#refresh.later(() => void this.refresh());
      return false;
    }
  }

  /** The same, soon, where the session in use stands on what is leaving: spread over as long as the peer wants those who come to it to be. */
  moveOver(): void {
    if (this.#current?.isOutdated !== true) return;
    const within_ms = Math.min(limits.trust_grace_ms / 2, this.#redialing.spread_ms);
    this.#refresh.within(within_ms, () => void this.refresh());
  }

  close(code: ErrorCode, why: string): void {
    this.#isClosed = true;
    this.#refresh.stop();
    this.#redialing.stop();
    this.#dialing?.abort(NOT_NEEDED);
    this.#probing?.abort(NOT_NEEDED);
    this.#current?.close(code, why);
  }

  // ---- what the channel tells

  flow(flow: FlowHandle): void {
    if (this.#current) this.#onFlow(flow, this.#current);
  }

  /** Silence: dial another session beside the silent one. It may yet speak again; then the new one is not needed. */
  suspect(channel: PeerChannel, isSuspect: boolean): void {
    if (channel !== this.#current) return;
    if (isSuspect) {
      this.#context.dialer.noteSilent(this.#candidate, channel.carrier.session?.transport ?? 'quic');
      this.#redial();
    } else if (!channel.channel.isSuspended) {
      this.#dialing?.abort(NOT_NEEDED);
      this.#redialing.stop();
    }
  }

  suspended(channel: PeerChannel, error: SelvedgeError): void {
    if (channel !== this.#current) return;
    this.#lastError = error;
    this.#context.log('session lost', { peer: this.#candidate.name, code: error.code, reason: error.message });
    this.#context.onChange();
    this.#stopProbe();
    // Somebody else has come under this host's identity, a copy of its disk perhaps: whoever redials at once takes turns with it as fast as the path allows.
    if (error.code === 'replaced') this.#redialing.wait();
    // Where a dial has failed since the silence began, the next one is planned already.
    else if (!this.#redialing.isWaiting) this.#redial();
  }

  ended(channel: PeerChannel, error: SelvedgeError): void {
    if (channel !== this.#current) return;
    this.#lastError = error;
    this.#rememberedRate = channel.channel.rememberedRate;
    this.#current = null;
    this.#refresh.stop();
    this.#stopProbe();
    this.#context.onChange();
    if (!this.#isClosed && this.#dialing === null) this.#redialing.wait();
  }

  // ---- dialing

  #redial(): void {
    if (this.#isClosed || this.#dialing !== null) return;
    if (this.#redialing.isHeldOff) return this.#redialing.wait();
    this.#redialing.stop();
    const dialing = new AbortController();
    this.#dialing = dialing;
    this.#dialed = this.#dialOnce(dialing.signal)
      .then(() => this.#redialing.carried())
      .catch((error: unknown) => this.#dialFailed(asSelvedgeError(error, 'network_unreachable', { peer: this.#candidate.name }), dialing.signal.aborted))
      .finally(() => {
        if (this.#dialing === dialing) this.#dialing = null;
        if (!this.#isClosed && this.#needsSession && !this.#redialing.isWaiting) this.#redialing.wait();
      });
  }

  get #needsSession(): boolean {
    const channel = this.#current?.channel;
    return !channel || channel.hasEnded || channel.isSuspended || channel.isSuspect;
  }

  #dialFailed(error: SelvedgeError, wasAborted: boolean): void {
    if (wasAborted) return;
    this.#lastError = this.#redialing.failed(this.#candidate.name, error);
  }

  async #dialOnce(signal: AbortSignal): Promise<void> {
    const existing = this.#current?.isUsable ? this.#current : null;
    if (existing) return this.#carryOn(existing, await this.#context.dialer.dial(this.#candidate, signal, existing.channel.hasBulk), 'resume', signal);
    const objection = this.#context.mayBegin(this.#candidate.identity);
    if (objection !== null) throw objection;
    const fresh = new PeerChannel(this.#context, 'dialer', this.#candidate.identity, this, this.#rememberedRate);
    this.#current = fresh;
    fresh.channel.move('dial');
    try {
      const dialed = await this.#context.dialer.dial(this.#candidate, signal);
      if (this.#isClosed || !fresh.isUsable) return dialed.session.close('session_closed', 'no longer needed');
      fresh.channel.move('connected');
      fresh.channel.move('handshaken');
      fresh.channel.move('authenticated');
      const { accept, relay } = await greet(dialed.session, fresh.hello(this.#context, 'new'), this.#context.timers);
      this.#checkAccept(accept, dialed);
      this.#redialing.spreadOver(accept.return_ms);
      if (this.#isClosed || !fresh.isUsable) return dialed.session.close('session_closed', 'no longer needed');
      fresh.establish(accept, accept, dialed.session, relay, dialed.peer, dialed.why);
      this.#established(fresh);
    } catch (error) {
      const failure = asSelvedgeError(error, 'network_unreachable', { peer: this.#candidate.name });
      if (!fresh.channel.hasEnded) fresh.fail(failure);
      if (this.#current === fresh) this.#current = null;
      throw failure;
    }
  }

  /** The accept may have taken its time, and the peer may have been revoked meanwhile: it is judged once more. */
  #checkAccept(accept: Parameters<typeof checkHello>[0], dialed: Dialed): void {
    try {
      checkHello(accept, dialed.peer);
      const { policy } = this.#context;
      const { identity } = this.#candidate;
      const stale = accept.mode === 'new' ? policy.staleness(identity, accept.routeEpoch) : null;
      const objection = policy.channel(identity) ?? stale;
      if (objection !== null) throw objection;
      this.#context.judgeAgain(this.#candidate.identity, dialed.session.peerChain, 'server');
    } catch (error) {
      const refusal = asSelvedgeError(error, 'wrong_node');
      dialed.session.close(refusal.code, refusal.message);
      throw refusal;
    }
  }

  /**
   * Another session for a living channel; `migrate` when the one before still works. One after another: both ends must see sessions take over in the
   * same order, else each would send on one that the other has given up.
   */
  #carryOn(channel: PeerChannel, dialed: Dialed, mode: HelloMode, signal: AbortSignal): Promise<void> {
    const turn = this.#turn.then(() => this.#carryOnNow(channel, dialed, mode, signal));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  #turn: Promise<void> = Promise.resolve();

  async #carryOnNow(channel: PeerChannel, dialed: Dialed, mode: HelloMode, signal: AbortSignal): Promise<void> {
    const isNeeded = mode === 'migrate' || this.#needsSession;
    if (this.#isClosed || signal.aborted || !isNeeded || !channel.isUsable) return dialed.session.close('session_closed', 'no longer needed');
    const { accept, relay } = await greet(dialed.session, channel.hello(this.#context, mode), this.#context.timers);
    this.#checkAccept(accept, dialed);
    this.#redialing.spreadOver(accept.return_ms);
    if (this.#isClosed) return dialed.session.close('session_closed', 'no longer needed');
    const knows = accept.mode === mode && equalBytes(accept.channel, channel.channel.id);
    if (knows && channel.isUsable) {
      channel.carry(dialed.session, relay, mode, dialed.peer, dialed.why);
      return this.#established(channel);
    }
    // The acceptor restarted: this session is the first of another channel.
    const objection = this.#context.mayBegin(this.#candidate.identity);
    if (objection !== null) {
      dialed.session.close(objection.code, objection.message);
      if (channel.isUsable) channel.fail(new SelvedgeError('channel_unknown', { peer: this.#candidate.name }));
      throw objection;
    }
    const fresh = new PeerChannel(this.#context, 'dialer', this.#candidate.identity, this, channel.channel.rememberedRate);
    this.#current = fresh;
    if (channel.isUsable) channel.fail(new SelvedgeError('channel_unknown', { peer: this.#candidate.name }));
    for (const cause of ['dial', 'connected', 'handshaken', 'authenticated'] as const) fresh.channel.move(cause);
    fresh.establish(accept, accept, dialed.session, relay, dialed.peer, dialed.why);
    this.#established(fresh);
  }

  #established(channel: PeerChannel): void {
    this.#lastError = null;
    this.#context.log('channel carried', { peer: this.#candidate.name, transport: channel.carrier.session?.transport ?? 'none', why: channel.why });
    this.#context.onChange();
    this.#probeUp(channel);
  }

  // ---- back up to QUIC

  #stopProbe(): void {
    this.#probing?.abort(NOT_NEEDED);
    this.#probing = null;
  }

  #probeUp(channel: PeerChannel): void {
    this.#stopProbe();
    if (this.#isClosed || channel.carrier.session?.transport !== 'tcp') return;
    const probing = new AbortController();
    this.#probing = probing;
    this.#context.dialer
      .probe(this.#candidate, probing.signal)
      .then((dialed) => (dialed ? this.#carryOn(channel, dialed, 'migrate', probing.signal) : undefined))
      .catch((error: unknown) => {
        if (probing.signal.aborted) return;
        this.#context.log('way back to QUIC failed', { peer: this.#candidate.name, reason: asSelvedgeError(error, 'network_unreachable').message });
        this.#cancelReprobe?.();
        this.#cancelReprobe = this.#context.timers.after(REPROBE_MS, () => {
          if (this.#current === channel && this.#probing === probing) this.#probeUp(channel);
        });
      });
    probing.signal.addEventListener('abort', () => this.#cancelReprobe?.(), { once: true });
  }

  #cancelReprobe: (() => void) | null = null;
}

/** After a probe that connected and was then refused. */
const REPROBE_MS = 5_000;
