/**
 * Snapshots over channels: serves flows of service `snapshot` (class `fabric_control`, kind `messages`). A node says what it has and where it
 * listens; the tower sends its signed snapshot when there is something newer, now and whenever the node's scope changes, and again
 * before the old one's time to live is over. Several changes while one snapshot is on its way become one, and so do those of somebody who changes
 * something all the time: a member of an app network may do that, and each change is told to all the others.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { cutIntoPieces } from '../enroll/pieces.ts';
import { checkSnapshotRequest, readJson, SNAPSHOT_SERVICE } from '../enroll/wire.ts';
import type { FlowHandle, Mesh } from '../peering/mesh.ts';
import type { Timers } from '../transport/system.ts';
import { PushPace } from './push-pace.ts';
import { RateLimit } from '../api/rate-limit.ts';
import type { Seen } from './rules-snapshot.ts';
import type { Tower } from './tower.ts';

export interface SnapshotService {
  /** Ends every flow and stops listening for changes. Idempotent. */
  close(): void;
}

/** `onFailure` hears of what ended a flow other than the node itself. */
export function serveSnapshots(
  mesh: Mesh,
  tower: Tower,
  timers: Timers,
  onFailure: (error: SelvedgeError, node: string) => void = () => undefined,
): SnapshotService {
  const rate = new RateLimit({ clock: timers.clock, per_minute: limits.snapshot_requests_per_minute_max });
  const live = new Map<string, Subscription>();
  let closed = false;

  mesh.handle(SNAPSHOT_SERVICE, (flow) => {
    const objection = closed ? new SelvedgeError('shutting_down') : flowObjection(flow);
    if (objection !== null) return flow.reset(objection.code, objection.message);
    const subscription = new Subscription(flow, { tower, rate, timers });
    // A node asks on one flow; a new one means that it has given up on the old.
    live.get(flow.peer)?.end(new SelvedgeError('replaced'));
    live.set(flow.peer, subscription);
    void subscription.run().then((error) => {
      if (live.get(flow.peer) === subscription) live.delete(flow.peer);
      if (error !== null) onFailure(error, flow.peer);
    });
  });

  const unsubscribe = tower.onChange(({ everybody = false, site, sites = [], nodes, isUrgent = false }) => {
    if (everybody) for (const subscription of live.values()) subscription.wake(isUrgent);
    for (const node of nodes) live.get(node)?.wake(isUrgent);
    for (const one of site === null ? sites : [site, ...sites]) for (const subscription of live.values()) subscription.changed(one, isUrgent);
  });
  let cancelRefresh = () => {};
  const refreshLater = () => {
    cancelRefresh = timers.after(limits.snapshot_refresh_ms, () => {
      for (const subscription of live.values()) subscription.refresh();
      refreshLater();
    });
  };
  refreshLater();

  return {
    close() {
      closed = true;
      unsubscribe();
      cancelRefresh();
      for (const subscription of live.values()) subscription.end(new SelvedgeError('shutting_down'));
    },
  };
}

function flowObjection(flow: FlowHandle): SelvedgeError | null {
  if (flow.peer === TOWER_ID) return new SelvedgeError('flow_refused', { why: 'a tower asks no tower for a snapshot' });
  if (flow.class !== 'fabric_control') return new SelvedgeError('channel_class_denied', { class: flow.class, why: 'snapshots are fabric_control' });
  return flow.kind === 'messages' ? null : new SelvedgeError('flow_refused', { why: `snapshots come as messages, not ${flow.kind}` });
}

/** One node's flow. `#have` is what it said or was sent last; nothing is sent until it has said something. */
class Subscription {
  readonly #flow: FlowHandle;
  readonly #tower: Tower;
  readonly #rate: RateLimit;
  readonly #timers: Timers;
  readonly #pace = new PushPace();
  #stopWaiting: () => void = () => {};
  #have: number | null = null;
  /** Of which sites it may hear; null: not known yet. */
  #sites: Seen['sites'] | null = null;
  #stale = false;
  #sending = false;
  #again = false;
  #hurried = false;
  #over = false;
  #error: SelvedgeError | null = null;

