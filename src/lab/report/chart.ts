/**
 * One run over time: the round trip of input above, the rate of the file below, marks across both. Curves are stretched to the page's width;
 * every text is HTML on top of them, so that it stays readable on a phone. Pure.
 */
import { percentile } from '../measure.ts';
import type { TraceRun } from '../trace.ts';
import { escapeHtml, short } from './html.ts';

/** Units of a curve's picture; it is stretched, so only its fineness matters. */
const WIDTH = 1000;
const HEIGHT = 300;
/** Echoes further apart than this are not joined by a line: nothing was measured in between. */
const JOIN_MS = 1_000;
/** Labels of marks are set in this many rows, so that near ones do not lie on each other. */
const LABEL_ROWS = 3;

export interface ChartScale {
  readonly rtt_ms: number;
  readonly mbit: number;
}

/** The scale that holds all of `runs`: charts beside each other are compared by eye. */
export function scaleOf(runs: readonly TraceRun[]): ChartScale {
  const rtt = runs.flatMap((run) => run.input.map((sample) => sample.rtt_ms));
  return { rtt_ms: niceAbove(percentile(rtt, 0.999) || 1), mbit: niceAbove(Math.max(1, ...runs.map((run) => run.line_mbit)) * 1.05) };
}

export function timeChart(run: TraceRun, scale: ChartScale): string {
  const x = (at_ms: number) => (at_ms / run.end_ms) * WIDTH;
  const lane = (most: number, unit: string, curve: string, label: string, style: string) => `
    <div class="lane ${style}">
      <div class="scale">${ticks(most)
        .map((tick) => `<span style="bottom:${short((tick / most) * 100)}%">${tick}</span>`)
        .join('')}<em>${unit}</em></div>
      <div class="field">
        <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${escapeHtml(label)}">
          ${ticks(most)
            .map((tick) => `<line class="grid" x1="0" x2="${WIDTH}" y1="${short(y(tick, most))}" y2="${short(y(tick, most))}"/>`)
            .join('')}
          ${bands(run, x)}${curve}${run.marks.map((mark) => `<line class="mark" x1="${short(x(mark.at_ms))}" x2="${short(x(mark.at_ms))}" y1="0" y2="${HEIGHT}"/>`).join('')}
        </svg>
      </div>
    </div>`;
  const seconds = ticks(run.end_ms / 1000);
  return `
  <figure class="chart">
    <figcaption><strong>${escapeHtml(run.title)}</strong><span>${summary(run)}</span></figcaption>
    <div class="marks" style="height:${Math.min(run.marks.length, LABEL_ROWS) * 1.25 + 1.6}em">${run.marks.map((mark, index) => `<span style="left:${short((mark.at_ms / run.end_ms) * 100)}%;top:${(index % LABEL_ROWS) * 1.25}em">${escapeHtml(mark.label)}</span>`).join('')}</div>
    ${lane(scale.rtt_ms, 'ms', inputCurve(run, x, scale.rtt_ms), `${run.title}: round trip of input over time`, 'input')}
    ${lane(scale.mbit, 'Mbit/s', bulkCurve(run, x, scale.mbit), `${run.title}: rate of the file over time`, 'bulk')}
    <div class="time">${seconds.map((tick) => `<span style="left:${short((tick / (run.end_ms / 1000)) * 100)}%">${tick}</span>`).join('')}<em>s</em></div>
  </figure>`;
}

function inputCurve(run: TraceRun, x: (at_ms: number) => number, most: number): string {
  let path = '';
  let before = Number.NEGATIVE_INFINITY;
  for (const sample of run.input) {
    path += `${sample.at_ms - before > JOIN_MS ? 'M' : 'L'}${short(x(sample.at_ms))} ${short(y(Math.min(sample.rtt_ms, most), most))}`;
    before = sample.at_ms;
  }
  return `<path class="curve" d="${path}"/>`;
}

function bulkCurve(run: TraceRun, x: (at_ms: number) => number, most: number): string {
  const line = `<line class="line" x1="0" x2="${WIDTH}" y1="${short(y(run.line_mbit, most))}" y2="${short(y(run.line_mbit, most))}"/>`;
  const [first] = run.bulk;
  const last = run.bulk.at(-1);
  if (!first || !last) return line;
  const path = run.bulk.map((point) => `L${short(x(point.at_ms))} ${short(y(Math.min(point.mbit, most), most))}`).join('');
  return `${line}<path class="curve" d="M${short(x(first.at_ms))} ${HEIGHT}${path}L${short(x(last.at_ms))} ${HEIGHT}Z"/>`;
}

/** Where UDP was dropped: from such a mark to the next one. */
function bands(run: TraceRun, x: (at_ms: number) => number): string {
  return run.marks
    .map((mark, index) => {
      const to = run.marks[index + 1]?.at_ms ?? run.end_ms;
      return mark.label === 'UDP dropped'
        ? `<rect class="band" x="${short(x(mark.at_ms))}" width="${short(x(to - mark.at_ms))}" y="0" height="${HEIGHT}"/>`
        : '';
    })
    .join('');
}

function summary(run: TraceRun): string {
  const file = run.marks[0]?.at_ms ?? 0;
  const part = (from: number, to: number) => run.input.filter((sample) => sample.at_ms >= from && sample.at_ms < to).map((sample) => sample.rtt_ms);
  const text = (name: string, values: readonly number[]) =>
    values.length === 0 ? '' : `${name} p50 <b>${short(percentile(values, 0.5))}</b> p99 <b>${short(percentile(values, 0.99))}</b> ms`;
  return [text('idle', part(0, file)), text('then', part(file, Number.POSITIVE_INFINITY))].filter(Boolean).join(' · ');
}

function y(value: number, most: number): number {
  return HEIGHT - (value / most) * HEIGHT;
}

/** Four or five round numbers from 0 up to `most`. */
function ticks(most: number): number[] {
  const step = niceAbove(most / 5);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, index) => Math.round(index * step * 100) / 100);
}

function niceAbove(value: number): number {
  const unit = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * unit >= value) ?? 10) * unit;
}
