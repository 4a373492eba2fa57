/** What the rooms of peering are given by the host: identity, time, randomness, and how sessions come about. */
import type { SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';
import type { Random } from '../base/seam.ts';
import type { HealthHint } from '../channel/heartbeat.ts';
import type { VerifiedPeer } from '../identity/verify.ts';
import type { Judge } from '../policy/judge.ts';
import type { Dialed } from '../transport/dialer.ts';
import type { Session, TransportName } from '../transport/session.ts';
import type { Timers } from '../transport/system.ts';
import type { AdmissionRate } from './admission.ts';
import type { Candidate } from './mesh.ts';
import type { ChannelObserver } from './observer.ts';

/** How sessions to a candidate come about; `transport/dialer.ts` behind this host's credentials and verification. */
export interface MeshDialer {
  /** `hasBulk`: bulk waits for the session. */
  dial(candidate: Candidate, signal: AbortSignal, hasBulk?: boolean): Promise<Dialed>;
  /** Keeps trying QUIC until it works; null when the candidate does not offer it. */
  probe(candidate: Candidate, signal: AbortSignal): Promise<Dialed | null>;
  /** The transport in use has gone silent. */
  noteSilent(candidate: Candidate, transport: TransportName): void;
}

export interface MeshContext {
  readonly self: NodeIdentity;
  readonly timers: Timers;
  readonly random: Random;
  readonly dialer: MeshDialer;
  /** The chain decision for a session that was accepted. @throws as verifyPeer */
  readonly judge: (session: Session) => VerifiedPeer;
  /**
   * The chain decision once more, of a peer with which there is a channel: of the chain that it showed, as of now. That another leaf of the same node is
   * recorded since is no objection: the channel follows it in its own time. @throws as verifyPeer
   */
  readonly judgeAgain: (peer: NodeIdentity, chain: readonly Uint8Array[], usage: 'client' | 'server') => void;
  /** Whether a peer with which there is a channel could begin no other with the chain that it showed: it stands on a root that is leaving. Absent: never. */
  readonly isOutdated?: (peer: NodeIdentity, chain: readonly Uint8Array[], usage: 'client' | 'server') => boolean;
  /** Whether a new channel with this peer may begin now; null: it may. Channels that are there are not asked about. */
  readonly mayBegin: (peer: NodeIdentity) => SelvedgeError | null;
  /** What rules say of this host and a peer now: of the channel, and of each flow. */
  readonly policy: Pick<Judge, 'channel' | 'flow' | 'staleness' | 'isDegraded' | 'leavesAt'>;
  /** Of what this host was told: the snapshot, the trust bundle, and (absent: none) the last change of a rule that concerns it. */
  readonly versions: () => { readonly directory: number; readonly trust: number; readonly routes?: number };
  /** Name of a node, for status and log. */
  readonly nameOf: (node: string) => string;
  readonly isGoverned: boolean;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
  /** How this host is, as its heartbeats say; well, unless told. */
  readonly health?: () => HealthHint;
  /** How many others may have a channel with this host. */
  readonly children?: () => number;
  /** How many new channels begin here in a second; as usual, unless told. */
  readonly admission?: AdmissionRate;
  /** Who watches channels; absent: nobody. */
  readonly observer?: ChannelObserver;
  /** The set or state of channels changed. */
  readonly onChange: () => void;
}

/** The same, with what the channel table knows of itself. */
export interface RoomContext extends MeshContext {
  /** This host drains: when what is left may be ended, by its clock; null: it does not. */
  readonly drainsUntil: () => number | null;
  /** Over how long everybody who has a channel with this host should come back when it was away. */
  readonly return_ms: () => number;
}
