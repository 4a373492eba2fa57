/** What the tests of the boundary share: a process that ends in the middle of a transfer, and byte strings as the addon takes them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const PROGRAM = fileURLToPath(new URL('./exit-in-transfer.ts', import.meta.url));

/** However the process ends, it ends as JavaScript said: no crash, no hang. */
export function testEndings(t: Test, ...transport: readonly string[]): void {
  for (const ending of ['process.exit(7)', 'process.kill(process.pid, "SIGTERM")', 'throw new Error("on purpose")']) {
    t.test(`a process that ends by ${ending} in the middle of a transfer ends as it should`, async (t) => {
      const child = spawn(process.execPath, [PROGRAM, ending, ...transport], { stdio: ['ignore', 'ignore', 'pipe'] });
      const errors: Buffer[] = [];
      child.stderr.on('data', (chunk) => errors.push(chunk));
      const [code, signal] = await once(child, 'close');
      if (ending.startsWith('process.exit')) t.equal(code, 7, Buffer.concat(errors).toString());
      else if (ending.startsWith('process.kill')) t.equal(signal, 'SIGTERM');
      else t.match(Buffer.concat(errors).toString(), /on purpose/) && t.equal(code, 1);
    });
  }
}

/** Each behind its length, 32 bits big-endian. */
export function packed(blocks: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    blocks.flatMap((block) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(block.length);
      return [length, block];
    }),
  );
}
