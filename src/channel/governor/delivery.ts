/** Delivery rate: bytes over time, both as the far side of the path saw them, over at least a given span. */

/** Points kept per span: enough that the span is exact within 3 %, whatever the rate of acknowledgements. */
const POINTS_PER_SPAN = 32;

interface Point {
  readonly time: number;
  readonly bytes: number;
  readonly withheld: number;
}

/** Bytes per ms. */
export interface Delivery {
  readonly rate: number;
  /** What would have come if the sender had used all of its credit. */
  readonly rate_if_used: number;
}

export class DeliveryRate {
  readonly #points: Point[] = [];

  /**
   * Over the shortest known time of at least `span` ms up to this point; null while too little is known. `withheld`: bytes in all that the
   * sender could have sent by the time it sent these, and did not.
   */
  add(time: number, bytes: number, withheld: number, span_ms: number): Delivery | null {
    const points = this.#points;
    while (points.length > 1 && time - (points[1] as Point).time >= span_ms) points.shift();
    const last = points[points.length - 1];
    if (last === undefined || time - last.time >= span_ms / POINTS_PER_SPAN) points.push({ time, bytes, withheld });
    const first = points[0] as Point;
    const elapsed = time - first.time;
    if (elapsed < span_ms) return null;
    return { rate: (bytes - first.bytes) / elapsed, rate_if_used: (bytes - first.bytes + withheld - first.withheld) / elapsed };
  }

  /** What came before says nothing about what comes now. */
  clear(): void {
    this.#points.length = 0;
  }
}

export function slowerOf(left: Delivery, right: Delivery | null): Delivery {
  if (right === null) return left;
  return { rate: Math.min(left.rate, right.rate), rate_if_used: Math.min(left.rate_if_used, right.rate_if_used) };
}
