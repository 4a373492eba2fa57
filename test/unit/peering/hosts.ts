/** Two hosts, each with its mesh, joined by sessions in memory under one virtual clock: what the tests of peering stand on. */
import { SelvedgeError } from '../../../src/base/errors.ts';
import type { NodeIdentity } from '../../../src/base/ids.ts';
import type { VerifiedPeer } from '../../../src/identity/verify.ts';
import type { MeshDialer } from '../../../src/peering/context.ts';
import { trafficClassNames } from '../../../src/channel/classes.ts';
import { endOf, type Judge, judgeWithoutRules } from '../../../src/policy/judge.ts';
import { noRules, type PolicyRule, type Rules } from '../../../src/policy/rules.ts';
import type { Observatory } from '../../../src/observe/observatory.ts';
import type { Candidate, FlowHandle } from '../../../src/peering/mesh.ts';
import { PeerMesh } from '../../../src/peering/peer-mesh.ts';
import type { Dialed } from '../../../src/transport/dialer.ts';
import { type MemoryPair, memoryPair } from '../../../src/transport/memory.ts';
import type { Session, TransportName } from '../../../src/transport/session.ts';
import type { Timers } from '../../../src/transport/system.ts';
import { Agenda } from '../../../src/lab/sim/agenda.ts';

export const A: NodeIdentity = { cluster: 'c', site: 's', node: 'aaaaaaaaaaaa' };
export const B: NodeIdentity = { cluster: 'c', site: 's', node: 'bbbbbbbbbbbb' };

