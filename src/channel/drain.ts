/**
 * Draining (spec 9.2): which of a channel's ends empties itself, what is refused meanwhile, and what the peer has yet to be told. While an end drains, only
 * flows that keep the mesh together begin; those that are there go on. Told by the hello, by a frame of its own, and by each heartbeat, so that no loss of a
 * session hides it. Time comes with each call, milliseconds.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { classRow, type TrafficClass } from './classes.ts';
import { encodeControl } from './frame-encoder.ts';

export class Draining {
  readonly #self: string;
  readonly #peer: string;
  /** When what is left here may be ended; null: this end does not drain. */
  #deadline: number | null = null;
  #isPeers = false;
  #owesWord = false;

  constructor(self: string, peer: string) {
    this.#self = self;
    this.#peer = peer;
  }

  get isOwn(): boolean {
    return this.#deadline !== null;
  }

  get isPeers(): boolean {
    return this.#isPeers;
  }

  get isAny(): boolean {
    return this.isOwn || this.#isPeers;
  }

  begin(deadline: number): void {
    this.#deadline = deadline;
    this.#owesWord = true;
  }

  end(): void {
    this.#owesWord ||= this.isOwn;
    this.#deadline = null;
  }

  /** What the peer says of itself. True if that is news. */
  heard(isDraining: boolean): boolean {
    const isNews = this.#isPeers !== isDraining;
    this.#isPeers = isDraining;
    return isNews;
  }

  /** A word that was under way may be lost with its session. */
  sessionReplaced(): void {
    this.#owesWord ||= this.isOwn;
  }

  /** The frame that tells the peer, once for each change. */
  takeWord(now: number): Uint8Array | null {
    if (!this.#owesWord) return null;
    this.#owesWord = false;
    const left_ms = this.#deadline === null ? 0 : Math.max(0, Math.round(this.#deadline - now));
    return encodeControl({ type: 'drain', draining: this.isOwn, left_ms: Math.min(left_ms, limits.drain_ms_max) });
  }

  /**
   * Why no flow of this class begins now; null: it may. What the peer opens is held to this end's draining alone: it knows best whether it still drains, and its
   * word may come behind the flow's opening.
   */
  objection(cls: TrafficClass, opener: 'self' | 'peer'): SelvedgeError | null {
    if (classRow(cls).essential === true) return null;
    if (this.isOwn) return new SelvedgeError('peer_draining', { peer: this.#self });
    return this.#isPeers && opener === 'self' ? new SelvedgeError('peer_draining', { peer: this.#peer }) : null;
  }
}
