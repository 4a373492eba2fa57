/** For hostile.test.ts: moves octets between two endpoints of this process, then ends it as the argument says. */
import { listenQuic, QuicTransport } from '../../src/transport/quic.ts';
import type { Session, SessionHandler } from '../../src/transport/session.ts';
import { makeAuthority } from '../fixtures/certs.ts';

const [, , ending = ''] = process.argv;
const credentials = await (await makeAuthority()).issue({ node: '0000000000aa' });
const quiet: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };
let received = 0;

function end(): void {
  if (ending.startsWith('process.exit')) process.exit(7);
  if (ending.startsWith('process.kill')) process.kill(process.pid, 'SIGTERM');
  else throw new Error('on purpose');
}

const listener = await listenQuic({
  host: '127.0.0.1',
  port: 0,
  credentials,
  onSession: (session) =>
    session.approve({
      ...quiet,
      data(_source, bytes) {
        received += bytes.length;
        if (received > 20_000_000) end();
      },
    }),
});
const session: Session = await new QuicTransport().dial(listener.address, credentials, new AbortController().signal);
const chunk = new Uint8Array(60_000);
const pump = (): void => {
  while (session.ready('bulk')) session.write(1, 'bulk', 1, new Uint8Array(4), chunk);
};
session.approve({ ...quiet, ready: pump });
pump();
