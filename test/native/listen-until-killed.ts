/** For quic.test.ts: a listener that returns what it gets, prints its port, and lives until it is killed. */
import { listenQuic } from '../../src/transport/quic.ts';
import { makeAuthority } from '../fixtures/certs.ts';

const listener = await listenQuic({
  host: '127.0.0.1',
  port: 0,
  credentials: await (await makeAuthority()).issue({ node: '0000000000aa' }),
  resetKey: new Uint8Array(32).fill(9),
  onSession: (session) =>
    session.approve({
      data: (_source, bytes) => void session.write(1, 'urgent', 1, bytes, null),
      sourceEnd() {},
      ready() {},
      writable() {},
      datagram() {},
      finished() {},
      closed() {},
    }),
});
process.stdout.write(`${listener.address.port}\n`);
