/** Whatever a caller does to the native boundary, it gets an error of the table, never a crash. */
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { packed, testEndings } from './exits.ts';
import { QuicEndpoint } from '../../src/native.ts';
import { makeAuthority } from '../fixtures/certs.ts';

const authority = await makeAuthority();
const credentials = await authority.issue({ node: '0000000000aa' });
const resetKey = new Uint8Array(32);
const quiet = { connected() {}, readable() {}, ready() {}, writable() {}, datagrams() {}, finished() {}, closed() {} };

const nativeOptions = {
  handshakeMs: 5_000,
  idleMs: 30_000,
  streamsMax: 16,
  pendingMax: 16,
  pendingPerAddressMax: 16,
  connectionsMax: 16,
  unsentBytesMin: 1_000,
  unsentBytesMax: 10_000,
  urgentBytesExtra: 1_000,
  inboxBytesMax: 100_000,
  datagramQueueBytesMax: 10_000,
  flowWindowBytesMax: 100_000,
  mtuBytesMax: 1_452,
  bbr: false,
  chainCertsMax: 4,
  certBytesMax: 8_192,
};

function open(): { endpoint: QuicEndpoint; closed: Promise<void> } {
  const ended = Promise.withResolvers<void>();
  const endpoint = new QuicEndpoint({ host: '127.0.0.1', port: 0, credentials, resetKey }, { incoming() {}, closed: () => ended.resolve() });
  return { endpoint, closed: ended.promise };
}

await t.test('a closed endpoint and a closed connection refuse every call', async (t) => {
  const { endpoint, closed } = open();
  const connection = endpoint.dial({ host: '127.0.0.1', port: 9 }, credentials, quiet);
  connection.close(36, new Uint8Array(0));
  connection.close(36, new Uint8Array(0));
  const bytes = new Uint8Array(8);
  for (const use of [
    () => connection.approve(),
    () => connection.write(1, 0, 0, bytes, null),
    () => connection.read(1, bytes),
    () => connection.ready(1),
    () => connection.endFlow(1),
    () => connection.finish(),
    () => connection.facts(),
    () => connection.sample(),
    () => connection.govern({ window_bytes: 1, rate_bytes_per_s: 1 }),
    () => connection.datagram(bytes),
    () => connection.takeDatagram(),
    () => connection.takePeerChain(),
    () => connection.remote,
  ]) {
    t.throws(use, { code: 'handle_closed' });
  }
  endpoint.close();
  endpoint.close();
  await closed;
  endpoint.close();
  t.throws(() => endpoint.address, { code: 'handle_closed' });
  t.throws(() => endpoint.dial({ host: '127.0.0.1', port: 9 }, credentials, quiet), { code: 'handle_closed' });
});

await t.test('wrong arguments are refused by name', async (t) => {
  const handler = { incoming() {}, closed() {} };
  const bad = { host: '127.0.0.1', port: 0, credentials, resetKey };
  t.throws(() => new QuicEndpoint({ ...bad, host: 'not an address' }, handler), { code: 'argument_invalid' });
  t.throws(() => new QuicEndpoint({ ...bad, port: 70_000 }, handler), { code: 'argument_invalid' });
  t.throws(() => new QuicEndpoint({ ...bad, host: '203.0.113.1' }, handler), { code: 'argument_invalid' });
  t.throws(() => new QuicEndpoint({ ...bad, resetKey: new Uint8Array(3) }, handler), { code: 'argument_invalid' });
  t.throws(() => new QuicEndpoint({ ...bad, credentials: { chain: [], key: credentials.key } }, handler), { code: 'argument_invalid' });
  t.throws(() => new QuicEndpoint({ ...bad, credentials: { chain: credentials.chain, key: new Uint8Array(10) } }, handler), { code: 'argument_invalid' });
  const other = await authority.issue({ node: '0000000000bb' });
  t.throws(
    () => new QuicEndpoint({ ...bad, credentials: { chain: credentials.chain, key: other.key } }, handler),
    { code: 'argument_invalid' },
    'a key that is not the certificate’s',
  );
  const { endpoint, closed } = open();
  t.throws(() => new QuicEndpoint({ ...bad, port: endpoint.address.port }, handler), { code: 'port_in_use' });
  endpoint.close();
  await closed;
});

await t.test('the raw addon takes anything without a crash', async (t) => {
  const addon = createRequire(import.meta.url)('../../native/session/build/selvedge-session.node') as Record<string, (...args: unknown[]) => unknown>;
  const junk: unknown[] = [
    undefined,
    null,
    -1,
    1e300,
    Number.NaN,
    'text',
    {},
    [],
    () => {},
    Symbol('s'),
    new Uint8Array(3),
    new Uint8Array(0),
    new Float64Array(1),
    7n,
    new ArrayBuffer(4),
  ];
  let refused = 0;
  for (const [name, entry] of Object.entries(addon)) {
    if (typeof entry !== 'function') continue;
    for (const value of junk) {
      for (const args of [[], [value], Array.from({ length: 8 }, () => value), [1, value, value, value], [99, 99, value, value, value]]) {
        try {
          entry(...args);
        } catch (error) {
          refused++;
          if (!(error instanceof Error)) t.fail(`${name} threw something else`);
        }
      }
    }
  }
  t.ok(refused > 1_000, `${refused} calls were refused`);
});

await t.test('a handle is worth nothing in another thread, and a thread that ends takes its endpoints along', async (t) => {
  const { endpoint, closed } = open();
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     const addon = require(workerData.addon);
     let foreign = null;
     try { addon.quicLocal(1); } catch (error) { foreign = error.code; }
     const options = workerData.options;
     const own = addon.quicOpen(() => {}, options, '127.0.0.1', 0, new Uint8Array(32), null, null);
     addon.quicDial(own, '127.0.0.1', workerData.port, workerData.chain, workerData.key);
     parentPort.postMessage(foreign);
     setTimeout(() => process.exit(0), 20);`,
    {
      eval: true,
      workerData: {
        addon: fileURLToPath(new URL('../../native/session/build/selvedge-session.node', import.meta.url)),
        port: endpoint.address.port,
        chain: packed(credentials.chain),
        key: credentials.key,
        options: nativeOptions,
      },
    },
  );
  const [foreign] = await once(worker, 'message');
  t.equal(foreign, 'Closing');
  t.same(await once(worker, 'exit'), [0]);
  endpoint.close();
  await closed;
});

testEndings(t);
