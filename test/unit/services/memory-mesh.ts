/** A mesh in memory: flows with windows and acknowledgements, and a wire that a test may cut at any octet. */
import { type ErrorCode, SelvedgeError } from '../../../src/base/errors.ts';
import type { FlowKind, TrafficClass } from '../../../src/channel/classes.ts';
import type { ChannelFacts, FlowHandle, ServiceMesh } from '../../../src/services/mesh.ts';

const WINDOW_BYTES = 1024 * 1024;

class Wake {
  #waiters: (() => void)[] = [];
  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }
  wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }
}

export class MemoryFlow implements FlowHandle {
  readonly class: TrafficClass;
  readonly kind: FlowKind;
  readonly service: string;
  readonly peer: string;
  readonly closed: Promise<SelvedgeError | null>;
  #close: (error: SelvedgeError | null) => void = () => {};
  readonly #net: MemoryNet;
  readonly #incoming: Uint8Array[] = [];
  readonly #wake = new Wake();
  #other: MemoryFlow | null = null;
  #queued = 0;
  #isFinished = false;
  #hasPeerFinished = false;
  #error: SelvedgeError | null | undefined;
  acknowledged = 0;
  written = 0;

  constructor(net: MemoryNet, cls: TrafficClass, kind: FlowKind, service: string, peer: string) {
    this.#net = net;
    this.class = cls;
    this.kind = kind;
    this.service = service;
    this.peer = peer;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  static pair(net: MemoryNet, cls: TrafficClass, kind: FlowKind, service: string, from: string, to: string): [MemoryFlow, MemoryFlow] {
    const near = new MemoryFlow(net, cls, kind, service, to);
    const far = new MemoryFlow(net, cls, kind, service, from);
    near.#other = far;
    far.#other = near;
    return [near, far];
  }

  write(bytes: Uint8Array): boolean {
    if (this.#error !== undefined) throw this.#error ?? new SelvedgeError('handle_closed', { what: 'flow' });
    if (this.#isFinished) throw new SelvedgeError('handle_closed', { what: 'flow' });
    this.#queued += bytes.length;
    this.written += bytes.length;
    const other = this.#other;
    if (other !== null) {
      // The writer's memory is its own again once what was written is acknowledged.
      other.#incoming.push(bytes.slice());
      other.#wake.wake();
    }
    this.#net.carried(bytes.length);
    return this.#queued < WINDOW_BYTES;
  }

  send(message: Uint8Array): boolean {
    return this.write(message.slice());
  }

  async drained(): Promise<void> {
    while (this.#error === undefined && this.#queued >= WINDOW_BYTES) await this.#wake.wait();
  }

  read(): Uint8Array | null {
    const bytes = this.#error === undefined ? (this.#incoming.shift() ?? null) : null;
    const other = this.#other;
    if (bytes !== null && other !== null) {
      other.#queued -= bytes.length;
      other.acknowledged += bytes.length;
      other.#wake.wake();
    }
    this.#checkDone();
    return bytes;
  }

  readInto(into: Uint8Array): number {
    const [first] = this.#incoming;
    if (first !== undefined && first.length > into.length) this.#incoming.splice(0, 1, first.subarray(0, into.length), first.subarray(into.length));
    const bytes = this.read();
    if (bytes !== null) into.set(bytes);
    return bytes?.length ?? 0;
  }

  async readable(): Promise<boolean> {
    for (;;) {
      if (this.#error !== undefined) return false;
      if (this.#incoming.length > 0) return true;
      if (this.#hasPeerFinished) return false;
      await this.#wake.wait();
    }
  }

  async receive(): Promise<Uint8Array | null> {
    return (await this.readable()) ? this.read() : null;
  }

  end(): void {
    if (this.#isFinished || this.#error !== undefined) return;
    this.#isFinished = true;
    const other = this.#other;
    if (other === null) return;
    other.#hasPeerFinished = true;
    other.#wake.wake();
    this.#checkDone();
    other.#checkDone();
  }

  reset(code: ErrorCode, why: string): void {
    if (this.#error !== undefined) return;
    const error = new SelvedgeError(code, { why });
    this.finish(error);
    this.#other?.finish(error);
  }

  finish(error: SelvedgeError | null): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    this.#net.flows.delete(this);
    this.#close(error);
    this.#wake.wake();
  }

  #checkDone(): void {
    if (this.#isFinished && this.#hasPeerFinished && this.#incoming.length === 0) this.finish(null);
  }
}

export class MemoryNet {
  readonly flows = new Set<MemoryFlow>();
  readonly #handlers = new Map<string, (flow: FlowHandle) => void>();
  #cutAt: number | null = null;
  carriedBytes = 0;
  isConnected = true;
  opened = 0;

  mesh(id: string): ServiceMesh {
    return {
      open: (node, cls, kind, service) => {
        if (!this.isConnected) throw new SelvedgeError('not_connected', { peer: node, why: 'cut by the test' });
        const handler = this.#handlers.get(`${node}/${service}`);
        if (handler === undefined) throw new SelvedgeError('flow_refused', { why: `no service ${service}` });
        const [near, far] = MemoryFlow.pair(this, cls, kind, service, id, node);
        this.flows.add(near).add(far);
        this.opened++;
        handler(far);
        return near;
      },
      handle: (service, accept) => {
        this.#handlers.set(`${id}/${service}`, accept);
      },
      status: (): ChannelFacts[] =>
        [...this.#handlers.keys()].map((key) => ({
          peer: key.split('/')[0] ?? '',
          name: 'memory',
          state: 'established',
          transport: this.isConnected ? 'memory' : null,
          why: null,
          rtt_ms: 0,
          classes: [],
          bytes_sent: this.carriedBytes,
          bytes_received: 0,
          certificate_days: 30,
        })),
    };
  }

  /** Loses every flow once `bytes` more were carried. */
  cutAfter(bytes: number): void {
    this.#cutAt = this.carriedBytes + bytes;
  }

  carried(bytes: number): void {
    this.carriedBytes += bytes;
    if (this.#cutAt === null || this.carriedBytes < this.#cutAt) return;
    this.#cutAt = null;
    queueMicrotask(() => this.cut('flow_lost'));
  }

  cut(code: ErrorCode): void {
    for (const flow of [...this.flows]) flow.finish(new SelvedgeError(code, { why: 'cut by the test' }));
  }
}
