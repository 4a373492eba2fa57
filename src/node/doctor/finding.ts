/** What a check answers with, and how all of them are run: side by side, each within a bound, none of them hidden by another's failure. */
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';

/** `warning`: it works, and somebody should look. `fault`: something does not work, or will not the next time. */
export type Verdict = 'ok' | 'warning' | 'fault';

export interface Finding {
  /** What was looked at, as the docs call it. */
  readonly check: string;
  readonly verdict: Verdict;
  readonly found: string;
  readonly expected: string;
  /** What to do; null where nothing is to be done. */
  readonly remedy: string | null;
}

export interface Check {
  readonly name: string;
  /** What it waits for ends with the signal. */
  run(signal: AbortSignal): Promise<readonly Finding[]>;
}

export function ok(check: string, found: string, expected: string): Finding {
  return { check, verdict: 'ok', found, expected, remedy: null };
}

export function warning(check: string, found: string, expected: string, remedy: string): Finding {
  return { check, verdict: 'warning', found, expected, remedy };
}

export function fault(check: string, found: string, expected: string, remedy: string): Finding {
  return { check, verdict: 'fault', found, expected, remedy };
}

/** A fault that is an error of the table, which knows what to do. */
export function faultOf(check: string, error: unknown, expected: string): Finding {
  const { message, remedy, code } = asSelvedgeError(error, 'internal_error', { what: `check of ${check}` });
  return fault(check, `${message} [${code}]`, expected, remedy);
}

/** All of them; a check that throws, or takes longer than `ms_max`, is a fault of its own. In the order of `checks`. */
export async function examine(checks: readonly Check[], ms_max: number): Promise<Finding[]> {
  return (await Promise.all(checks.map((check) => bounded(check, ms_max)))).flat();
}

async function bounded({ name, run }: Check, ms_max: number): Promise<readonly Finding[]> {
  const controller = new AbortController();
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const error = new SelvedgeError('timeout', { what: `the check of ${name}`, ms: ms_max });
    controller.abort(error);
    late.reject(error);
  }, ms_max);
  try {
    return await Promise.race([run(controller.signal), late.promise]);
  } catch (error) {
    return [faultOf(name, error, 'a check that comes to its end')];
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}
