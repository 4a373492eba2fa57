/** Delivery rate: bytes over time, both as the far side of the path saw them, over at least a given span. */

/** Points kept per span: enough that the span is exact within 3 %, whatever the rate of acknowledgements. */
const POINTS_PER_SPAN = 32;

interface Point {
  readonly time: number;
  readonly bytes: number;
}

export class DeliveryRate {
  readonly #points: Point[] = [];

  /** Bytes per ms over the shortest known time of at least `span` ms up to this point; null while too little is known. */
  add(time: number, bytes: number, span_ms: number): number | null {
    const points = this.#points;
    while (points.length > 1 && time - (points[1] as Point).time >= span_ms) points.shift();
    const last = points[points.length - 1];
    if (last === undefined || time - last.time >= span_ms / POINTS_PER_SPAN) points.push({ time, bytes });
    const first = points[0] as Point;
    return time - first.time < span_ms ? null : (bytes - first.bytes) / (time - first.time);
  }

  /** What came before says nothing about what comes now. */
  clear(): void {
    this.#points.length = 0;
  }
}
