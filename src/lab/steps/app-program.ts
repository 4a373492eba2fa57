/**
 * What runs in a namespace of an app network: a program of its own, since a namespace is a process's. Says what it finds in lines of JSON; times are
 * milliseconds since the epoch, which all programs of one machine share.
 *
 *   serve ADDRESS FILE        HTTP: /file is FILE, /flow?mbit=N goes on at that rate; tells of each request and each datagram that comes
 *   fetch URL                 reads to the end: {bytes, sha256, ms}
 *   watch URL STEP_MS         reads until its input ends; tells of each pause of at least STEP_MS: {at_ms, gap_ms}; at the end {bytes}.
 *                             This and /flow also tell when they themselves did not run: {at_ms, stalled_ms}
 *   exchange OWN PEER STEP_MS datagrams to PEER every STEP_MS until its input ends, then {received, last_ms}
 *   send HEX PORT ADDRESS…    one datagram of these bytes to each address, five times
 *   knock URL MS              tries to fetch: {reached}
 */
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';

const HTTP_PORT = 8080;
const UDP_PORT = 7000;
const TICK_MS = 1;
/** Shorter pauses of a program are not told of. */
const STALL_MS = 5;
const SEND_TIMES = 5;

const now = () => performance.timeOrigin + performance.now();
const say = (facts: object) => process.stdout.write(`${JSON.stringify(facts)}\n`);
/** The lab closes standard input when it has seen enough. */
const inputEnded = async () => {
  process.stdin.resume();
  await once(process.stdin, 'end');
};

async function serve(address: string, file: string): Promise<void> {
  const { size } = await stat(file);
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    say({ request: request.url, from: request.socket.remoteAddress });
    const url = new URL(request.url ?? '/', 'http://server');
    if (url.pathname === '/flow') flow(response, Number(url.searchParams.get('mbit')));
    else {
      response.setHeader('content-length', size);
      pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), response).catch(() => response.destroy());
    }
  });
  const datagrams = createSocket('udp4');
  datagrams.on('message', (message, from) => say({ datagram: message.toString('latin1').slice(0, 64), from: from.address }));
  datagrams.bind(UDP_PORT, address);
  await once(datagrams, 'listening');
  server.listen(HTTP_PORT, address);
  await once(server, 'listening');
  say({ listening: true });
  await inputEnded();
  server.closeAllConnections();
  server.close();
  datagrams.close();
}

/** At a steady rate, so that a pause is the network's. What the socket does not take is not kept. */
function flow(response: ServerResponse, mbit: number): void {
  const started = performance.now();
  const piece = Buffer.alloc(64 * 1024, 's');
  let sent = 0;
  const timer = ticking(() => {
    const due = ((performance.now() - started) * mbit * 1000) / 8;
    while (sent < due && !response.writableNeedDrain) {
      const bytes = Math.min(piece.length, Math.ceil(due - sent));
      response.write(piece.subarray(0, bytes));
      sent += bytes;
    }
  });
  response.once('close', () => clearInterval(timer));
}

/** Every millisecond; tells when this program itself did not run, so that its own pauses are not taken for the network's. */
function ticking(action: () => void = () => {}): NodeJS.Timeout {
  let last_ms = now();
  return setInterval(() => {
    const at_ms = now();
    if (at_ms - last_ms >= STALL_MS) say({ stalled_ms: at_ms - last_ms, at_ms });
    last_ms = at_ms;
    action();
  }, TICK_MS);
}

async function open(url: string): Promise<IncomingMessage> {
  const request = get(url);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
}

async function fetchAll(url: string): Promise<void> {
  const started = performance.now();
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of await open(url)) {
    hash.update(chunk as Uint8Array);
    bytes += (chunk as Uint8Array).length;
  }
  say({ bytes, sha256: hash.digest('hex'), ms: performance.now() - started });
}

async function watch(url: string, step_ms: number): Promise<void> {
  const response = await open(url);
  let last_ms = now();
  let bytes = 0;
  say({ started_ms: last_ms });
  response.on('data', (chunk: Uint8Array) => {
    const at_ms = now();
    if (at_ms - last_ms >= step_ms) say({ at_ms, gap_ms: at_ms - last_ms });
    last_ms = at_ms;
    bytes += chunk.length;
  });
  response.on('error', () => say({ broken_ms: now() }));
  const timer = ticking();
  await inputEnded();
  clearInterval(timer);
  say({ bytes, last_ms });
  response.destroy();
}

async function exchange(own: string, peer: string, step_ms: number): Promise<void> {
  const socket = createSocket('udp4');
  let received = 0;
  let last_ms: number | null = null;
  socket.on('message', () => {
    received++;
    last_ms = now();
    if (received === 1) say({ first_ms: last_ms });
  });
  // Its address goes while it runs: that is what is measured.
  socket.on('error', () => {});
  socket.bind(UDP_PORT + 1, own);
  await once(socket, 'listening');
  const timer = setInterval(() => socket.send('x', UDP_PORT + 1, peer, () => {}), step_ms);
  await inputEnded();
  clearInterval(timer);
  say({ received, last_ms });
  socket.close();
}

async function send(hex: string, port: number, addresses: readonly string[]): Promise<void> {
  const socket = createSocket('udp4');
  for (let time = 0; time < SEND_TIMES; time++) {
    for (const address of addresses) await new Promise((resolve) => socket.send(Buffer.from(hex, 'hex'), port, address, resolve));
    await pause(10);
  }
  socket.close();
}

async function knock(url: string, within_ms: number): Promise<void> {
  const request = get(url);
  request.setTimeout(within_ms, () => request.destroy(new Error('no answer')));
  const timer = setTimeout(() => request.destroy(new Error('no answer')), within_ms);
  const reached = await once(request, 'response').then(
    () => true,
    () => false,
  );
  clearTimeout(timer);
  request.destroy();
  say({ reached });
}

const [mode = '', first = '', second = '', third = '', ...more] = process.argv.slice(2);
const modes: Readonly<Record<string, () => Promise<void>>> = {
  serve: () => serve(first, second),
  fetch: () => fetchAll(first),
  watch: () => watch(first, Number(second)),
  exchange: () => exchange(first, second, Number(third)),
  send: () => send(first, Number(second), [third, ...more]),
  knock: () => knock(first, Number(second)),
};
await modes[mode]?.();
