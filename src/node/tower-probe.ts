/**
 * Whether an address answers as a tower does, over QUIC and over TLS on TCP, and what time it is there. Needs no identity: it shows a certificate of its own
 * making, which lets handshakes finish and nothing more, and says goodbye.
 */
import { once } from 'node:events';
import { request } from 'node:https';
import { isIP } from 'node:net';
import { asSelvedgeError } from '../base/errors.ts';
import type { Clock } from '../base/seam.ts';
import type { Endpoint } from '../enroll/wire.ts';
import { selfSigned } from '../identity/self-signed.ts';
import { QuicTransport } from '../transport/quic.ts';
import type { Credentials, Transport } from '../transport/session.ts';
import { systemClock, systemRandom } from '../transport/system.ts';
import { TcpTransport } from '../transport/tcp.ts';

export interface Reach {
  readonly passes: boolean;
  /** Time to the end of the handshake. */
  readonly ms: number | null;
  readonly code: string | null;
  readonly why: string | null;
}

/** Both ways at once; each ends within `wait_ms`. */
export async function probeTower({ host, tcp, udp }: Endpoint, wait_ms: number): Promise<{ readonly quic: Reach; readonly tcp: Reach }> {
  const credentials = await selfSigned('netcheck', { now_ms: systemClock.wall(), random: systemRandom });
  await using quic = new ClosingQuic();
  const skipped: Reach = { passes: false, ms: null, code: 'unsupported', why: 'the tower does not offer it' };
  const [overUdp, overTcp] = await Promise.all([
    udp === null ? skipped : dial(quic.transport, { host, port: udp }, credentials, wait_ms),
    dial(new TcpTransport(), { host, port: tcp }, credentials, wait_ms),
  ]);
  return { quic: overUdp, tcp: overTcp };
}

/**
 * Whole seconds that our clock is behind the tower's (negative: ahead); null: it did not answer over HTTPS. From the Date of an answer whose sender nobody has
 * verified: good for a hint, not for a decision.
 */
export async function clockDifference_s({ host, tcp }: Endpoint, clock: Pick<Clock, 'wall'>, wait_ms: number): Promise<number | null> {
  const outgoing = request({
    host,
    port: tcp,
    path: '/v1/health',
    rejectUnauthorized: false,
    agent: false,
    timeout: wait_ms,
    ...(isIP(host) === 0 && { servername: host }),
  });
  outgoing.end();
  try {
    const [response] = await once(outgoing, 'response', { signal: AbortSignal.timeout(wait_ms) });
    const theirs_ms = Date.parse(response.headers.date ?? '');
    return Number.isNaN(theirs_ms) ? null : Math.round((theirs_ms - clock.wall()) / 1_000);
  } catch {
    return null;
  } finally {
    outgoing.on('error', () => undefined).destroy();
  }
}

/** A session that is never approved carries nothing; that it came about is the answer. */
async function dial(transport: Transport, target: { host: string; port: number }, credentials: Credentials, wait_ms: number): Promise<Reach> {
  const started = systemClock.now();
  try {
    const session = await transport.dial(target, credentials, AbortSignal.timeout(wait_ms));
    const ms = systemClock.now() - started;
    session.close('shutting_down', 'netcheck');
    return { passes: true, ms, code: null, why: null };
  } catch (error) {
    const { code, message } = asSelvedgeError(error, 'network_unreachable', { peer: target.host });
    return { passes: false, ms: null, code, why: systemClock.now() - started >= wait_ms ? `no answer within ${wait_ms} ms` : message };
  }
}

/** Owns the QUIC endpoint of one probe. */
class ClosingQuic implements AsyncDisposable {
  readonly transport = new QuicTransport();

  [Symbol.asyncDispose](): Promise<void> {
    return this.transport.close();
  }
}
