/** QUIC sessions keep every promise of the interface, over real sockets, on IPv4 and IPv6. */
import t from 'tap';
import { listenQuic, QuicTransport } from '../../src/transport/quic.ts';
import type { Session } from '../../src/transport/session.ts';
import { makeAuthority } from '../fixtures/certs.ts';
import { sessionSuite } from './session.ts';

const authority = await makeAuthority();
const [dialerCredentials, acceptorCredentials] = [await authority.issue({ node: '0000000000aa' }), await authority.issue({ node: '0000000000bb' })];

for (const host of ['127.0.0.1', '::1']) {
  await t.test(`over ${host}`, (t) =>
    sessionSuite(t, {
      name: 'quic',
      datagrams: true,
      hostile: false,
      async pair({ handshake_ms } = {}) {
        const accepted = Promise.withResolvers<Session>();
        const times = handshake_ms === undefined ? {} : { handshake_ms };
        const listener = await listenQuic({ ...times, host, port: 0, credentials: acceptorCredentials, onSession: accepted.resolve });
        const transport = new QuicTransport();
        const dialer = await transport.dial(listener.address, dialerCredentials, new AbortController().signal);
        return {
          dialer,
          acceptor: await accepted.promise,
          dialerChain: dialerCredentials.chain,
          acceptorChain: acceptorCredentials.chain,
          async close() {
            await listener.close();
            await transport.close();
          },
        };
      },
    }),
  );
}
