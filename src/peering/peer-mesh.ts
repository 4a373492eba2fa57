/** The channel table of this host: candidates it should have channels with, channels that others opened, and the services behind them. */
import { asSelvedgeError, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { equalBytes, type NodeIdentity, TOWER_ID, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { FlowKind, TrafficClass } from '../channel/classes.ts';
import { CHANNEL_ID_BYTES, CHANNEL_SECRET_BYTES, type Hello } from '../channel/hello.ts';
import { fingerprint } from '../identity/fingerprint.ts';
import type { VerifiedPeer } from '../identity/verify.ts';
import { hearHello } from '../transport/greeting.ts';
import { reasonOf } from '../transport/reason.ts';
import type { Session } from '../transport/session.ts';
import { Admission } from './admission.ts';
import { type ChannelDetail, detailOf, noChannel } from './channel-detail.ts';
import type { MeshContext, RoomContext } from './context.ts';
import { type Drainable, type DrainRequest, type DrainStatus, HostDrain } from './drain.ts';
import type { Candidate, ChannelStatus, FlowHandle, Mesh } from './mesh.ts';
import { checkHello, PeerChannel, type PeerChannelOwner } from './peer-channel.ts';
import { PeerLink } from './peer-link.ts';
import { PenaltyBox } from './penalty-box.ts';

export class PeerMesh implements Mesh, Drainable, PeerChannelOwner {
  readonly #context: RoomContext;
  readonly #links = new Map<string, PeerLink>();
  /** Channels that the peer dialed, by node. */
  readonly #accepted = new Map<string, PeerChannel>();
  /** Sessions of which the hello has not come, with their nodes. */
  readonly #greeting = new Map<Session, string>();
  readonly #services = new Map<string, (flow: FlowHandle) => void>();
  readonly #refusals = new Map<ErrorCode, number>();
  readonly #drain: HostDrain;
  readonly #admission: Admission;
  readonly #penalties: PenaltyBox;
  #isClosed = false;

  constructor(context: MeshContext) {
    this.#context = {
      ...context,
      mayBegin: (peer) => this.#objection(peer) ?? context.mayBegin(peer),
      drainsUntil: () => this.#drain.deadline,
      return_ms: () => this.#return_ms,
    };
    const { self, timers, random, log, onChange } = context;
    this.#admission = new Admission(self.node, random, context.admission);
    this.#penalties = new PenaltyBox(self.node);
    this.#drain = new HostDrain({ self: self.node, timers, log, onChange, channels: () => this.#channels() });
  }

  get #return_ms(): number {
    return this.#admission.spread_ms(Math.max(this.#context.children?.() ?? 0, this.#accepted.size));
  }

  *#channels(): Generator<PeerChannel> {
    for (const { channel } of this.#links.values()) if (channel?.isUsable) yield channel;
    yield* this.#accepted.values();
  }

  // ---- draining

  drain(request: DrainRequest): Promise<DrainStatus> {
    this.#drain.begin(request);
    return this.#drain.settled();
  }

  undrain(): void {
    this.#drain.end();
    this.hurry();
  }

  /** What kept links from dialing is over. */
  hurry(): void {
    for (const link of this.#links.values()) link.hurry();
  }

  get drainStatus(): DrainStatus {
    return this.#drain.status;
  }

  /** While this host drains, only channels with a tower begin: what keeps the mesh together goes over them. */
  #objection({ node }: NodeIdentity): SelvedgeError | null {
    const { self } = this.#context;
    const isEssential = node === TOWER_ID || self.node === TOWER_ID;
    return this.#drain.isDraining && !isEssential ? new SelvedgeError('peer_draining', { peer: self.node }) : null;
  }

  /** The candidates of the directory now: new ones are dialed, those that are gone are closed. */
  setCandidates(candidates: readonly Candidate[]): void {
    const wanted = new Map(candidates.filter((candidate) => candidate.isDialed).map((candidate) => [candidate.identity.node, candidate]));
    for (const [node, link] of this.#links) {
      if (wanted.has(node)) continue;
      this.#links.delete(node);
      link.close('peer_disabled', 'no longer in the directory');
    }
    for (const [node, candidate] of wanted) {
      const link = this.#links.get(node);
      if (link) link.update(candidate);
      else this.#startLink(candidate);
    }
  }

  #startLink(candidate: Candidate): void {
    if (this.#isClosed || this.#links.size >= limits.channel_directory_peers_max) return;
    const link = new PeerLink(this.#context, candidate, (flow) => this.flow(flow));
    this.#links.set(candidate.identity.node, link);
    link.start();
  }

  /** This host shows another certificate from now on: every channel that it dialed moves to a session with it. How many did, of how many. */
  async refresh(): Promise<{ readonly moved: number; readonly of: number }> {
    const moves = await Promise.all([...this.#links.values()].map((link) => link.refresh()));
    return { moved: moves.filter(Boolean).length, of: moves.length };
  }

  /** Roots have left the trust bundle: channels that this host dialed move over to sessions that do not stand on them. */
  moveOver(): void {
    for (const link of this.#links.values()) link.moveOver();
  }

  /** What is known of these peers (of all, unless told) has changed: their channels are judged again. */
  revalidate(concerns: (peer: NodeIdentity) => boolean = () => true): void {
    for (const channel of [...this.#channels()]) if (concerns(channel.identity)) channel.revalidate();
  }

  /** Accepted sessions that were refused, by code. */
  get refusals(): ReadonlyMap<ErrorCode, number> {
    return this.#refusals;
  }

  // ---- accepting

  /** A pending session from the listener: judged, greeted, and given to its channel; or closed with the code of the refusal. Never throws. */
  accept(session: Session): void {
    this.#accept(session).catch((error: unknown) => {
      const refusal = asSelvedgeError(error, 'internal_error');
      this.#context.log('session refused', { remote: session.remote, transport: session.transport, code: refusal.code, reason: refusal.message });
      this.#refuse(session, refusal);
    });
  }

  #refuse(session: Session, refusal: SelvedgeError): void {
    this.#refusals.set(refusal.code, (this.#refusals.get(refusal.code) ?? 0) + 1);
    session.close(refusal.code, reasonOf(refusal));
  }

  /** Whoever is held off comes as often as it likes: refused before its chain is judged, and without a line of its own in the log. */
  #isHeldOff(session: Session, name: string): boolean {
    const objection = this.#penalties.objection(name, this.#context.timers.clock.now());
    if (objection !== null) this.#refuse(session, objection);
    return objection !== null;
  }

  async #accept(session: Session): Promise<void> {
    if (this.#isClosed) throw new SelvedgeError('shutting_down');
    const [leaf] = session.peerChain;
    if (leaf !== undefined && this.#isHeldOff(session, toHex(fingerprint(leaf)))) return;
    const verified = this.#context.judge(session);
    if (this.#isHeldOff(session, verified.identity.node)) return;
    const { hello, relay, accept } = await this.#hearHello(session, verified);
    checkHello(hello, verified);
    // The hello may have taken its time, and the peer may have been revoked meanwhile.
    this.#context.judge(session);
    if (this.#isClosed) throw new SelvedgeError('shutting_down');
    const existing = this.#accepted.get(verified.identity.node);
    const { answer, channel } = this.#place(hello, verified, existing);
    accept(answer);
    const why = session.transport === 'quic' ? 'quic' : 'the peer dialed it';
    if (channel === existing) channel.carry(session, relay, answer.mode, verified, why);
    else channel.establish(answer, hello, session, relay, verified, why);
    this.#context.log('channel accepted', { peer: this.#context.nameOf(verified.identity.node), transport: session.transport, mode: answer.mode });
    this.#context.onChange();
  }

  /** A node has as many sessions waiting for its hello as a dialer could need: one that goes, one that comes, each once more. */
  async #hearHello(session: Session, verified: VerifiedPeer): ReturnType<typeof hearHello> {
    const { node } = verified.identity;
    const waiting = [...this.#greeting.values()].filter((other) => other === node).length;
    const max = limits.greetings_per_node_max;
    if (waiting >= max) throw new SelvedgeError('limit_reached', { limit: 'greetings_per_node_max', max });
    this.#greeting.set(session, node);
    try {
      return await hearHello(session, this.#context.timers);
    } finally {
      this.#greeting.delete(session);
    }
  }

  /** The channel that a hello belongs to: the one that it names and proves to know, or a new one. */
  #place(hello: Hello, verified: VerifiedPeer, existing: PeerChannel | undefined): { answer: Hello; channel: PeerChannel } {
    const isKnown =
      existing?.isUsable && hello.mode !== 'new' && equalBytes(existing.channel.id, hello.channel) && equalBytes(existing.channel.secret, hello.secret);
    const now = this.#context.timers.clock.now();
    if (isKnown && existing) {
      if (hello.mode === 'resume') this.#admission.resumed(now);
      return { answer: existing.hello(this.#context, hello.mode), channel: existing };
    }
    const { policy, mayBegin } = this.#context;
    const objection = mayBegin(verified.identity) ?? policy.staleness(verified.identity, hello.routeEpoch);
    if (objection !== null) throw objection;
    if (this.#accepted.size >= limits.channels_max) throw new SelvedgeError('limit_reached', { limit: 'channels_max', max: limits.channels_max });
    this.#admission.admit(verified.identity.node, now);
    const fresh = new PeerChannel(this.#context, 'acceptor', verified.identity, this);
    this.#accepted.set(verified.identity.node, fresh);
    if (existing?.isUsable) existing.fail(new SelvedgeError('replaced'));
    for (const cause of ['accept', 'handshaken', 'authenticated'] as const) fresh.channel.move(cause);
    const { random } = this.#context;
    const answer = { ...fresh.hello(this.#context, 'new'), channel: random.bytes(CHANNEL_ID_BYTES), secret: random.bytes(CHANNEL_SECRET_BYTES) };
    return { answer, channel: fresh };
  }

  // ---- what accepted channels tell

  flow(flow: FlowHandle): void {
    const accept = this.#services.get(flow.service);
    if (accept) accept(flow);
    else flow.reset('flow_refused', `no service '${flow.service}' here`);
  }

  suspect(): void {
    // The dialing side brings another session; this side keeps the channel for its carrier time.
  }

  suspended(channel: PeerChannel, error: SelvedgeError): void {
    this.#context.log('session lost', { peer: this.#context.nameOf(channel.identity.node), code: error.code, reason: error.message });
    this.#context.onChange();
  }

  ended(channel: PeerChannel, error: SelvedgeError): void {
    if (this.#accepted.get(channel.identity.node) === channel) this.#accepted.delete(channel.identity.node);
    this.#context.log('channel ended', { peer: this.#context.nameOf(channel.identity.node), code: error.code, reason: error.message });
    if (channel.channel.violation !== null) this.#blame(channel, channel.channel.violation);
    this.#context.onChange();
  }

  #blame({ identity: { node }, verified }: PeerChannel, { code }: SelvedgeError): void {
    const names = [node, ...(verified === null ? [] : [toHex(verified.fingerprint)])];
    const ms = this.#penalties.blame(names, this.#context.timers.clock.now());
    if (ms > 0) this.#context.log('peer held off', { peer: this.#context.nameOf(node), code, again_in_ms: ms });
  }

  // ---- Mesh

  open(node: string, cls: TrafficClass, kind: FlowKind, service: string): FlowHandle {
    const channel = this.#find(node);
    if (channel === 'unknown') throw new SelvedgeError('not_found', { what: 'node', name: node });
    const state = channel?.channel.state ?? 'idle';
    if (!channel?.isUsable || ['idle', 'connecting', 'handshaking', 'authenticating', 'authorizing'].includes(state)) {
      const why = this.#linkOf(node)?.lastError?.message ?? `channel is ${state}`;
      throw new SelvedgeError('not_connected', { peer: node, why });
    }
    return channel.carrier.open(cls, kind, service);
  }

  #linkOf(node: string): PeerLink | undefined {
    return this.#links.get(node) ?? [...this.#links.values()].find((link) => link.candidate.name === node);
  }

  #find(node: string): PeerChannel | null | 'unknown' {
    const link = this.#linkOf(node);
    if (link?.channel) return link.channel;
    const accepted = this.#accepted.get(node) ?? [...this.#accepted.values()].find((channel) => this.#context.nameOf(channel.identity.node) === node);
    if (accepted) return accepted;
    return link ? null : 'unknown';
  }

  /** Whether a session carries a channel with this node now. */
  reaches(node: string): boolean {
    const channel = (this.#links.get(node)?.channel ?? this.#accepted.get(node))?.channel;
    return channel !== undefined && channel.currentKey !== null && !channel.hasEnded;
  }

  handle(service: string, accept: (flow: FlowHandle) => void): void {
    this.#services.set(service, accept);
  }

  status(): ChannelStatus[] {
    const wall = this.#context.timers.clock.wall();
    const dialed = [...this.#links.values()].map((link) => this.#linkStatus(link, wall));
    const accepted = [...this.#accepted.values()].map((channel) => channel.status(this.#context.nameOf(channel.identity.node), wall));
    return [...dialed, ...accepted].sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  /** All of the channel with a node, by id or name. @throws not_found */
  show(node: string): ChannelDetail {
    const channel = this.#find(node);
    const link = this.#linkOf(node);
    const status = this.status().find(({ peer, name }) => peer === node || name === node);
    if (channel === 'unknown' || status === undefined) throw new SelvedgeError('not_found', { what: 'channel with node', name: node });
    const { directory, trust, routes = 0 } = this.#context.versions();
    const backoff = link === undefined || link.attempts === 0 ? null : { attempts: link.attempts, next_ms: link.next_ms };
    return { ...status, ...(channel === null ? noChannel : detailOf(channel)), versions: { directory, trust, routes }, backoff };
  }

  #linkStatus(link: PeerLink, wall: number): ChannelStatus {
    const { candidate, lastError } = link;
    const last_error = lastError === null ? null : { code: lastError.code, message: lastError.message };
    if (link.channel) return { ...link.channel.status(candidate.name, wall), last_error };
    return {
      peer: candidate.identity.node,
      name: candidate.name,
      site: candidate.identity.site,
      side: 'dialer',
      state: lastError ? 'failed' : 'idle',
      since_ms: null,
      suspect: false,
      transport: null,
      why: link.why,
      remote: null,
      rtt_ms: null,
      rtt_min_ms: null,
      loss_part: null,
      heartbeat_rtt_ms: null,
      heartbeat_jitter_ms: null,
      heartbeat_loss_part: null,
      mtu_bytes: null,
      classes: [],
      bytes_sent: 0,
      bytes_received: 0,
      certificate_days: null,
      reconnects: link.attempts,
      last_error,
      governor: null,
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#drain.close();
    for (const link of this.#links.values()) link.close('shutting_down', 'the daemon stops');
    for (const channel of [...this.#accepted.values()]) channel.close('shutting_down', 'the daemon stops');
    for (const session of [...this.#greeting.keys()]) session.close('shutting_down', 'the daemon stops');
    this.#links.clear();
    this.#accepted.clear();
  }
}
