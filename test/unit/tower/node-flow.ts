/** Flows as the tower's services see them, in memory; the test plays the node. */
import { EventEmitter, once } from 'node:events';
import { type ErrorCode, SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import type { FlowKind, TrafficClass } from '../../../src/channel/classes.ts';
import { Pieces } from '../../../src/enroll/pieces.ts';
import { openSnapshot } from '../../../src/enroll/snapshot.ts';
import { checkEnvelope, readJson, type Snapshot } from '../../../src/enroll/wire.ts';
import type { FlowHandle } from '../../../src/peering/mesh.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { systemClock } from '../../../src/transport/system.ts';

export class NodeFlow implements FlowHandle {
  readonly class: TrafficClass;
  readonly kind: FlowKind;
  readonly service = 'any';
  readonly peer: string;
  readonly closed: Promise<SelvedgeError | null>;
  readonly acknowledged = 0;
  readonly written = 0;
  /** Messages of the tower. */
  readonly got: Uint8Array[] = [];
  resetCode: ErrorCode | null = null;
  isFull = false;
  readonly #events = new EventEmitter();
  readonly #toTower: (Uint8Array | null)[] = [];
  #close: (error: SelvedgeError | null) => void = () => {};

  constructor(peer: string, cls: TrafficClass = 'fabric_control', kind: FlowKind = 'messages') {
    this.peer = peer;
    this.class = cls;
    this.kind = kind;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  ask(message: unknown): void {
    this.#toTower.push(
      message === null ? null : typeof message === 'string' ? new TextEncoder().encode(message) : new TextEncoder().encode(JSON.stringify(message)),
    );
    this.#events.emit('asked');
  }

  async messageNumber(count: number): Promise<Uint8Array> {
    while (this.got.length < count) await once(this.#events, 'sent');
    return this.got[count - 1] ?? new Uint8Array();
  }

  unblock(): void {
    this.isFull = false;
    this.#events.emit('drained');
  }

  async receive(): Promise<Uint8Array | null> {
    while (this.#toTower.length === 0) await once(this.#events, 'asked');
    return this.#toTower.shift() ?? null;
  }

  send(message: Uint8Array): boolean {
    if (this.resetCode !== null) throw new SelvedgeError('handle_closed', { what: 'flow' });
    this.got.push(message);
    this.#events.emit('sent');
    return !this.isFull;
  }

  async drained(): Promise<void> {
    if (this.isFull) await once(this.#events, 'drained');
  }

  end(): void {
    this.#close(null);
  }

  reset(code: ErrorCode): void {
    this.resetCode ??= code;
    this.#close(new SelvedgeError(code));
    this.ask(null);
  }

  readonly write = () => false;
  readonly read = () => null;
  readonly readInto = () => 0;
  readonly readable = () => Promise.resolve(false);
}

/** A flow of service `snapshot`; each snapshot of these tests fits one message. */
export async function snapshotNumber(count: number, flow: NodeFlow, tower: Tower): Promise<Snapshot> {
  const bytes = new Pieces().add(await flow.messageNumber(count)) ?? new Uint8Array();
  const envelope = readJson(bytes, limits.snapshot_envelope_bytes_max, checkEnvelope);
  return openSnapshot(envelope, { roots: tower.roots, cluster: tower.cluster, node: flow.peer, now_ms: systemClock.wall() });
}