  constructor(flow: FlowHandle, { tower, rate, timers }: { tower: Tower; rate: RateLimit; timers: Timers }) {
    this.#flow = flow;
    this.#tower = tower;
    this.#rate = rate;
    this.#timers = timers;
    void flow.closed.then(() => {
      this.#over = true;
      this.#stopWaiting();
    });
  }

  /** Until the flow is over. Resolves to what ended it, null for the node itself; never rejects. */
  async run(): Promise<SelvedgeError | null> {
    try {
      for (let message = await this.#flow.receive(); message !== null; message = await this.#flow.receive()) await this.#asked(message);
      this.#flow.end();
    } catch (error) {
      this.#fail(error);
    }
    await this.#flow.closed;
    return this.#error;
  }

  changed(site: string, isUrgent: boolean): void {
    if (this.#sites === null || this.#sites === 'all' || this.#sites.has(site)) this.wake(isUrgent);
  }

  refresh(): void {
    this.#stale = true;
    this.wake();
  }

  end(why: SelvedgeError): void {
    this.#flow.reset(why.code, why.message);
  }

  async #asked(message: Uint8Array): Promise<void> {
    this.#rate.take(this.#flow.peer);
    const { have, listen, trust } = readJson(message, limits.api_body_bytes_max, checkSnapshotRequest);
    await this.#tower.setEndpoints(this.#flow.peer, listen);
    await this.#tower.seen(this.#flow.peer);
    if (trust !== undefined) await this.#tower.trust.held(this.#flow.peer, trust);
    this.#have = have;
    this.wake();
  }

  /** Sends what is newer than what it has, now or once what is being sent has left; what is urgent does not wait for its turn. */
  wake(isUrgent = false): void {
    this.#again = true;
    if (isUrgent) {
      this.#hurried = true;
      this.#stopWaiting();
    }
    if (this.#sending || this.#have === null) return;
    this.#sending = true;
    void this.#sendUntilCurrent().catch((error: unknown) => this.#fail(error));
  }

  async #sendUntilCurrent(): Promise<void> {
    try {
      while (this.#again && !this.#over) {
        await this.#turn();
        if (this.#over) return;
        this.#again = false;
        const { sites, version } = await this.#tower.seenBy(this.#flow.peer);
        this.#sites = sites;
        if (version > (this.#have ?? 0) || this.#stale) await this.#send();
      }
    } finally {
      // In the same step as the last look at `#again`, so that no wake falls in between.
      this.#sending = false;
    }
  }

  /** Until the next snapshot may leave; what changes meanwhile is in it. */
  async #turn(): Promise<void> {
    const delay_ms = this.#hurried ? 0 : this.#pace.delay_ms(this.#timers.clock.now());
    this.#hurried = false;
    if (delay_ms === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#timers.after(delay_ms, resolve);
    this.#stopWaiting = () => {
      cancel();
      resolve();
    };
    await promise;
    this.#hurried = false;
  }

  async #send(): Promise<void> {
    this.#pace.spend(this.#timers.clock.now());
    const { version, envelope } = await this.#tower.snapshot(this.#flow.peer);
    this.#have = version;
    this.#stale = false;
    for (const piece of cutIntoPieces(new TextEncoder().encode(JSON.stringify(envelope)))) {
      // Taken either way; the next waits until this one has room, and several changes become one.
      if (!this.#flow.send(piece)) await this.#flow.drained();
      if (this.#over) return;
    }
  }

  #fail(error: unknown): void {
    this.#error ??= asSelvedgeError(error, 'internal_error', { what: 'the snapshot service' });
    this.#flow.reset(this.#error.code, this.#error.message);
  }
}
