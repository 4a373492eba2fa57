/**
 * Answers are for clients that take them. HTTP lets a client ask ahead, and Node reads a whole buffer of such requests before it looks at what it owes:
 * a client that never reads would have a thousand answers made and kept for it. So only a few may wait on one connection, and each, once it is ready, only
 * for so long; whoever takes one octet a second is no better than whoever takes none.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { limits } from '../base/limits.ts';

export class TakenAnswers {
  readonly #answer_ms_max: number;
  readonly #waiting = new WeakMap<Socket, number>();

  constructor(answer_ms_max: number) {
    this.#answer_ms_max = answer_ms_max;
  }

  /** Whether this request may be looked at. False: its connection has ended. */
  admit({ socket }: IncomingMessage, response: ServerResponse): boolean {
    // What was read in the same buffer as the request that ended the connection.
    if (socket.destroyed) return false;
    const waiting = this.#waiting.get(socket) ?? 0;
    if (waiting >= limits.api_answers_waiting_max) {
      socket.destroy();
      return false;
    }
    this.#waiting.set(socket, waiting + 1);
    let deadline: NodeJS.Timeout | undefined;
    // All of it was given to the response, and no other is before it; an answer in lines may take its time until then.
    response.once('prefinish', () => {
      deadline = setTimeout(() => socket.destroy(), this.#answer_ms_max);
    });
    response.once('close', () => {
      clearTimeout(deadline);
      this.#waiting.set(socket, (this.#waiting.get(socket) ?? 1) - 1);
    });
    return true;
  }
}
