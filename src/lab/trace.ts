/** What the report page draws: samples over time, by run, with marks. A run's time starts at 0. */
import type { Progress, RttSample } from './measure.ts';

export interface TraceRun {
  readonly node: string;
  readonly title: string;
  readonly line_mbit: number;
  readonly input: readonly RttSample[];
  /** Mbit/s over time. */
  readonly bulk: readonly { readonly at_ms: number; readonly mbit: number }[];
  readonly marks: readonly { readonly at_ms: number; readonly label: string }[];
  readonly end_ms: number;
}

export interface RawRun {
  readonly node: string;
  readonly title: string;
  readonly line_mbit: number;
  readonly input: readonly RttSample[];
  readonly progress: readonly Progress[];
  readonly marks: readonly { readonly at_ms: number; readonly label: string }[];
  readonly start_ms: number;
  readonly end_ms: number;
}

/** Over which a rate is averaged: two of it are about a queue of 200 ms. */
const RATE_WINDOW_MS = 100;

export class Trace {
  readonly runs = new Map<string, TraceRun>();

  add(name: string, raw: RawRun): void {
    const from = raw.start_ms;
    const within = (at_ms: number) => at_ms >= from && at_ms <= raw.end_ms;
    this.runs.set(name, {
      node: raw.node,
      title: raw.title,
      line_mbit: raw.line_mbit,
      input: raw.input.filter((sample) => within(sample.at_ms)).map((sample) => ({ ...sample, at_ms: sample.at_ms - from })),
      bulk: rates(raw.progress, from, raw.end_ms),
      marks: raw.marks.map((mark) => ({ ...mark, at_ms: mark.at_ms - from })),
      end_ms: raw.end_ms - from,
    });
  }
}

function rates(progress: readonly Progress[], from_ms: number, to_ms: number): TraceRun['bulk'] {
  const out: { at_ms: number; mbit: number }[] = [];
  let index = 0;
  let before = 0;
  let bytes = 0;
  for (let at = from_ms; at <= to_ms; at += RATE_WINDOW_MS) {
    for (let entry = progress[index]; entry && entry.at_ms <= at; entry = progress[++index]) bytes = entry.bytes;
    if (at > from_ms) out.push({ at_ms: at - from_ms, mbit: ((bytes - before) * 8) / 1000 / RATE_WINDOW_MS });
    before = bytes;
  }
  return out;
}
