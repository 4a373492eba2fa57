/**
 * The seam to whatever carries sealed packets between two hosts where UDP does not get through: it joins the tunnel's carry socket to a flow of class `vpn_packet`
 * (docs/wire-format.md), by the channel between the two, or through the tower.
 */
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
  /** Packets that found no room on the way out. */
  readonly dropped: number;
}

export interface PacketCarrier {
  /** Whom packets may be carried to and taken from. The ways of all others end. */
  follow(nodes: ReadonlySet<string>): void;
  /** By which route packets could be carried to this node now; null: by none. */
  routeTo(node: string): CarryRoute | null;
  /** What this end says about a peer. While it wants a way, one is kept open; one that neither end wants is ended. */
  say(node: string, word: CarryWord): void;
  /** Null: no way is open. */
  stateOf(node: string): CarriedState | null;
  /** Hears of a way that was opened or lost, and of the peers' words. */
  onChange(listener: () => void): void;
  /** The channels as they are now: a better route than the one in use is taken. */
  channelsAre(channels: readonly ChannelFacts[]): void;
  close(): void;
}
