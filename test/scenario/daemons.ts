/** The programs themselves, as processes of a test: what they say, and how they end. None outlives its test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

export const programFile = (name: string): string => fileURLToPath(new URL(`../../daemon/${name}.ts`, import.meta.url));

export interface Run {
  readonly child: ChildProcess;
  readonly said: { text: string };
  /** Rejects where it ends before. */
  until(word: string): Promise<void>;
  ended(): Promise<number | null>;
}

export interface RunOptions {
  readonly nodeArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts `tower`, `selvedge` or `selvedged`. */
export function daemons(t: Test): (name: string, args: readonly string[], options?: RunOptions) => Run {
  const running = new Set<ChildProcess>();
  t.teardown(() => {
    for (const child of running) child.kill('SIGKILL');
  });
  return (name, args, { nodeArgs = [], env = {} } = {}) => {
    const child = spawn(process.execPath, [...nodeArgs, programFile(name), ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    running.add(child);
    const said = { text: '' };
    let look = (): void => {};
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said.text += text;
        look();
      });
    }
    const exit = once(child, 'close').then(([code]) => {
      running.delete(child);
      return code as number | null;
    });
    return {
      child,
      said,
      until: (word) =>
        new Promise((resolve, reject) => {
          look = () => said.text.includes(word) && resolve();
          look();
          void exit.then((code) => reject(new Error(`ended with ${code} before it said "${word}": ${said.text}`)));
        }),
      ended: () => exit,
    };
  };
}
