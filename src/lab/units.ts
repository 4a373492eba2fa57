/** Rates, times, sizes and shares as a person writes them in a topology. Pure; null for what is not one of them. */

const BITS: Readonly<Record<string, number>> = { bit: 1, kbit: 1e3, Mbit: 1e6, Gbit: 1e9 };
const MICROSECONDS: Readonly<Record<string, number>> = { us: 1, ms: 1e3, s: 1e6 };
const BYTES: Readonly<Record<string, number>> = { B: 1, kB: 1e3, MB: 1e6, KiB: 1024, MiB: 1024 * 1024 };

export const RATE_FORM = 'a rate such as 50 Mbit/s (bit, kbit, Mbit, Gbit per s), up to 10 Gbit/s';
export const TIME_FORM = 'a time such as 20 ms (us, ms, s), up to 10 s';
export const QUEUE_FORM = 'a time such as 200 ms (up to 10 s) or a size such as 256 KiB (B, kB, MB, KiB, MiB, up to 64 MiB)';
export const LOSS_FORM = 'a share such as 0.5 %, from 0 % to 100 %';

const RATE_BPS_MAX = 10e9;
const TIME_US_MAX = 10e6;
const QUEUE_BYTES_MAX = 64 * 1024 * 1024;

/** A queue as it was asked for: as the time that it takes to empty, or as bytes. */
export type QueueLength = { readonly ms: number } | { readonly bytes: number };

export function parseRate(text: string): number | null {
  return within(number(text.endsWith('/s') ? text.slice(0, -2) : 'none', BITS), 1, RATE_BPS_MAX);
}

/** Microseconds. */
export function parseTime(text: string): number | null {
  return within(number(text, MICROSECONDS), 0, TIME_US_MAX);
}

export function parseQueue(text: string): QueueLength | null {
  const time_us = parseTime(text);
  if (time_us !== null) return { ms: time_us / 1000 };
  const bytes = within(number(text, BYTES), 1, QUEUE_BYTES_MAX);
  return bytes === null ? null : { bytes };
}

/** Frames of a million. */
export function parseLoss(text: string): number | null {
  return within(number(text, { '%': 1e4 }), 0, 1e6);
}

/** Bytes that `queue` is at `rate_bps`; a queue given as a time needs a rate, without one nothing ever waits. */
export function queueBytes(queue: QueueLength, rate_bps: number | null): number {
  if ('bytes' in queue) return queue.bytes;
  return Math.min(QUEUE_BYTES_MAX, Math.max(1, Math.round(((rate_bps ?? RATE_BPS_MAX) * queue.ms) / 8000)));
}

export function formatRate(rate_bps: number): string {
  for (const unit of ['Gbit', 'Mbit', 'kbit'] as const) {
    const size = BITS[unit] as number;
    if (rate_bps >= size) return `${round(rate_bps / size)} ${unit}/s`;
  }
  return `${round(rate_bps)} bit/s`;
}

export function formatQueue(queue: QueueLength): string {
  return 'ms' in queue ? `${round(queue.ms)} ms` : `${round(queue.bytes / 1024)} KiB`;
}

export function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}

function number(text: string, units: Readonly<Record<string, number>>): number | null {
  const match = /^(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z%]+)$/.exec(text);
  const unit = match?.[2] !== undefined && Object.hasOwn(units, match[2]) ? units[match[2]] : undefined;
  return match && unit !== undefined ? Math.round(Number(match[1]) * unit) : null;
}

function within(value: number | null, least: number, most: number): number | null {
  return value !== null && value >= least && value <= most ? value : null;
}
