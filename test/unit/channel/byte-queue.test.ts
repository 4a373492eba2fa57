/** The queue of a flow's octets: whatever is pushed and however it is read, the same octets come out, once, in order. */
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { ByteQueue } from '../../../src/channel/byte-queue.ts';

type Step = { readonly push: number } | { readonly takeInto: number } | 'take';

const length = fc.oneof(fc.nat(100), fc.nat(3 * limits.receive_slab_bytes), fc.constantFrom(0, 4096, 8192, limits.receive_slab_bytes));
const step: fc.Arbitrary<Step> = fc.oneof(
  length.map((push) => ({ push })),
  length.map((takeInto) => ({ takeInto })),
  fc.constant('take' as const),
);

t.test('what comes out is what went in, though the arrays that it came in are used again at once', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const queue = new ByteQueue();
      const kept: { readonly bytes: Uint8Array; readonly from: number }[] = [];
      let pushed = 0;
      let taken = 0;
      const isRight = (bytes: Uint8Array, from: number): boolean => bytes.every((octet, index) => octet === (from + index) % 251);
      for (const each of steps) {
        if (each === 'take') {
          const bytes = queue.take();
          if (bytes === null) {
            if (pushed !== taken) return false;
            continue;
          }
          kept.push({ bytes, from: taken });
          taken += bytes.length;
        } else if ('push' in each) {
          const bytes = Uint8Array.from({ length: each.push }, (_, index) => (pushed + index) % 251);
          queue.push(bytes);
          bytes.fill(255);
          pushed += bytes.length;
        } else {
          const into = new Uint8Array(each.takeInto);
          const count = queue.takeInto(into);
          if (count !== Math.min(into.length, pushed - taken) || !isRight(into.subarray(0, count), taken)) return false;
          taken += count;
        }
        if (queue.length !== pushed - taken) return false;
      }
      // What was taken for good is never written to again.
      return kept.every(({ bytes, from }) => isRight(bytes, from));
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test('a copying reader that keeps up is served from the same slab again and again', (t) => {
  const queue = new ByteQueue();
  const into = new Uint8Array(limits.receive_slab_bytes);
  const piece = new Uint8Array(limits.receive_slab_bytes / 4);
  queue.takeInto(into);
  const before = process.memoryUsage().arrayBuffers;
  for (let count = 0; count < 4_000; count++) {
    queue.push(piece);
    queue.takeInto(into);
  }
  t.ok(process.memoryUsage().arrayBuffers - before <= 2 * limits.receive_slab_bytes);
  t.end();
});
