/** TCP sessions keep every promise of the interface, over real sockets and TLS. */
import t from 'tap';
import { listen } from '../../src/transport/listener.ts';
import type { Session } from '../../src/transport/session.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { makeAuthority } from '../fixtures/certs.ts';
import { openTcpProxy } from '../fixtures/tcp-proxy.ts';
import { sessionSuite } from './session.ts';

const authority = await makeAuthority();
const [dialerCredentials, acceptorCredentials] = [await authority.issue({ node: '0000000000aa' }), await authority.issue({ node: '0000000000bb' })];

await sessionSuite(t, {
  name: 'tcp',
  datagrams: false,
  hostile: true,
  async pair({ handshake_ms, hostile } = {}) {
    const accepted = Promise.withResolvers<Session>();
    const times = handshake_ms === undefined ? {} : { handshake_ms };
    const listener = await listen({
      ...times,
      host: '127.0.0.1',
      tcpPort: 0,
      udpPort: null,
      credentials: acceptorCredentials,
      onSession: accepted.resolve,
      onHttp: null,
      listenQuic: null,
    });
    const proxy = hostile ? await openTcpProxy(listener.tcp) : null;
    const dialer = await new TcpTransport().dial(proxy?.address ?? listener.tcp, dialerCredentials, new AbortController().signal);
    return {
      dialer,
      acceptor: await accepted.promise,
      dialerChain: dialerCredentials.chain,
      acceptorChain: acceptorCredentials.chain,
      sever: () => proxy?.sever(),
      async close() {
        await listener.close();
        await proxy?.close();
      },
    };
  },
});
