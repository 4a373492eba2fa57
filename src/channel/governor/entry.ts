/**
 * Taking charge in mid-flow. Bulk that ran ungoverned has filled the path's queue, and has hidden the path's base delay with it. So
 * bulk shrinks to a trickle, whose packets show the queue falling, until the delay falls no more. What the full queue delivered
 * meanwhile is the capacity, exactly.
 */
import type { BulkReport } from './receiver.ts';
import { stampDifference, stampOf } from './stamp.ts';

/** One packet in this time, to see the delay. */
const TRICKLE_MS = 15;
const FLAT_MS = 3 * TRICKLE_MS;
const FLAT_SAMPLES = 3;
/** A fall smaller than this is noise. */
const FALL_MS = 0.5;
/** Deeper queues than this are left to the law. */
const ENTRY_MS_MAX = 3_000;
/** A shorter look than this at the backlog's delivery is no measurement. */
const MEASURED_MS_MIN = 30;

export class EntryDrain {
  readonly #start: number;
  readonly #start_stamp_us: number;
  #lowest_ms = Number.POSITIVE_INFINITY;
  #lowest_at = 0;
  #samples = 0;
  #first: BulkReport | null = null;
  #last: BulkReport | null = null;

  constructor(now: number) {
    this.#start = now;
    this.#start_stamp_us = stampOf(now);
  }

  /** Bytes per ms while this lasts. */
  static trickle(packet_bytes: number): number {
    return packet_bytes / TRICKLE_MS;
  }

  /** The backlog's delivery: frames that left before the drain began. */
  onReport(report: BulkReport): void {
    if (this.isOfTrickle(report)) return;
    this.#first ??= report;
    this.#last = report;
  }

  /** A delay, of a packet that left after the drain began or not; of one signal only, the best there is. */
  onDelay(now: number, delay_ms: number, ofTrickle: boolean): void {
    if (!ofTrickle) return;
    this.#samples++;
    if (delay_ms >= this.#lowest_ms - FALL_MS) return;
    this.#lowest_ms = delay_ms;
    this.#lowest_at = now;
  }

  /** Its last frame left after the drain began. */
  isOfTrickle(report: BulkReport): boolean {
    return stampDifference(report.stamp_us, this.#start_stamp_us) >= 0;
  }

  /** A packet that left `rtt_ms` ago. */
  isSince(now: number, rtt_ms: number): boolean {
    return now - rtt_ms >= this.#start;
  }

  /** The queue is gone: known to be, or the delay falls no more. */
  isOver(now: number, queueIsShort: boolean): boolean {
    if (now - this.#start >= ENTRY_MS_MAX) return true;
    if (this.#samples === 0) return false;
    return queueIsShort || (this.#samples >= FLAT_SAMPLES && now - this.#lowest_at >= FLAT_MS);
  }

  /** Bytes per ms that the full queue delivered; null if it was too short to tell. */
  get capacity(): number | null {
    if (this.#first === null || this.#last === null) return null;
    const elapsed_ms = stampDifference(this.#last.clock_us, this.#first.clock_us) / 1000;
    return elapsed_ms < MEASURED_MS_MIN ? null : (this.#last.bytes - this.#first.bytes) / elapsed_ms;
  }
}
