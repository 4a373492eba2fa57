/**
 * The attacker, a program of its own inside a namespace: reads one order (JSON, with keys, on standard input), tries everything against the
 * tower, and prints for each attempt the code with which it was refused. `none` is an attempt that was not refused.
 */
import { randomBytes } from 'node:crypto';
import { request } from 'node:https';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { asSelvedgeError, type ErrorCode } from '../../base/errors.ts';
import { ByteWriter } from '../../base/bytes.ts';
import { CONTROL_PRIORITY } from '../../channel/classes.ts';
import { frameTypes } from '../../channel/frames.ts';
import { encodeHello } from '../../channel/hello.ts';
import { helloOf } from '../hello-of.ts';
import { QuicTransport } from '../../transport/quic.ts';
import { CONTROL_FLOW, type Credentials, FABRIC_ALPN, type Session, type Transport } from '../../transport/session.ts';
import { TcpTransport } from '../../transport/tcp.ts';
import { secureContextOf } from '../../transport/tcp-tls.ts';

interface SealedCredentials {
  readonly chain: readonly string[];
  readonly key: string;
}

export interface AttackOrder {
  readonly host: string;
  readonly port: number;
  readonly cluster: string;
  readonly honestNode: string;
  readonly victimNode: string;
  /** Names of attacks; absent: all. */
  readonly only?: readonly string[];
  readonly credentials: Readonly<Record<'honest' | 'otherCluster' | 'forgedRoot' | 'expired' | 'stolen', SealedCredentials>>;
}

export interface AttackResult {
  readonly attack: string;
  readonly transport: string;
  readonly code: ErrorCode | 'none';
  readonly why: string;
}

const GARBAGE_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** After which an attempt counts as not refused. */
const WAIT_MS = 8_000;

/** What an attacker writes. */
type Say = (session: Session) => void;

const nothing = () => {};

async function main(): Promise<void> {
  const order = JSON.parse(await text(process.stdin)) as AttackOrder;
  const credentials = (name: keyof AttackOrder['credentials']): Credentials => {
    const { chain, key } = order.credentials[name];
    return { chain: chain.map((der) => new Uint8Array(Buffer.from(der, 'base64'))), key: new Uint8Array(Buffer.from(key, 'base64')) };
  };
  const isWanted = (attack: string): boolean => order.only?.includes(attack) ?? true;
  for (const transport of [new TcpTransport(), new QuicTransport()]) {
    const attempt = async (attack: string, name: keyof AttackOrder['credentials'], say: Say, more: Say = nothing) => {
      if (isWanted(attack)) report(attack, transport.name, await refusal(transport, order, credentials(name), say, more));
    };
    const hello: Say = (session) =>
      void session.write(CONTROL_FLOW, 'urgent', CONTROL_PRIORITY, encodeHello('hello', helloOf({ cluster: order.cluster, node: order.victimNode })), null);
    await attempt('other_cluster', 'otherCluster', hello);
    await attempt('forged_root', 'forgedRoot', hello);
    await attempt('another_name', 'honest', hello);
    await attempt('expired', 'expired', hello);
    await attempt(
      'garbage',
      'honest',
      (session) => void session.write(CONTROL_FLOW, 'urgent', CONTROL_PRIORITY, Uint8Array.of(0xff, ...randomBytes(1_000)), null),
    );
    const pour = flood();
    await attempt('garbage_64_mib', 'honest', pour, pour);
    await transport.close();
  }
  if (isWanted('stolen')) report('stolen', 'tcp', await thief(order, credentials('stolen')));
  if (isWanted('raw_garbage')) report('raw_garbage', 'tcp', await rawGarbage(order));
  if (isWanted('body_64_mib')) report('body_64_mib', 'https', await hugeBody(order));
}

