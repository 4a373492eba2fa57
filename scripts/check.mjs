/** The checks that need no build: `npm run check`. Types (twice: everything, and the pure folders without node), style and layers, dead code. */
import { show } from './terminal.mjs';

const checks = [
  ['types', 'tsc', ['--noEmit']],
  ['types of the pure folders', 'tsc', ['--noEmit', '--project', 'tsconfig.pure.json']],
  ['lint and format', 'biome', ['ci', '--config-path=biome.json', '--error-on-warnings', ...(process.stdout.isTTY ? [] : ['--colors=off']), '.']],
  ['dead code', 'knip', ['--no-progress']],
];

/** @returns {Promise<string[]>} the names of those that failed; each has printed why */
export async function runChecks() {
  const failed = [];
  for (const [name, command, args] of checks) {
    const started = performance.now();
    const code = await show(command, args, { env: process.env });
    process.stdout.write(
      `check: ${name}: ${code === 0 ? 'ok' : `FAILED (${command} ended with ${code})`} (${((performance.now() - started) / 1000).toFixed(1)} s)\n`,
    );
    if (code !== 0) failed.push(name);
  }
  return failed;
}

if (process.argv[1] === import.meta.filename && (await runChecks()).length > 0) process.exitCode = 1;
