/**
 * The tower's challenges: single use, short-lived, and free of memory until somebody has shown good evidence for one. A nonce carries its own end and a MAC of
 * this process, so that asking for a million of them costs nobody's place; only those spent are remembered, until they would have ended anyway.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { SelvedgeError } from '../../base/errors.ts';
import { equalBytes } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';

const TIME_BYTES = 8;
const RANDOM_BYTES = 16;
const MAC_BYTES = 16;
const NONCE_BYTES = TIME_BYTES + RANDOM_BYTES + MAC_BYTES;

export class Nonces {
  readonly #clock: Clock;
  readonly #life_ms: number;
  readonly #spent_max: number;
  readonly #key = randomBytes(32);
  /** When each ends; in the order of spending, which is nearly that of ending. */
  readonly #spent = new Map<string, number>();

  constructor(given: { clock: Clock; life_ms?: number; spent_max?: number }) {
    this.#clock = given.clock;
    this.#life_ms = given.life_ms ?? limits.enroll_nonce_ms_max;
    this.#spent_max = given.spent_max ?? limits.enroll_nonces_spent_max;
  }

  issue(): { nonce: string; expires_ms: number } {
    const expires_ms = Math.floor(this.#clock.wall()) + this.#life_ms;
    const head = Buffer.alloc(TIME_BYTES + RANDOM_BYTES);
    head.writeBigUInt64BE(BigInt(expires_ms));
    randomBytes(RANDOM_BYTES).copy(head, TIME_BYTES);
    return { nonce: Buffer.concat([head, this.#mac(head)]).toString('base64url'), expires_ms };
  }

  /** @throws nonce_invalid unless it is of this process and has not ended, proof_replayed if it was spent */
  check(nonce: string): void {
    this.#endOf(nonce);
    if (this.#spent.has(nonce)) throw replayed();
  }

  /** From now on it is worth nothing. @throws as `check`, and rate_limited when more were spent of late than are remembered */
  spend(nonce: string): void {
    const expires_ms = this.#endOf(nonce);
    if (this.#spent.has(nonce)) throw replayed();
    this.#forgetEnded();
    if (this.#spent.size >= this.#spent_max) throw new SelvedgeError('rate_limited', { peer: 'all nodes together', ms: this.#life_ms });
    this.#spent.set(nonce, expires_ms);
  }

  get size(): number {
    return this.#spent.size;
  }

  #endOf(nonce: string): number {
    const bytes = Buffer.from(nonce, 'base64url');
    if (bytes.length !== NONCE_BYTES || bytes.toString('base64url') !== nonce) throw invalid('it is not one');
    const head = bytes.subarray(0, NONCE_BYTES - MAC_BYTES);
    if (!equalBytes(bytes.subarray(head.length), this.#mac(head))) throw invalid('it is not of this tower, or from before its restart');
    const expires_ms = Number(head.readBigUInt64BE());
    const now_ms = this.#clock.wall();
    if (now_ms >= expires_ms) throw invalid('it has expired');
    // A clock that was set back must not give old ones another life.
    if (expires_ms > now_ms + this.#life_ms) throw invalid('it is from the future');
    return expires_ms;
  }

  #mac(head: Uint8Array): Uint8Array {
    return createHmac('sha256', this.#key).update(head).digest().subarray(0, MAC_BYTES);
  }

  #forgetEnded(): void {
    const now_ms = this.#clock.wall();
    for (const [nonce, expires_ms] of this.#spent) {
      if (expires_ms > now_ms) return;
      this.#spent.delete(nonce);
    }
  }
}

function invalid(why: string): SelvedgeError {
  return new SelvedgeError('nonce_invalid', { why });
}

function replayed(): SelvedgeError {
  return new SelvedgeError('proof_replayed');
}
