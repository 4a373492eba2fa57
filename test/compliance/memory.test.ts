/** The in-process session keeps every promise of the interface, with sources by lane and by flow. */
import t from 'tap';
import { type MemoryOptions, memoryPair } from '../../src/transport/memory.ts';
import { sessionSuite } from './session.ts';

const dialerChain = [Uint8Array.of(1, 2, 3), Uint8Array.of(4)];
const acceptorChain = [Uint8Array.of(5, 6)];

function* tiny(bytes: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 3) yield bytes.subarray(at, at + 3);
}

/** As the simulator has them: things are under way for a while, and sources overtake each other. */
let turn = 0;
const slow: Partial<MemoryOptions> = { transit: ({ kind }) => (kind === 'datagram' ? 1 : turn++ % 4) };

for (const [sources, path] of [
  ['lanes', {}],
  ['streams', {}],
  ['lanes', slow],
  ['streams', slow],
] as const) {
  await t.test(`by ${sources}${path === slow ? ', each thing under way for a while' : ''}`, (t) =>
    sessionSuite(t, {
      name: 'memory',
      datagrams: true,
      hostile: true,
      async pair(options = {}) {
        const memory: MemoryOptions = { sources, dialerChain, acceptorChain, ...path };
        const pair = memoryPair({
          ...memory,
          ...(options.handshake_ms === undefined ? {} : { handshake_ms: options.handshake_ms }),
          ...(options.hostile ? { split: tiny } : {}),
        });
        return { dialer: pair.dialer, acceptor: pair.acceptor, dialerChain, acceptorChain, sever: () => pair.cut(), close: async () => {} };
      },
    }),
  );
}
