/** Memory of carried packets: what the far end may still ask for is never written over, and what it holds follows what is under way. */
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { CarryMemory } from '../../../src/overlay/carry-memory.ts';

t.test('what was not consumed stays as it was, whatever is read and consumed when', async (t) => {
  const step = fc.record({
    bytes: fc.integer({ min: 1, max: 64 * 1024 }),
    part: fc.double({ min: 0, max: 1, noNaN: true }),
    consumed: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const memory = new CarryMemory();
      const kept: { bytes: Uint8Array; mark: number; end: number }[] = [];
      let written = 0;
      let consumed = 0;
      for (const [index, { bytes, part, consumed: share }] of steps.entries()) {
        const room = memory.room();
        if (room.length === 0) return false;
        const read = room.subarray(0, Math.min(bytes, room.length));
        const mark = (index % 255) + 1;
        read.fill(mark);
        const through = read.subarray(0, Math.floor(read.length * part));
        written += through.length;
        kept.push({ bytes: through, mark, end: written });
        memory.took(read, written);
        consumed += Math.floor((written - consumed) * share);
        memory.free(consumed);
        for (const piece of kept) if (piece.end > consumed && piece.bytes.some((octet) => octet !== piece.mark)) return false;
      }
      return true;
    }),
    { numRuns: 60 },
  );
  t.pass();
});

t.test('a path that is consumed as fast as it is filled runs in a few blocks', async (t) => {
  const memory = new CarryMemory();
  const blocks = new Set<ArrayBufferLike>();
  let written = 0;
  for (let turn = 0; turn < 1_000; turn++) {
    const read = memory.room().subarray(0, 64 * 1024);
    blocks.add(read.buffer);
    written += read.length;
    memory.took(read, written);
    memory.free(written - 4 * limits.carry_block_bytes);
  }
  t.ok(blocks.size <= 7, `${blocks.size} blocks`);
  t.ok(memory.held <= 5);
});

t.test('a far end that consumes nothing while all is dropped costs one block', async (t) => {
  const memory = new CarryMemory();
  memory.took(memory.room().subarray(0, 1_000), 1_000);
  for (let turn = 0; turn < 10_000; turn++) {
    memory.took(memory.room().subarray(0, 64 * 1024), null);
    memory.free(0);
  }
  t.equal(memory.held, 0);
});

t.test('memory of somebody else is not counted', async (t) => {
  const memory = new CarryMemory();
  const before = memory.room().length;
  memory.took(new Uint8Array(1_000), 1_000);
  t.equal(memory.room().length, before);
});
