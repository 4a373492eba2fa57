/**
 * One host's place in the mesh, ready to use: credentials, the chain decision, dialers of both transports, the listener, and the channel
 * table over them. Node and tower differ in what they give it, not in how it works.
 */
import type { TLSSocket } from 'node:tls';
import type { SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';
import { trafficClassNames } from '../channel/classes.ts';
import type { KnownPast } from '../identity/clock-evidence.ts';
import { type RecordedFingerprint, type VerifiedPeer, verifyPeer } from '../identity/verify.ts';
import { type Judge, judgeWithoutRules } from '../policy/judge.ts';
import { Dialer } from '../transport/dialer.ts';
import { type Listener, listen, type ServerCertificate } from '../transport/listener.ts';
import { listenQuic, QuicTransport } from '../transport/quic.ts';
import type { Credentials, Session, Transport } from '../transport/session.ts';
import { systemRandom, systemTimers, type Timers } from '../transport/system.ts';
import { TcpTransport } from '../transport/tcp.ts';
import type { AdmissionRate } from './admission.ts';
import { loopHealth } from './health.ts';
import type { MeshContext } from './context.ts';
import type { Candidate } from './mesh.ts';
import type { ChannelObserver } from './observer.ts';
import { PeerMesh } from './peer-mesh.ts';

export interface HostOptions {
  readonly self: NodeIdentity;
  /** Asked at each dial and each look, so that what has changed counts from then on. */
  readonly credentials: () => Credentials;
  /** DER: what new sessions are judged by. */
  readonly roots: () => readonly Uint8Array[];
  /** DER: what channels that are there are judged by; as `roots`, unless told. */
  readonly liveRoots?: () => readonly Uint8Array[];
  readonly recordedFingerprint: (identity: NodeIdentity) => RecordedFingerprint;
  /** Absent: what holds without any rule. */
  readonly policy?: Judge;
  /** A time that has passed for sure, by what this host holds: it tells a clock that is behind from another. */
  readonly knownPast?: () => KnownPast;
  /** Whether a new channel with this peer may begin now, as far as rules let it; null: it may. */
  readonly mayBegin?: (peer: NodeIdentity) => SelvedgeError | null;
  readonly versions: MeshContext['versions'];
  readonly nameOf: (node: string) => string;
  /** Null: a host that only dials. */
  readonly listen: { readonly host: string; readonly tcpPort: number; readonly udpPort: number | null } | null;
  /** Somebody who dialed has proved to be this peer. */
  readonly onPeer?: (peer: VerifiedPeer) => void;
  /** What HTTP is shown that does not ask for the cluster's certificate; absent or null: `credentials`. The caller closes it. */
  readonly server?: ServerCertificate | null;
  readonly onHttp: ((socket: TLSSocket) => void) | null;
  readonly statelessResetKey?: Uint8Array;
  readonly isGoverned: boolean;
  /** What time it is here; this machine's, unless told. */
  readonly timers?: Timers;
  /** What it dials over; QUIC and TCP of this machine, unless told. The caller closes them. */
  readonly transports?: { readonly quic: Transport; readonly tcp: Transport };
  /** How many others may have a channel with this host. */
  readonly children?: () => number;
  /** How many new channels begin here in a second; as usual, unless told. */
  readonly admission?: AdmissionRate;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
  readonly observer?: ChannelObserver;
  readonly onChange: () => void;
}

export class Host {
  readonly mesh: PeerMesh;
  readonly #options: HostOptions;
  readonly #quic: QuicTransport;
  readonly #tcp: TcpTransport;
  #listener: Listener | null = null;

  private constructor(options: HostOptions, mesh: PeerMesh, quic: QuicTransport, tcp: TcpTransport) {
    this.#options = options;
    this.mesh = mesh;
    this.#quic = quic;
    this.#tcp = tcp;
  }

  /** Listens, if it shall; dials once it is given candidates. @throws port_in_use, permission_denied */
  static async start(options: HostOptions): Promise<Host> {
    const quic = new QuicTransport();
    const tcp = new TcpTransport();
    const policy = options.policy ?? judgeWithoutRules(options.self, trafficClassNames);
    const { timers = systemTimers, transports = { quic, tcp } } = options;
    const dialer = new Dialer({ transports, timers, random: systemRandom });
    const mesh = new PeerMesh({
      self: options.self,
      timers,
      random: systemRandom,
      dialer: {
        dial: (candidate, signal, hasBulk) => dialer.dial(destinationOf(candidate), options.credentials(), judgeDialed(options, candidate), signal, hasBulk),
        probe: (candidate, signal) => dialer.probe(destinationOf(candidate), options.credentials(), judgeDialed(options, candidate), signal),
        noteSilent: (candidate, transport) => dialer.noteSilent(destinationOf(candidate), transport),
      },
      judge: (session) => {
        const peer = judge(options, session, 'client');
        options.onPeer?.(peer);
        return peer;
      },
      judgeAgain: (peer, peerChain, usage) => void judge({ ...lenient(options), roots: options.liveRoots ?? options.roots }, { peerChain }, usage, peer),
      isOutdated: (peer, peerChain, usage) => !passes(lenient(options), { peerChain }, usage, peer),
      mayBegin: (peer) => options.mayBegin?.(peer) ?? policy.begin(peer),
      policy,
      versions: options.versions,
      nameOf: options.nameOf,
      isGoverned: options.isGoverned,
      health: loopHealth(timers.clock),
      ...(options.children === undefined ? {} : { children: options.children }),
      ...(options.admission === undefined ? {} : { admission: options.admission }),
      log: options.log,
      ...(options.observer !== undefined && { observer: options.observer }),
      onChange: options.onChange,
    });
    const host = new Host(options, mesh, quic, tcp);
    try {
      if (options.listen) await host.#listen(options, options.listen);
      return host;
    } catch (error) {
      await host.close();
      throw error;
    }
  }

  async #listen(options: HostOptions, at: NonNullable<HostOptions['listen']>): Promise<void> {
    this.#listener = await listen({
      ...at,
      timers: options.timers ?? systemTimers,
      credentials: options.credentials(),
      ...(options.server ? { httpCredentials: options.server.credentials } : {}),
      onSession: (session) => this.mesh.accept(session),
      onHttp: options.onHttp,
      listenQuic,
      ...(options.statelessResetKey === undefined ? {} : { statelessResetKey: options.statelessResetKey }),
    });
    options.server?.watch((credentials) => this.#listener?.setHttpCredentials(credentials));
  }

  /** `credentials` answers with others from now on: new sessions show them, and the channels that this host dialed move over to such. */
  renewed(): Promise<{ readonly moved: number; readonly of: number }> {
    this.#listener?.setCredentials(this.#options.credentials());
    return this.mesh.refresh();
  }

  get listener(): Listener | null {
    return this.#listener;
  }

  async close(): Promise<void> {
    await this.mesh.close();
    await this.#listener?.close();
    await this.#quic.close();
    await this.#tcp.close();
  }
}

