/**
 * `selvedge lab run FILE`: brings a topology up, runs its steps, prints a table, writes JSON and the report page, and stays up with the status of
 * each channel until Ctrl-C unless told otherwise. Whatever happens, the lab is taken down before it returns.
 */
import { writeFile } from 'node:fs/promises';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { Fleet } from './fleet.ts';
import { findTopology } from './list.ts';
import { Lab } from './lab.ts';
import { renderReport } from './report/page.ts';
import { measureWithoutGovernor } from './steps/before.ts';
import { stepSchemas, steps } from './steps/registry.ts';
import type { StepOutcome, World } from './steps/step.ts';
import { figuresText, outcomeTable } from './table.ts';
import { loadTopology, type StepCall, type Topology } from './topology.ts';
import { Trace } from './trace.ts';
import { watchFleet } from './watch.ts';

export interface LabRunOptions {
  /** A file, or the name of one of those that `listLabs` tells. */
  readonly file: string;
  /** Return after the table. */
  readonly once: boolean;
  /** Where to write `{ steps: [{ name, ok, figures }] }`. */
  readonly json?: string;
  /** Where to write the page. */
  readonly report?: string;
  /** Where progress and table go; whole lines. */
  readonly print: (text: string) => void;
  /** Standard output is a terminal: colours, and the status is drawn in place. */
  readonly terminal: boolean;
}

/** Of each daemon's log, shown when a step does not hold. */
const LAST_WORDS_LINES = 4;

/** The exit code: 0 if every step held, 1 if one did not, 130 if it was interrupted before the table. @throws config_invalid, not_found, lab_failed, permission_denied … */
export async function runLab(options: LabRunOptions): Promise<number> {
  const topology = await loadTopology(await findTopology(options.file), stepSchemas);
  const interrupted = new AbortController();
  const interrupt = () => {
    options.print(interrupted.signal.aborted ? 'still taking the lab down' : '\ntaking the lab down');
    interrupted.abort(new SelvedgeError('lab_failed', { why: 'interrupted' }));
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, interrupt);
  try {
    await using lab = await Lab.up(topology, { log: options.print, signal: interrupted.signal });
    // What a step waits for ends with the lab, so the step ends too. A failure is told by the end of this block.
    interrupted.signal.addEventListener('abort', () => void lab.down().catch(() => {}));
    return await runTopology(lab, options, interrupted.signal);
  } catch (error) {
    if (interrupted.signal.aborted) return 130;
    throw error;
  } finally {
    for (const signal of signals) process.off(signal, interrupt);
  }
}

async function runTopology(lab: Lab, options: LabRunOptions, signal: AbortSignal): Promise<number> {
  const trace = new Trace();
  let fleet: Fleet | null = null;
  const world: World = {
    lab,
    fleet: () => {
      fleet ??= new Fleet(lab, signal);
      return fleet;
    },
    trace,
    signal,
    say: (text) => options.print(`    ${text}`),
  };
  const outcomes = await runSteps(lab.topology, world, options);
  if (options.report !== undefined && !signal.aborted) {
    await measureWithoutGovernor(world).catch((error: unknown) => options.print(`    not measured: ${asSelvedgeError(error, 'lab_failed').message}`));
    await writeFile(options.report, renderReport({ topology: lab.topology, outcomes, trace, run: lab.run, at: new Date() }));
    options.print(`report: ${options.report}`);
  }
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify({ topology: lab.topology.name, steps: outcomes }, null, 2)}\n`);
  if (signal.aborted) return 130;
  options.print(`\n${outcomeTable(outcomes, options.terminal)}`);
  if (!options.once) await watchFleet(fleet, options, signal);
  return outcomes.every((outcome) => outcome.ok) ? 0 : 1;
}

/** In order. After one that the others stand on has failed, the rest is not run, and says so. */
async function runSteps(topology: Topology, world: World, options: LabRunOptions): Promise<StepOutcome[]> {
  const outcomes: StepOutcome[] = [];
  let broken: string | null = null;
  for (const call of topology.steps) {
    if (world.signal.aborted) break;
    const outcome: StepOutcome =
      broken === null
        ? await runStep(call, world, options)
        : { name: call.name, ok: false, figures: {}, failures: [`not run, since ${broken} did not hold`], seconds: 0 };
    outcomes.push(outcome);
    if (!outcome.ok && broken === null) await tellLastWords(world, options);
    if (!outcome.ok && steps.get(call.name)?.essential) broken ??= call.name;
  }
  return outcomes;
}

/** What the daemons logged last: the run's directory goes with the run. */
async function tellLastWords(world: World, options: LabRunOptions): Promise<void> {
  const lines = await Promise.resolve()
    .then(() => world.fleet().lastWords(LAST_WORDS_LINES))
    .catch(() => []);
  for (const line of lines) options.print(`    ${line}`);
}

async function runStep(call: StepCall, world: World, options: LabRunOptions): Promise<StepOutcome> {
  const step = steps.get(call.name);
  if (!step) throw new SelvedgeError('not_found', { what: 'step', name: call.name });
  options.print(`\n▸ ${step.name}: ${step.about}`);
  const started = performance.now();
  const result = await step
    .run(world, call.parameters)
    .catch((error: unknown) => ({ ok: false, figures: {}, failures: [asSelvedgeError(error, 'lab_failed').message] }));
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  for (const failure of result.failures) options.print(`    did not hold: ${failure}`);
  options.print(`  ${result.ok ? '✓' : '✗'} ${step.name} (${seconds} s) ${figuresText(result.figures)}`);
  return { name: step.name, ...result, seconds };
}
