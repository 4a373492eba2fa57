/** The last words of a session over TCP: for how long a peer that takes its time is waited for, once the session was closed. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { TcpTransport } from '../../../src/transport/tcp.ts';
import { makeAuthority } from '../../fixtures/certs.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

const authority = await makeAuthority();
const [mine, theirs] = await Promise.all([authority.issue({ node: '0000000000aa' }), authority.issue({ node: '0000000000bb' })]);

t.test('session_linger_ms_max: one tick before its time the connection of a closed session is there for its peer, at that tick it is gone', async (t) => {
  // A peer that reads and never ends its side.
  const sockets: TLSSocket[] = [];
  const server = createServer({
    cert: pem('CERTIFICATE', theirs.chain),
    key: pem('PRIVATE KEY', [theirs.key]),
    ALPNProtocols: ['selvedge/1'],
    allowHalfOpen: true,
  });
  server.on('secureConnection', (socket) => sockets.push(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const timers = new VirtualTimers();
  const transport = new TcpTransport({ timers });
  const { port } = server.address() as AddressInfo;
  const session = await transport.dial({ host: '127.0.0.1', port }, mine, new AbortController().signal);
  while (sockets.length === 0) await once(server, 'secureConnection');
  const [peer] = sockets;
  if (peer === undefined) throw new Error('nobody dialed');
  const heard = once(peer.resume(), 'end');
  session.close('session_closed', 'done');
  await heard;

  let isGone = false;
  const gone = transport.close().then(() => {
    isGone = true;
  });
  await timers.advance(limits.session_linger_ms_max - 1);
  t.equal(isGone, false, 'one tick before');
  await timers.advance(1);
  await gone;
  t.equal(timers.waiting, 0);
});

function pem(label: string, ders: readonly Uint8Array[]): string {
  return ders.map((der) => `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64')}\n-----END ${label}-----\n`).join('');
}
