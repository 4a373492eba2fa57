/** For hostile.test.ts and tls.test.ts: moves octets between two endpoints of this process, then ends it as the argument says. */
import { listenQuic, QuicTransport } from '../../src/transport/quic.ts';
import type { Session, SessionHandler } from '../../src/transport/session.ts';
import { listenTcp } from '../../src/transport/tcp-listener.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { makeAuthority } from '../fixtures/certs.ts';

const [, , ending = '', transport = 'quic'] = process.argv;
const credentials = await (await makeAuthority()).issue({ node: '0000000000aa' });
const quiet: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };
let received = 0;

function end(): void {
  if (ending.startsWith('process.exit')) process.exit(7);
  if (ending.startsWith('process.kill')) process.kill(process.pid, 'SIGTERM');
  else throw new Error('on purpose');
}

const options = {
  host: '127.0.0.1',
  port: 0,
  credentials,
  onSession: (session: Session) =>
    session.approve({
      ...quiet,
      data(_source: number, bytes: Uint8Array) {
        received += bytes.length;
        if (received > 20_000_000) end();
      },
    }),
};
const listener = transport === 'quic' ? await listenQuic(options) : await listenTcp({ ...options, onHttp: null });
const dialer = transport === 'quic' ? new QuicTransport() : new TcpTransport();
const session: Session = await dialer.dial(listener.address, credentials, new AbortController().signal);
const chunk = new Uint8Array(60_000);
const pump = (): void => {
  while (session.ready('bulk')) session.write(1, 'bulk', 1, new Uint8Array(4), chunk);
};
session.approve({ ...quiet, ready: pump });
pump();
