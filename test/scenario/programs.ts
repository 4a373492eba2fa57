/** The programs themselves, as processes of the test's own, by what they log. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const program = (name: string): string => fileURLToPath(new URL(`../../daemon/${name}.ts`, import.meta.url));

export interface Run {
  readonly child: ChildProcess;
  readonly lines: Record<string, unknown>[];
  said: string;
  /** The first line with this message. */
  until(message: string): Promise<Record<string, unknown>>;
  readonly ended: Promise<number | null>;
}

export interface Programs {
  run(name: string, args: readonly string[]): Run;
  /** `selvedge ARGS --json`: the last line that it printed. Throws, with all that it said, where it fails. */
  cli(...args: string[]): Promise<Record<string, unknown>>;
  kill(it: Run): Promise<void>;
  /** Makes a cluster `test` with a key file; the fingerprint of its root. */
  initTower(state: string, keyFile: string): Promise<string>;
}

/** What still runs when the test is over is killed. */
export function programs(t: Pick<Test, 'teardown'>): Programs {
  const running = new Set<ChildProcess>();
  t.teardown(() => {
    for (const child of running) child.kill('SIGKILL');
  });

  function run(name: string, args: readonly string[]): Run {
    const child = spawn(process.execPath, [program(name), ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH } });
    running.add(child);
    let rest = '';
    let look = (): void => {};
    const ended = once(child, 'close').then(([code]) => {
      running.delete(child);
      return code as number | null;
    });
    const it: Run = {
      child,
      lines: [],
      said: '',
      ended,
      until: (message) =>
        new Promise((resolve, reject) => {
          look = () => {
            const found = it.lines.find((line) => line.msg === message);
            if (found) resolve(found);
          };
          look();
          void ended.then((code) => reject(new Error(`ended with ${code} before it said "${message}": ${it.said}`)));
        }),
    };
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        it.said += text;
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) if (line.startsWith('{')) it.lines.push(JSON.parse(line) as Record<string, unknown>);
        look();
      });
    }
    return it;
  }

  async function cli(...args: string[]): Promise<Record<string, unknown>> {
    const it = run('selvedge', [...args, '--json']);
    if ((await it.ended) !== 0) throw new Error(it.said);
    return it.lines.at(-1) ?? {};
  }

  async function kill({ child, ended }: Run): Promise<void> {
    child.kill('SIGKILL');
    await ended;
  }

  async function initTower(state: string, keyFile: string): Promise<string> {
    const it = run('tower', ['init', '--cluster', 'test', '--state', state, '--json', '--key-file', keyFile]);
    if ((await it.ended) !== 0) throw new Error(it.said);
    const { fingerprint } = JSON.parse(it.said) as { fingerprint: string };
    return fingerprint;
  }

  return { run, cli, kill, initTower };
}
