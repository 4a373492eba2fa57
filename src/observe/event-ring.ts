/** The latest events of a daemon, numbered, in a bounded ring; and who follows them. What is older is gone, and a reader that comes late is told how much. */
import { isErrorCode, remedyOf } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { type EventKind, isField, rowOf } from './vocabulary.ts';

export type Facts = Readonly<Record<string, string | number | boolean | null>>;

/** One event: its number, when, what kind, the message as the log has it, and the log's fields. */
export interface SeenEvent extends Facts {
  /** From 1 since the start of the daemon; none is left out. */
  readonly sequence: number;
  /** Milliseconds since 1970. */
  readonly at_ms: number;
  readonly kind: EventKind;
  readonly msg: string;
}

/** Whether the reader took it; one that did not is let go. */
export type Follower = (event: SeenEvent) => boolean;

export class EventRing {
  readonly #max: number;
  readonly #events: SeenEvent[] = [];
  readonly #followers = new Set<Follower>();
  #next = 0;
  #sequence = 0;
  #letGo = 0;

  constructor(max: number = limits.events_kept_max) {
    this.#max = max;
  }

  add(at_ms: number, msg: string, facts: Facts): SeenEvent {
    const { kind } = rowOf(msg);
    const event = { sequence: ++this.#sequence, at_ms: Math.round(at_ms), kind, msg, ...known(facts) } as SeenEvent;
    this.#events[this.#next] = event;
    this.#next = (this.#next + 1) % this.#max;
    for (const follower of [...this.#followers]) {
      if (follower(event) || !this.#followers.delete(follower)) continue;
      this.#letGo++;
    }
    return event;
  }

  /** Number of the newest; 0: nothing has happened. */
  get last(): number {
    return this.#sequence;
  }

  get kept(): number {
    return this.#events.length;
  }

  /** Followers that were too slow, so far. */
  get letGo(): number {
    return this.#letGo;
  }

  get following(): number {
    return this.#followers.size;
  }

  /** What came after number `since`, oldest first; `missed`: how many of those are not kept any more. */
  since(since: number): { readonly events: readonly SeenEvent[]; readonly missed: number } {
    const all = [...this.#events.slice(this.#next), ...this.#events.slice(0, this.#next)];
    const oldest = all[0]?.sequence ?? this.#sequence + 1;
    // A number from before a restart of the daemon is larger than any: it has missed what nobody can count.
    const from = since > this.#sequence ? 0 : since;
    return { events: all.filter(({ sequence }) => sequence > from), missed: Math.max(0, oldest - 1 - from) };
  }

  /** The latest failures that concern a peer, newest first. */
  failuresOf(peer: string, max: number): SeenEvent[] {
    return this.since(0)
      .events.filter((event) => event.peer === peer && event.code !== undefined && event.code !== null)
      .reverse()
      .slice(0, max);
  }

  /** Each event from now on, until it is ended or does not take one. */
  follow(follower: Follower): () => void {
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }
}

/** Fields of the vocabulary alone, each within its bound, and what to do about a code. */
function known(facts: Facts): Facts {
  const kept = Object.entries(facts)
    .filter(([name]) => isField(name))
    .map(([name, value]) => [name, typeof value === 'string' ? value.slice(0, limits.event_field_chars_max) : value]);
  const { code, what } = facts;
  return { ...Object.fromEntries(kept), ...(typeof code === 'string' && isErrorCode(code) && { remedy: remedyOf(code, what) }) };
}
