/** The in-process session keeps every promise of the interface, with sources by lane and by flow. */
import t from 'tap';
import { type MemoryOptions, memoryPair } from '../../src/transport/memory.ts';
import { sessionSuite } from './session.ts';

const dialerChain = [Uint8Array.of(1, 2, 3), Uint8Array.of(4)];
const acceptorChain = [Uint8Array.of(5, 6)];

function* tiny(bytes: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 3) yield bytes.subarray(at, at + 3);
}

for (const sources of ['lanes', 'streams'] as const) {
  await t.test(`by ${sources}`, (t) =>
    sessionSuite(t, {
      name: 'memory',
      datagrams: true,
      hostile: true,
      async pair(options = {}) {
        const memory: MemoryOptions = { sources, dialerChain, acceptorChain };
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
