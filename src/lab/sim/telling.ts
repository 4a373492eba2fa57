/** How snapshots travel: a flow from each node to the tower, on which the tower tells what it knows, at once, when that changes, and afresh now and then. */
import type { FlowHandle, Mesh } from '../../peering/mesh.ts';
import type { Timers } from '../../transport/system.ts';
import { decodeSnapshot, encodeSnapshot, type Snapshot, TOWER } from './directory.ts';

/** Name of the flow. */
const SERVICE = 'directory';
/** After a flow that has ended. */
const RETRY_MS = 500;
const ASK = Uint8Array.of(1);

/** The tower's side. */
export class Teller {
  readonly #flows = new Set<FlowHandle>();
  readonly #snapshot: () => Snapshot;

  constructor(mesh: Mesh, snapshot: () => Snapshot) {
    this.#snapshot = snapshot;
    mesh.handle(SERVICE, (flow) => void this.#serve(flow));
  }

  tellAll(): void {
    for (const flow of this.#flows) this.#tell(flow);
  }

  async #serve(flow: FlowHandle): Promise<void> {
    this.#flows.add(flow);
    void flow.closed.then(() => this.#flows.delete(flow));
    this.#tell(flow);
    while ((await flow.receive()) !== null) this.#tell(flow);
  }

  #tell(flow: FlowHandle): void {
    try {
      flow.send(encodeSnapshot(this.#snapshot()));
    } catch {
      // It has just ended.
    }
  }
}

/** A node's side. */
export class Hearer {
  readonly #mesh: Mesh;
  readonly #timers: Timers;
  readonly #heard: (snapshot: Snapshot) => void;
  #flow: FlowHandle | null = null;

  constructor(mesh: Mesh, timers: Timers, heard: (snapshot: Snapshot) => void) {
    this.#mesh = mesh;
    this.#timers = timers;
    this.#heard = heard;
  }

  /** Call it whenever channels have changed. */
  poke(): void {
    if (this.#flow !== null) return;
    try {
      const flow = this.#mesh.open(TOWER.node, 'fabric_control', 'messages', SERVICE);
      this.#flow = flow;
      void this.#hear(flow);
    } catch {
      // No channel yet; the next change asks again.
    }
  }

  /** For a snapshot as of now. */
  ask(): void {
    try {
      this.#flow?.send(ASK);
    } catch {
      // A flow that has just ended is followed by another.
    }
  }

  async #hear(flow: FlowHandle): Promise<void> {
    for (let message = await flow.receive(); message !== null; message = await flow.receive()) this.#heard(decodeSnapshot(message));
    this.#flow = null;
    this.#timers.after(RETRY_MS, () => this.poke());
  }
}