/** The session as if it were of another transport. */
function posing(session: Session, transport: TransportName): Session {
  return new Proxy(session, {
    get(target, property) {
      if (property === 'transport') return transport;
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

function verified(identity: NodeIdentity): VerifiedPeer {
  return { identity, fingerprint: new Uint8Array(32), spkiHash: new Uint8Array(32), serial: '1', notBefore_ms: 0, notAfter_ms: 30 * 86_400_000 };
}

const beta: Candidate = { identity: B, name: 'beta', endpoints: [{ host: 'b', tcp: 443, udp: 443 }], isDialed: true };

/** Beyond what every test needs. */
export type HostsOptions = Pick<ConstructorParameters<typeof PeerMesh>[0], 'admission'>;

export interface Link extends MemoryPair {
  readonly transport: TransportName;
}

export class Hosts {
  readonly world: Agenda;
  readonly timers: Timers;
  readonly a: PeerMesh;
  b: PeerMesh;
  /** Sessions that were dialed, oldest first. */
  readonly links: Link[] = [];
  readonly log: string[] = [];
  /** What a dial brings: a transport, or why there is none. */
  dialAs: TransportName | SelvedgeError = 'quic';
  /** Whom the dialer finds at the other end, and whom the acceptor finds. */
  identities = { dialer: A, acceptor: B };
  /** QUIC is back: the probe of the dialer succeeds. */
  #probes: (() => void)[] = [];
  dials = 0;
  /** Nodes that nobody lets in any more. */
  readonly revoked = new Set<string>();
  /** What rules say, at each. */
  readonly policies = new Map([A, B].map((self) => [self.node, judgeWithoutRules(self, trafficClassNames)]));
  /** What each has heard of rules, and what whoever was ruled last expects of the other. */
  readonly epochs = { of: new Map<string, number>(), expected: 0 };
  /** How a certificate is judged that was not revoked, at each look. */
  certificateOf: (identity: NodeIdentity) => VerifiedPeer = verified;
  /** Who watches A. */
  #seen: Observatory | null = null;
  /** Hosts that begin no new channel. */
  readonly isClosedToNew = new Set<string>();

  readonly #options: HostsOptions;

  constructor(seed = 1, options: HostsOptions = {}) {
    this.#options = options;
    this.world = new Agenda(seed);
    this.timers = {
      clock: { now: () => this.world.now, wall: () => 1_000_000 + this.world.now },
      after: (delay_ms, action) => this.world.at(this.world.now + delay_ms, action),
    };
    this.a = this.#mesh(A);
    this.b = this.#mesh(B);
  }

  #mesh(self: NodeIdentity): PeerMesh {
    const dialer: MeshDialer = {
      dial: async () => {
        this.dials++;
        if (this.dialAs instanceof SelvedgeError) throw this.dialAs;
        return this.#connect(this.dialAs, self);
      },
      probe: (_candidate, signal) =>
        new Promise((resolve, reject) => {
          signal.addEventListener('abort', () => reject(new SelvedgeError('session_closed', { why: 'given up' })), { once: true });
          this.#probes.push(() => resolve(this.#connect('quic', self)));
        }),
      noteSilent: () => {},
    };
    return new PeerMesh({
      self,
      timers: this.timers,
      random: this.world.random,
      dialer,
      judge: (session) => this.#judged(this.#twins.get(session) ?? this.identities.dialer),
      judgeAgain: (peer) => void this.#judged(peer),
      mayBegin: (peer) => (this.isClosedToNew.has(self.node) ? new SelvedgeError('policy_denied', { why: 'test' }) : this.policyOf(self).begin(peer)),
      policy: this.policyOf(self),
      versions: () => ({ directory: 1, trust: 1, routes: this.epochs.of.get(self.node) ?? 0 }),
      nameOf: (node) => (node === A.node ? 'alpha' : 'beta'),
      isGoverned: false,
      ...this.#options,
      log: (message, facts) => {
        this.log.push(`${self.node[0]}: ${message} ${JSON.stringify(facts)}`);
        if (self === A) this.#seen?.listen(() => {})(message, facts);
      },
      observer: {
        moved: (channel, move) => void (self === A && this.#seen?.moved(channel, move)),
        carried: (channel, transport, mode) => void (self === A && this.#seen?.carried(channel, transport, mode)),
      },
      onChange: () => {},
    });
  }

  /** A's log and channels are heard from now on. */
  watch(seen: Observatory): void {
    this.#seen = seen;
  }

  policyOf(self: NodeIdentity): Judge {
    const policy = this.policies.get(self.node) ?? judgeWithoutRules(self, trafficClassNames);
    this.policies.set(self.node, policy);
    return policy;
  }

  /** One of the hosts, or both, hear of rules. */
  rule(rules: Partial<Rules>, selves: readonly NodeIdentity[] = [A, B]): void {
    for (const self of selves) {
      this.policyOf(self).follow({ self: endOf(self), peer: endOf, epochOf: () => this.epochs.expected, rules: { ...noRules, ...rules }, degraded: false });
      this[self === A ? 'a' : 'b'].revalidate();
    }
  }

  #judged(identity: NodeIdentity): VerifiedPeer {
    if (this.revoked.has(identity.node)) throw new SelvedgeError('certificate_revoked', { peer: identity.node, why: 'test' });
    return this.certificateOf(identity);
  }

  #connect(transport: TransportName, dialer: NodeIdentity): Dialed {
    const schedule = (action: () => void): void => void this.world.at(this.world.now + 5, action);
    const pair = memoryPair({ sources: transport === 'tcp' ? 'lanes' : 'streams', timers: this.timers, schedule });
    this.links.push({ ...pair, transport });
    const acceptor = posing(pair.acceptor, transport);
    if (dialer !== A) this.#twins.set(acceptor, dialer);
    this.world.at(this.world.now + 1, () => this.b.accept(acceptor));
    return { session: posing(pair.dialer, transport), peer: this.#judged(this.identities.acceptor), why: transport };
  }

  /** UDP passes again. */
  quicIsBack(): void {
    for (const probe of this.#probes.splice(0)) probe();
  }

  get isProbing(): boolean {
    return this.#probes.length > 0;
  }

  /** The acceptor's process dies and another takes its place: it knows nothing. */
  async restartB(): Promise<void> {
    const before = this.b;
    for (const link of this.links) link.cut();
    this.b = this.#mesh(B);
    await before.close();
  }

  connect(): void {
    this.a.setCandidates([beta]);
  }

  readonly #twins = new Map<Session, NodeIdentity>();

  /** Another host: with the disk of A, or of another node. */
  twin({ node = A.node }: { readonly node?: string } = {}): PeerMesh {
    const twin = this.#mesh(node === A.node ? A : { ...A, node });
    twin.setCandidates([beta]);
    return twin;
  }

  /** Lets `ms` pass, and whatever waits for promises between events. */
  async run(ms: number): Promise<void> {
    const until = this.world.now + ms;
    for (;;) {
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      const next = this.world.nextAt;
      if (next === null || next > until) break;
      this.world.runUntil(next);
    }
    this.world.runUntil(until);
  }

  async until(isSo: () => boolean, ms = 10_000): Promise<boolean> {
    for (const end = this.world.now + ms; this.world.now < end && !isSo(); ) await this.run(5);
    return isSo();
  }

  get state(): string {
    return this.a.status()[0]?.state ?? 'none';
  }

  get liveSessions(): number {
    return this.links.filter((link) => !link.dialer.isClosed || !link.acceptor.isClosed).length;
  }

  /** Closes everything and lists what is left. */
  async close(): Promise<string[]> {
    // Probes that nobody asked for any more end with their signal.
    void this.a.close();
    void this.b.close();
    await this.run(30_000);
    const left: string[] = [];
    if (this.liveSessions > 0) left.push(`${this.liveSessions} sessions`);
    if (this.world.planned > 0) left.push(`${this.world.planned} timers`);
    return left;
  }
}

export const policy = (name: string, more: Partial<PolicyRule> = {}): PolicyRule => ({
  name,
  priority: 100,
  effect: 'allow',
  from: {},
  to: {},
  classes: null,
  services: null,
  degraded: false,
  ...more,
});

/** Sends back what comes, and ends when the other does. */
export async function echo(flow: FlowHandle): Promise<void> {
  while (await flow.readable()) {
    for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) if (!flow.write(bytes)) await flow.drained();
  }
  flow.end();
}

/** Writes all, ends, and counts what comes back right. */
export async function converse(flow: FlowHandle, size: number): Promise<{ received: number; isRight: boolean }> {
  const write = async (): Promise<void> => {
    for (let at = 0; at < size; ) {
      const length = Math.min(size - at, 7_000);
      const bytes = new Uint8Array(length);
      for (let index = 0; index < length; index++) bytes[index] = (at + index) % 251;
      at += length;
      if (!flow.write(bytes)) await flow.drained();
    }
    flow.end();
  };
  const writing = write();
  let received = 0;
  let isRight = true;
  while (await flow.readable()) {
    for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) for (const octet of bytes) isRight &&= octet === received++ % 251;
  }
  await writing;
  return { received, isRight };
}
