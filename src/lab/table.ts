/** Outcomes and channels as text for a terminal. Pure. */
import type { ChannelStatus } from './fleet.ts';
import type { Figure, StepOutcome } from './steps/step.ts';

const RED = '\u001b[31m';
const GREEN = '\u001b[32m';
const PLAIN = '\u001b[0m';

export function outcomeTable(outcomes: readonly StepOutcome[], colours: boolean): string {
  const paint = (text: string, colour: string) => (colours ? `${colour}${text}${PLAIN}` : text);
  const rows = outcomes.map((outcome) => [
    outcome.name,
    outcome.ok ? 'yes' : 'NO',
    `${outcome.seconds} s`,
    figuresText(outcome.figures) || outcome.failures.join('; '),
  ]);
  const lines = columns([['step', 'held', 'took', 'figures'], ...rows]);
  const [head = '', ...body] = lines;
  const painted = body.map((line, index) => paint(line, outcomes[index]?.ok ? GREEN : RED));
  const held = outcomes.filter((outcome) => outcome.ok).length;
  return [head, '-'.repeat(Math.min(head.length + 20, 80)), ...painted, '', `${held} of ${outcomes.length} steps held`].join('\n');
}

export function channelTable(channels: readonly (ChannelStatus & { readonly node: string })[]): string {
  const rows = channels.map((channel) => [
    channel.node,
    channel.name,
    channel.state,
    channel.transport ?? '-',
    channel.why,
    channel.rtt_ms === null ? '-' : `${channel.rtt_ms.toFixed(1)} ms`,
    channel.classes.join(' ') || '-',
    `${megabytes(channel.bytes_sent)} / ${megabytes(channel.bytes_received)}`,
    channel.certificate_days === null ? '-' : `${Math.floor(channel.certificate_days)} d`,
  ]);
  return columns([['node', 'peer', 'state', 'on', 'why', 'rtt', 'classes', 'MB out / in', 'certificate'], ...rows]).join('\n');
}

/** `a 1 · b (x 2, y 3)`. */
export function figuresText(figures: Readonly<Record<string, Figure>>): string {
  return Object.entries(figures)
    .map(([name, figure]) => `${name} ${figureText(figure)}`)
    .join(' · ');
}

export function figureText(figure: Figure): string {
  if (figure === null) return '-';
  if (typeof figure === 'object') {
    return `(${Object.entries(figure)
      .map(([name, inner]) => `${name} ${figureText(inner)}`)
      .join(', ')})`;
  }
  return String(figure);
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
