/**
 * `npm test`: the checks, the tests of the native parts, then every test/**\/*.test.ts under tap. With file names as arguments only those files.
 * All of it runs even when an early part fails. The last line is tap's own totals, `N passed, N failed`, alone; the exit code is
 * 0 only when every part passed and there were tests.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { runChecks } from './check.mjs';
import { parts, root } from './native.mjs';

const chosen = process.argv.slice(2);
const failedParts = [];

if (chosen.length === 0) {
  failedParts.push(...(await runChecks()));
  failedParts.push(...(await nativeTests()));
}
const files = chosen.length > 0 ? chosen : globSync('test/**/*.test.ts', { cwd: root }).sort();
const totals = await tapTests(files);

if (failedParts.length > 0) process.stdout.write(`\nfailed before the tests: ${failedParts.join(', ')}\n`);
if (totals.todo + totals.skipped > 0) process.stdout.write(`\n${totals.skipped} skipped, ${totals.todo} to do\n`);
if (totals.passed + totals.failed === 0) process.stdout.write('\nno test ran: that is a failure\n');
process.stdout.write(`\n${totals.passed} passed, ${totals.failed} failed\n`);
process.exitCode = failedParts.length > 0 || totals.code !== 0 || totals.passed + totals.failed === 0 ? 1 : 0;

/** Each part's own tests, by its own toolchain. */
async function nativeTests() {
  const failed = [];
  for (const part of parts) {
    const { folder, name, toolchain } = part;
    const there = (await toolchain.version(folder)) !== null;
    const code = there ? await toolchain.test(part) : 1;
    const verdict = there ? (code === 0 ? 'ok' : `FAILED (ended with ${code})`) : `no ${toolchain.language} here (prebuilt natives): its tests did not run`;
    process.stdout.write(`native/${name}: ${verdict}\n`);
    if (code !== 0) failed.push(`native/${name}`);
  }
  return failed;
}

/** Runs tap; a line for each file as it ends, and in full what failed in it. */
async function tapTests(paths) {
  const totals = { passed: 0, failed: 0, todo: 0, skipped: 0, code: 1 };
  if (paths.length === 0) return totals;
  // Hundreds of programs start: what was compiled once is kept (daemon/compile-cache.ts).
  const env = { ...process.env, NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/selvedge') };
  const child = spawn('tap', ['--reporter=tap', '--no-color', ...paths], { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve, reject) => child.once('error', reject).once('close', (code) => resolve(code ?? 1)));
  let failures = [];
  let inFailure = false;
  for await (const line of createInterface({ input: child.stdout })) {
    const result = /^(\s*)(not ok|ok) \d+(?: - (.*))?$/.exec(line);
    if (result !== null) {
      const [, indent, verdict, name = ''] = result;
      inFailure = verdict === 'not ok' && !/ # (TODO|SKIP)\b/.test(name);
      if (indent === '') {
        process.stdout.write(`${verdict === 'ok' ? 'ok  ' : 'FAIL'} ${name.replace(/ # time=/, '  ')}\n`);
        if (verdict !== 'ok') process.stdout.write(failures.length > 0 ? `${failures.join('\n')}\n` : '');
        failures = [];
        // The diagnostics that follow the file's own line say how its process ended.
      }
    } else if (/^\s*(1\.\.\d+|# )/.test(line)) inFailure = false;
    if (inFailure) {
      if (result !== null && result[1] === '') continue;
      if (/^ {2}\S/.test(line) || line === '  ...') process.stdout.write(/^ {2}(exitCode|signal|timeout|error)/.test(line) ? `${line}\n` : '');
      else failures.push(line);
    }
    const summary = /^# \{ total: \d+(.*)\}$/.exec(line);
    if (summary !== null) {
      const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary[1])?.[1] ?? 0);
      Object.assign(totals, { passed: count('pass'), failed: count('fail'), todo: count('todo'), skipped: count('skip') });
    }
  }
  totals.code = await ended;
  return totals;
}
