/** A dialer on a virtual clock, over transports whose answers a test sets. */
import { SelvedgeError } from '../../../src/base/errors.ts';
import { type Destination, Dialer, type Verify } from '../../../src/transport/dialer.ts';
import { memoryPair } from '../../../src/transport/memory.ts';
import type { Credentials, Session, Transport, TransportName } from '../../../src/transport/session.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

export const credentials: Credentials = { chain: [], key: new Uint8Array(0) };
export const destination: Destination = { key: 'n1', name: 'node-1', endpoints: [{ host: '192.0.2.1', tcp: 443, udp: 443 }] };

/** After how long a dial ends, and how; null: never by itself. */
type Answer = { readonly after_ms: number; readonly error?: SelvedgeError } | null;

/** A transport whose answers a test sets, by host. */
export class FakeTransport implements Transport {
  readonly name: TransportName;
  readonly dialed: string[] = [];
  readonly sessions: Session[] = [];
  answer: (host: string) => Answer = () => null;
  aborted = 0;
  readonly #timers: VirtualTimers;

  constructor(name: TransportName, timers: VirtualTimers) {
    this.name = name;
    this.#timers = timers;
  }

  dial(target: { host: string; port: number }, _credentials: Credentials, signal: AbortSignal): Promise<Session> {
    this.dialed.push(target.host);
    return new Promise((resolve, reject) => {
      const answer = this.answer(target.host);
      const cancel =
        answer === null
          ? () => {}
          : this.#timers.after(answer.after_ms, () => {
              if (answer.error !== undefined) return reject(answer.error);
              const session: Session = Object.defineProperty(memoryPair({ timers: this.#timers }).dialer, 'transport', { value: this.name });
              this.sessions.push(session);
              resolve(session);
            });
      signal.addEventListener('abort', () => {
        this.aborted++;
        cancel();
        reject(new SelvedgeError('network_unreachable', { peer: target.host, why: 'given up' }));
      });
    });
  }
}

export function setUp() {
  const timers = new VirtualTimers();
  const [quic, tcp] = [new FakeTransport('quic', timers), new FakeTransport('tcp', timers)];
  const dialer = new Dialer({ transports: { quic, tcp }, timers, random: { bytes: (length) => new Uint8Array(length), unit: () => 0 } });
  const abort = new AbortController();
  const dial = (to: Destination = destination, verify: Verify<string> = () => 'peer') => {
    const result = dialer.dial(to, credentials, verify, abort.signal).then(
      (dialed) => ({ ...dialed, transport: dialed.session.transport, error: null }),
      (error: SelvedgeError) => ({ error, transport: null, why: null, session: null, peer: null }),
    );
    return result;
  };
  return { timers, quic, tcp, dialer, abort, dial };
}

export const refused = (): SelvedgeError => new SelvedgeError('network_unreachable', { peer: 'x', why: 'connection refused' });
