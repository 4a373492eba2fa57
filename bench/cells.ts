/** The lines that `grid.ts` measures: a cover of rate × delay × queue × loss in which each value meets each rate or nearly so, not their whole product. */

export interface Cell {
  readonly number: number;
  readonly rate_mbit: number;
  /** One way. */
  readonly delay_ms: number;
  /** Tail drop; so long at the line's rate. */
  readonly queue_ms: number;
  readonly loss_part: number;
  /** A foreign TCP flow joins in the middle. */
  readonly hasForeign: boolean;
}

/** Rate, delay, queue, loss in per cent, each way. A queue of 10 ms at 1 Mbit/s would hold no packet. */
const lines: readonly (readonly [rate_mbit: number, delay_ms: number, queue_ms: number, loss: number, hasForeign?: true])[] = [
  [1, 20, 200, 0],
  [1, 1, 1_000, 2],
  [1, 300, 1_000, 0],
  [10, 1, 200, 0],
  [10, 20, 10, 0],
  [10, 100, 1_000, 0.5],
  [10, 300, 200, 0],
  [50, 20, 200, 0],
  [50, 20, 200, 1],
  [50, 20, 1_000, 2],
  [50, 1, 10, 0.5],
  [50, 100, 200, 0],
  [50, 300, 1_000, 0],
  [50, 20, 200, 0, true],
  [200, 1, 200, 0],
  [200, 20, 10, 0],
  [200, 100, 200, 0.5],
  [200, 300, 1_000, 0],
  [1_000, 1, 10, 0],
  [1_000, 20, 200, 0],
  [1_000, 100, 200, 2],
];

export const cells: readonly Cell[] = lines.map(([rate_mbit, delay_ms, queue_ms, loss, hasForeign = false], index) => ({
  number: index + 1,
  rate_mbit,
  delay_ms,
  queue_ms,
  loss_part: loss / 100,
  hasForeign,
}));

export function describeCell({ number, rate_mbit, delay_ms, queue_ms, loss_part, hasForeign }: Cell): string {
  const beside = hasForeign ? ', beside TCP' : '';
  return `${String(number).padStart(2)}  ${rate_mbit} Mbit/s, ${delay_ms} ms, queue ${queue_ms} ms, loss ${loss_part * 100} %${beside}`;
}

/**
 * Beside a foreign flow the queue is that one's: only the floor is ours. Under 5 Mbit/s the packet itself is the queue. Where packets are lost, some echoes take a round trip more, with a
 * file or without, and the 99th percentile is about them.
 */
export function isPromised(cell: Cell, added_p50_ms: number, added_p99_ms: number, share_part: number): boolean {
  if (cell.hasForeign) return share_part >= 0.05;
  const packet_ms = cell.rate_mbit < 5 ? (1_400 * 8) / (cell.rate_mbit * 1_000) : 0;
  if (added_p50_ms > 1.5 + 2 * packet_ms) return false;
  return cell.loss_part > 0 ? share_part >= 0.8 : added_p99_ms <= 5 + 3 * packet_ms && share_part >= 0.93;
}
