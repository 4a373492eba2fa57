/** The report: one self-contained page of a lab's run. Pure. */
import type { Figure, StepOutcome } from '../steps/step.ts';
import { steps } from '../steps/registry.ts';
import { figureText } from '../table.ts';
import type { Topology } from '../topology.ts';
import type { Trace, TraceRun } from '../trace.ts';
import { round } from '../units.ts';
import { type ChartScale, scaleOf, timeChart } from './chart.ts';
import { topologyDiagram } from './diagram.ts';
import { escapeHtml } from './html.ts';
import { style } from './style.ts';

export interface Report {
  readonly topology: Topology;
  readonly outcomes: readonly StepOutcome[];
  readonly trace: Trace;
  readonly run: string;
  readonly at: Date;
}

export function renderReport(report: Report): string {
  const { topology, outcomes, at } = report;
  const held = outcomes.filter((outcome) => outcome.ok).length;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Selvedge lab: ${escapeHtml(topology.name)}</title>
<style>${style}</style>
</head>
<body>
<header><div>
<h1>Selvedge · ${escapeHtml(topology.name)}</h1>
<p>${escapeHtml(topology.about)}</p>
<span class="verdict">${held === outcomes.length ? '✓' : '✗'} ${held} of ${outcomes.length} steps held</span>
</div></header>
<main>
${tiles(outcomes)}
<h2>The network</h2>
<p>Each box is a network namespace with the real programs in it. Dashed lines are real bottlenecks: rate, delay and queue in each direction.</p>
<div class="card">${topologyDiagram(topology)}</div>
${charts(report.trace)}
<h2>Steps</h2>
<p>In the order in which they ran. A step holds only if every figure that it promises does.</p>
<div class="card"><table class="steps">${outcomes.map(row).join('')}</table></div>
<footer>Run ${escapeHtml(report.run)}, ${at.toISOString().slice(0, 16).replace('T', ' ')} UTC. Made by <code>selvedge lab run ${escapeHtml(topology.name)} --once --report FILE.html</code>.</footer>
</main>
</body>
</html>
`;
}

function charts({ runs }: Trace): string {
  const [quic, tcp, before, fallback] = ['qos_quic', 'qos_tcp', 'before', 'fallback'].map((name) => runs.get(name));
  const compared = [before, quic].filter((run) => run !== undefined);
  const alike = scaleOf([...compared, ...(tcp ? [tcp] : [])]);
  return [
    section(
      before ? 'Before and after the governor' : 'Input beside a file',
      'A person types while a file is sent at full speed. Without the governor the bytes stand in the uplink’s queue and every key waits behind them; with it the queue stays empty and the file still gets its line.',
      compared,
      alike,
    ),
    section('The same on TCP', 'Where UDP does not pass, two TCP connections do the work of one QUIC connection.', tcp ? [tcp] : [], alike),
    section(
      'UDP goes, and comes back',
      'In mid-transfer the network begins to drop UDP. The channel goes on over TCP where it stood, and moves back up when UDP passes again.',
      fallback ? [fallback] : [],
      scaleOf(fallback ? [fallback] : []),
    ),
  ].join('');
}

function section(title: string, words: string, runs: readonly TraceRun[], scale: ChartScale): string {
  if (runs.length === 0) return '';
  return `<h2>${escapeHtml(title)}</h2><p>${escapeHtml(words)}</p><div class="pair">${runs.map((run) => `<div class="card">${timeChart(run, scale)}</div>`).join('')}</div>`;
}

function tiles(outcomes: readonly StepOutcome[]): string {
  const figure = (step: string, name: string): number | null => {
    const value = outcomes.find((outcome) => outcome.name === step)?.figures[name];
    return typeof value === 'number' ? value : null;
  };
  const less = (left: number | null, right: number | null) => (left === null || right === null ? null : Math.max(0, round(left - right)));
  const share = (step: string) => {
    const [bulk, line] = [figure(step, 'bulk_mbit'), figure(step, 'line_mbit')];
    return bulk === null || line === null ? null : Math.round((bulk / line) * 100);
  };
  const rows: readonly (readonly [value: number | null, unit: string, words: string])[] = [
    [less(figure('qos_quic', 'loaded_ms_p50'), figure('qos_quic', 'idle_ms_p50')), 'ms', 'added to a key press by a file at full speed, median on QUIC'],
    [less(figure('qos_tcp', 'loaded_ms_p50'), figure('qos_tcp', 'idle_ms_p50')), 'ms', 'the same on TCP'],
    [share('qos_quic'), '%', 'of the line for the file meanwhile'],
    [figure('fallback', 'gap_ms'), 'ms', 'without progress when UDP went away'],
    [figure('fallback', 'lost_bytes'), 'bytes', 'lost on the way'],
    [figure('fallback', 'back_on_quic_ms'), 'ms', 'until back on QUIC'],
  ];
  const shown = rows.filter(([value]) => value !== null);
  return shown.length === 0
    ? ''
    : `<div class="tiles">${shown.map(([value, unit, words]) => `<div class="tile"><b>${value} <small>${unit}</small></b><span>${escapeHtml(words)}</span></div>`).join('')}</div>`;
}

function row(outcome: StepOutcome): string {
  const facts = Object.entries(outcome.figures).map(([name, figure]) => `<span><i>${escapeHtml(name)}</i> ${escapeHtml(plain(figure))}</span>`);
  const failures = outcome.failures.map((failure) => `<small class="missed">did not hold: ${escapeHtml(failure)}</small>`).join('');
  const verdict = outcome.ok ? '<span class="held">✓</span>' : '<span class="missed">✗</span>';
  return `<tr><th>${verdict} ${escapeHtml(outcome.name)}</th><td>${escapeHtml(steps.get(outcome.name)?.about ?? '')}<small>${outcome.seconds} s</small>${failures}</td><td><div class="facts">${facts.join('')}</div></td></tr>`;
}

function plain(figure: Figure): string {
  return figureText(figure).replace(/^\((.*)\)$/, '$1');
}
