/** What a step is, and what it is given. */
import type { Static, TSchema } from 'typebox';
import type { Fleet } from '../fleet.ts';
import type { Lab } from '../lab.ts';
import type { Trace } from '../trace.ts';

/** A number or text, or these by name (a figure of each node). */
export type Figure = number | string | boolean | null | { readonly [name: string]: Figure };

export interface StepResult {
  readonly ok: boolean;
  readonly figures: Readonly<Record<string, Figure>>;
  /** What did not hold, in words; empty when ok. */
  readonly failures: readonly string[];
}

export interface StepOutcome extends StepResult {
  readonly name: string;
  readonly seconds: number;
}

export interface World {
  readonly lab: Lab;
  /** Made when a step first asks, since not every topology runs Selvedge. @throws lab_failed */
  readonly fleet: () => Fleet;
  readonly trace: Trace;
  readonly signal: AbortSignal;
  /** A line of progress, as it happens. */
  readonly say: (text: string) => void;
}

export interface Step {
  readonly name: string;
  readonly about: string;
  readonly parameters: TSchema;
  /** The steps after it stand on it: if it does not hold, they are not run. */
  readonly essential: boolean;
  run(world: World, parameters: Readonly<Record<string, unknown>>): Promise<StepResult>;
}

/** A step whose parameters have the type of its schema; they were checked when the topology was read. */
export function defineStep<T extends TSchema>(
  name: string,
  about: string,
  parameters: T,
  run: (world: World, parameters: Static<T>) => Promise<StepResult>,
  { essential = false }: { readonly essential?: boolean } = {},
): Step {
  return { name, about, parameters, essential, run: (world, given) => run(world, given as Static<T>) };
}

/** `checks`: what must hold, in words, and whether it did. */
export function judge(figures: Readonly<Record<string, Figure>>, checks: readonly (readonly [what: string, held: boolean])[]): StepResult {
  const failures = checks.filter(([, held]) => !held).map(([what]) => what);
  return { ok: failures.length === 0, figures, failures };
}
