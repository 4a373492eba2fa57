/** The receiving end of the governor: counts what bulk frames bring and tells the sender every 64 KiB or 10 ms, not closer than 2 ms. It decides nothing. */
import { stampDifference, stampOf } from './stamp.ts';

const REPORT_BYTES = 64 * 1024;
const REPORT_MS = 10;
/** On fast paths 64 KiB come more often than anyone needs to hear of them. */
const REPORT_MS_MIN = 2;

/** The acknowledgement of bulk frames. Clocks are u32 µs and wrap; the offset between the two ends' clocks is unknown. */
export interface BulkReport {
  /** Consumed in all, on this session. */
  readonly bytes: number;
  /** Receiver's clock when the last of them came. */
  readonly clock_us: number;
  /** Smallest of (receiver's clock - stamp) since the last report. */
  readonly owd_min_us: number;
  /** Stamp of the last frame, by the sender's clock. */
  readonly stamp_us: number;
  /** How long that frame had been here when the report left. */
  readonly held_us: number;
}

export class GovernorReceiver {
  #bytes = 0;
  #reported_bytes = 0;
  #reported_at = Number.NEGATIVE_INFINITY;
  #last_at = 0;
  #stamp_us = 0;
  #owd_min_us: number | null = null;

  /** A bulk frame came, or was consumed: whichever the session counts, always the same. */
  onBulkFrame(now: number, stamp_us: number, bytes: number): void {
    const owd_us = (stampOf(now) - stamp_us) >>> 0;
    if (this.#owd_min_us === null || stampDifference(owd_us, this.#owd_min_us) < 0) this.#owd_min_us = owd_us;
    this.#bytes += bytes;
    this.#last_at = now;
    this.#stamp_us = stamp_us;
  }

  /** The report that is due now, once. */
  pollReport(now: number): BulkReport | null {
    const due = this.nextTime(now);
    if (due === null || due > now || this.#owd_min_us === null) return null;
    const report = {
      bytes: this.#bytes,
      clock_us: stampOf(this.#last_at),
      owd_min_us: this.#owd_min_us,
      stamp_us: this.#stamp_us,
      held_us: Math.max(0, Math.round((now - this.#last_at) * 1000)),
    };
    this.#reported_bytes = this.#bytes;
    this.#reported_at = now;
    this.#owd_min_us = null;
    return report;
  }

  /** When a report is due; null while there is nothing to tell. */
  nextTime(now: number): number | null {
    if (this.#owd_min_us === null) return null;
    const spacing = this.#bytes - this.#reported_bytes >= REPORT_BYTES ? REPORT_MS_MIN : REPORT_MS;
    return Math.max(now, this.#reported_at + spacing);
  }
}
