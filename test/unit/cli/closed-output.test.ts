/** What reads a command's output may end before it: quietly, as with any program that SIGPIPE ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));

/** Runs it in a pipe of a real shell, which tells the exit codes of both ends. */
async function piped(args: string, reader: string): Promise<{ readonly printed: string; readonly errors: string }> {
  const line = `"$0" "$1" ${args} | ${reader}; echo "codes \${PIPESTATUS[*]}"`;
  const child = spawn('bash', ['-c', line, process.execPath, program], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [printed, errors] = [[] as Buffer[], [] as Buffer[]];
  child.stdout.on('data', (piece: Buffer) => printed.push(piece));
  child.stderr.on('data', (piece: Buffer) => errors.push(piece));
  await once(child, 'close');
  return { printed: Buffer.concat(printed).toString(), errors: Buffer.concat(errors).toString() };
}

t.test('a command whose reader has ended says nothing, and ends as SIGPIPE would have it', async (t) => {
  // `true` ends at once, and the first thing is printed after that.
  for (const args of ['send --help', 'version', 'lab list --json']) t.match(await piped(args, 'true'), { printed: 'codes 141 0\n', errors: '' }, args);
});

t.test('a reader that takes one line gets it', async (t) => {
  const { printed, errors } = await piped('send --help', 'head -1');
  t.match(printed, /^Usage: selvedge send .*\ncodes (0|141) 0\n$/);
  t.equal(errors, '');
});

t.test('why a command failed is still told by its exit code when nobody reads what it says', async (t) => {
  t.match(await piped('nonsense 2>&1', 'true'), { printed: 'codes 2 0\n', errors: '' });
});