function report(attack: string, transport: string, { code, why }: { readonly code: ErrorCode | 'none'; readonly why: string }): void {
  const result: AttackResult = { attack, transport, code, why };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

type Refusal = Pick<AttackResult, 'code' | 'why'>;

/** Dials, says what it has to say, and waits to be thrown out. */
async function refusal(transport: Transport, { host, port }: AttackOrder, credentials: Credentials, say: Say, more: Say): Promise<Refusal> {
  const ended = Promise.withResolvers<Refusal>();
  const timer = setTimeout(() => ended.resolve({ code: 'none', why: `not refused within ${WAIT_MS} ms` }), WAIT_MS);
  try {
    const session = await transport.dial({ host, port }, credentials, AbortSignal.timeout(WAIT_MS));
    session.approve({
      data: nothing,
      sourceEnd: nothing,
      ready: nothing,
      writable: () => more(session),
      datagram: nothing,
      finished: nothing,
      closed: ({ code, message: why }) => ended.resolve({ code, why }),
    });
    say(session);
    const result = await ended.promise;
    session.close('session_closed', 'done');
    return result;
  } catch (error) {
    const { code, message: why } = asSelvedgeError(error, 'tls_handshake_failed');
    return { code, why };
  } finally {
    clearTimeout(timer);
  }
}

/** A hello that claims 64 MiB, and as many of them behind it as the transport takes; called again whenever it takes more. */
function flood(): Say {
  const head = new ByteWriter().u8(frameTypes.hello).varint(GARBAGE_BYTES).finish();
  const chunk = new Uint8Array(randomBytes(CHUNK_BYTES));
  let sent = 0;
  return (session) => {
    while (sent < GARBAGE_BYTES && !session.isClosed) {
      const more = session.write(CONTROL_FLOW, 'urgent', CONTROL_PRIORITY, sent === 0 ? head : chunk, null);
      sent += CHUNK_BYTES;
      if (!more) return;
    }
  };
}

/** A certificate without its key. Our own stacks would not even try: they compare the halves of a key before they use it. */
function thief({ host, port }: AttackOrder, credentials: Credentials): Promise<Refusal> {
  return new Promise((resolve) => {
    const socket = connectTls({ host, port, secureContext: secureContextOf(credentials), rejectUnauthorized: false, ALPNProtocols: [FABRIC_ALPN] });
    const end = (code: Refusal['code'], why: string) => {
      clearTimeout(timer);
      resolve({ code, why });
      socket.destroy();
    };
    const timer = setTimeout(() => end('none', `not refused within ${WAIT_MS} ms`), WAIT_MS);
    socket.on('error', (error: Error & { readonly code?: string; readonly reason?: string }) => {
      const isAlert = error.code?.startsWith('ERR_SSL_') === true;
      end(isAlert ? 'tls_handshake_failed' : 'network_unreachable', error.reason ?? error.message);
    });
    socket.resume().on('close', () => end('network_unreachable', 'closed without an alert'));
  });
}

/** 64 MiB that are not TLS: answered with an alert or an end, which is what a client reads as a failed handshake. */
function rawGarbage({ host, port }: AttackOrder): Promise<Refusal> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    let sent = 0;
    const send = () => {
      while (sent < GARBAGE_BYTES) {
        sent += CHUNK_BYTES;
        if (!socket.write(randomBytes(CHUNK_BYTES))) return;
      }
    };
    const timer = setTimeout(() => {
      resolve({ code: 'none', why: `not refused within ${WAIT_MS} ms` });
      socket.destroy();
    }, WAIT_MS);
    socket.on('connect', send).on('drain', send).on('error', nothing);
    socket.resume().on('close', () => {
      clearTimeout(timer);
      resolve({ code: 'tls_handshake_failed', why: `closed after ${socket.bytesWritten} bytes were sent` });
    });
  });
}

function hugeBody({ host, port }: AttackOrder): Promise<Refusal> {
  return new Promise((resolve) => {
    const headers = { 'content-type': 'application/json', 'content-length': GARBAGE_BYTES };
    const post = request({ host, port, method: 'POST', path: '/v1/enroll', headers, rejectUnauthorized: false, timeout: WAIT_MS });
    let answered = false;
    post.on('response', (response) => {
      answered = true;
      text(response)
        .catch(() => '')
        .then((body) => {
          const code = /"code":\s*"([a-z_]+)"/.exec(body)?.[1] as ErrorCode | undefined;
          resolve({ code: code ?? 'none', why: `HTTP ${response.statusCode}` });
          post.destroy();
        });
    });
    post.on('error', (error) => {
      if (!answered) resolve({ code: 'none', why: error.message });
    });
    post.on('timeout', () => post.destroy(new Error('no answer')));
    post.write(randomBytes(CHUNK_BYTES));
  });
}

if (import.meta.main) await main();
