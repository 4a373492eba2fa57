/**
 * What is measured, behind one interface: node:tls, and channels over TCP lanes or QUIC. An acceptor and a dialer live in two
 * processes; both are told what to do by `run.ts`.
 */
import type { Beside, BesideTimes } from './beside.ts';
import type { Credentials } from '../src/transport/session.ts';

export const subjectNames = ['tls', 'tcp', 'quic'] as const;
export type SubjectName = (typeof subjectNames)[number];

export const CLUSTER = 'bench';
export const SITE = 'loopback';
export const ACCEPTOR = '0000000000ff';

/** Made once by `run.ts`, for both processes. */
export interface Pki {
  readonly root: Uint8Array;
  readonly acceptor: Credentials;
  /** Node id and credentials of each dialing identity. */
  readonly dialers: readonly { readonly node: string; readonly credentials: Credentials }[];
}

export interface Acceptor {
  readonly port: number;
  /** Channels only. Octets of files in each `ARRIVALS_MS`, from the first one on. */
  arrivals?(): readonly number[];
  close(): Promise<void>;
}

export interface Dialer {
  /** Resolves once the other end has confirmed every byte. */
  bulk(bytes: number): Promise<void>;
  /** Round trips of 64 bytes, one after the other, in ms each. */
  echo(count: number): Promise<number[]>;
  /** So many connections made, confirmed by the other end, and closed; `atOnce` at a time. */
  establish(count: number, atOnce: number): Promise<void>;
  /** Connections of as many identities as there are, held until `close`. */
  hold(): Promise<number>;
  /** Channels only. Echoes of class `input`, alone and then beside a file. */
  readonly beside?: (times: BesideTimes) => Promise<Beside>;
  close(): Promise<void>;
}

export const CHUNK_BYTES = 64 * 1024;
export const ECHO_BYTES = 64;

/** Runs `one` for 0 … count-1, `atOnce` at a time; each worker is told its own number too. */
export async function inParallel(count: number, atOnce: number, one: (index: number, worker: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (number: number): Promise<void> => {
    while (next < count) await one(next++, number);
  };
  await Promise.all(Array.from({ length: atOnce }, (_, number) => worker(number)));
}