function destinationOf(candidate: Candidate) {
  return { key: candidate.identity.node, name: candidate.name, endpoints: candidate.endpoints };
}

function judgeDialed(options: HostOptions, candidate: Candidate): (session: Pick<Session, 'peerChain'>) => VerifiedPeer {
  return (session) => judge(options, session, 'server', candidate.identity);
}

/** For a channel that is there: whether its node is, by whichever leaf. */
function stillThere({ recordedFingerprint }: HostOptions, identity: NodeIdentity): RecordedFingerprint {
  const recorded = recordedFingerprint(identity);
  return typeof recorded === 'string' ? recorded : 'any';
}

function lenient(options: HostOptions): HostOptions {
  return { ...options, recordedFingerprint: (of) => stillThere(options, of) };
}

function passes(...judged: Parameters<typeof judge>): boolean {
  try {
    judge(...judged);
    return true;
  } catch {
    return false;
  }
}

/** The one chain decision, for every transport and both directions. */
function judge(options: HostOptions, session: Pick<Session, 'peerChain'>, usage: 'client' | 'server', expected?: NodeIdentity): VerifiedPeer {
  return verifyPeer({
    chain: session.peerChain,
    roots: options.roots(),
    cluster: options.self.cluster,
    now_ms: (options.timers ?? systemTimers).clock.wall(),
    usage,
    recordedFingerprint: options.recordedFingerprint,
    ...(options.knownPast !== undefined && { knownPast: options.knownPast() }),
    ...(expected === undefined ? {} : { expectedNode: expected.node, expectedSite: expected.site }),
  });
}
