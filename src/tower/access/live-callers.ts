/**
 * Connections of the API by who is being answered on them, so that cutting somebody off ends what is under way, streaming answers too. A connection is held
 * for a caller from the moment before the caller is looked up: what was revoked in between shows by `epoch`.
 */
import type { Socket } from 'node:net';

export class LiveCallers {
  readonly #sockets = new Map<string, Map<Socket, number>>();
  #epoch = 0;

  /** Moves on with each cut. */
  get epoch(): number {
    return this.#epoch;
  }

  get size(): number {
    return this.#sockets.size;
  }

  /** `name`: `operator:ID`, `session:ID` … The returned function ends it; call it once. */
  hold(name: string, socket: Socket): () => void {
    const sockets = this.#sockets.get(name) ?? new Map<Socket, number>();
    this.#sockets.set(name, sockets);
    sockets.set(socket, (sockets.get(socket) ?? 0) + 1);
    return () => {
      const count = (sockets.get(socket) ?? 1) - 1;
      if (count > 0) sockets.set(socket, count);
      else sockets.delete(socket);
      if (sockets.size === 0 && this.#sockets.get(name) === sockets) this.#sockets.delete(name);
    };
  }

  /** Ends every connection on which one of these is being answered, but the one on which that was asked for, if any: its answer is the last. */
  cut(names: readonly string[], spared?: Socket): void {
    this.#epoch++;
    for (const name of names) {
      for (const socket of this.#sockets.get(name)?.keys() ?? []) if (socket !== spared) socket.destroy();
    }
  }
}
