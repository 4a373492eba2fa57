/**
 * The seam to whatever carries sealed packets between two hosts where UDP does not get through: it joins the tunnel's carry socket to a flow of class `vpn_packet`
 * (docs/wire-format.md), by the channel between the two, or through the tower.
 */
import type { SelvedgeError } from '../base/errors.ts';
import type { CarryWord } from '../transport/carry/frames.ts';

/** Of a channel, what tells something about the way to its peer. */
export interface ChannelFacts {
  readonly peer: string;
  readonly state: string;
  readonly transport: string | null;
  /** Its session is silent, or missing. */
  readonly suspect: boolean;
}

export type CarryRoute = 'channel' | 'tower';

/** A way that is open. */
export interface CarriedState {
  readonly route: CarryRoute;
  /** What the peer said last; null: nothing yet. */
  readonly peer: CarryWord | null;
}

export interface PacketCarrier {
  /** Whom packets may be carried to and taken from, with each snapshot: the ways of all others end, and what rules denied before may be allowed now. */
  follow(nodes: ReadonlySet<string>): void;
  /** By which route packets could be carried to this node now; null: by none, or rules have just denied it (`denialOf`). */
  routeTo(node: string): CarryRoute | null;
  /** What this end says about a peer. While it wants a way, one is kept open; one that neither end wants is ended. */
  say(node: string, word: CarryWord): void;
  /** Null: no way is open. */
  stateOf(node: string): CarriedState | null;
  /** Why rules let no packets be carried to this node (`channel_class_denied`), by their last word; null: they were not asked, or do. */
  denialOf(node: string): SelvedgeError | null;
  /** Packets to this node that found no room on the way out, since it was first carried to. */
  droppedTo(node: string): number;
  /** Hears of a way that was opened or lost, and of the peers' words. */
  onChange(listener: () => void): void;
  /** The channels as they are now: a better route than the one in use is taken. */
  channelsAre(channels: readonly ChannelFacts[]): void;
  close(): void;
}
