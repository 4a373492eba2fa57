/** Running commands and telling how it goes, for scripts that run on a plain Node 20 without packages. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';

/** Lines of a failed command's output that are shown. */
const TAIL_LINES_MAX = 60;

/** Something that the user has to provide, said in full: shown without a stack. */
export class Missing extends Error {}

/** PATH, and where rustup and Debian put what an ordinary shell may not have on it. */
const searchPath = [...(process.env.PATH ?? '').split(delimiter), join(homedir(), '.cargo/bin'), '/usr/local/sbin', '/usr/sbin', '/sbin'].filter(Boolean);

/** The environment for child processes: ours, with that longer PATH. */
export const environment = { ...process.env, PATH: [...new Set(searchPath)].join(delimiter) };

/** Full path of a program, or null. */
export function findProgram(name) {
  for (const folder of searchPath) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

/**
 * Runs a command to its end. Its output is kept back: `onLine` sees every line, and a failure shows the last of them. Nothing is
 * read from stdin.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, onLine?: (line: string) => void }} options
 * @returns {Promise<string>} what it wrote to stdout
 */
export async function run(command, args, options = {}) {
  const child = spawn(command, args, { cwd: options.cwd, env: options.env ?? environment, stdio: ['ignore', 'pipe', 'pipe'] });
  const tail = [];
  const output = [];
  const hear = (stream, keep) =>
    createInterface({ input: stream }).on('line', (line) => {
      if (keep) output.push(line);
      tail.push(line);
      if (tail.length > TAIL_LINES_MAX) tail.shift();
      options.onLine?.(line);
    });
  hear(child.stdout, true);
  hear(child.stderr, false);
  const code = await new Promise((resolve, reject) => child.once('error', reject).once('close', (status, signal) => resolve(status ?? signal)));
  if (code !== 0) throw new Error(`\`${command} ${args.join(' ')}\` ended with ${code}:\n${tail.join('\n')}`);
  return output.join('\n');
}

/** Runs a command whose output goes straight to the terminal. @returns {Promise<number>} its exit code */
export async function show(command, args, options = {}) {
  const child = spawn(command, args, { env: environment, stdio: ['ignore', 'inherit', 'inherit'], ...options });
  return new Promise((resolve, reject) => child.once('error', reject).once('close', (status) => resolve(status ?? 1)));
}

/** Tells the progress of one step: lines where output is kept (CI), one line that is rewritten on a terminal. */
export function reporter(name) {
  const started = performance.now();
  const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
  const live = process.stdout.isTTY === true;
  const write = (text) => process.stdout.write(live ? `\r\x1b[2K  ${name.padEnd(16)} ${text}` : `  ${name.padEnd(16)} ${text}\n`);
  let told = -Infinity;
  return {
    start: (text) => write(`${text} …`),
    /** At most one line in 20 s where lines are kept. */
    progress(text) {
      if (!live && performance.now() - told < 20_000) return;
      told = performance.now();
      write(`${text}, ${seconds()} s`);
    },
    done(text) {
      write(`${text} (${seconds()} s)`);
      if (live) process.stdout.write('\n');
    },
    failed() {
      if (live) process.stdout.write('\n');
    },
  };
}
