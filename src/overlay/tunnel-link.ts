/**
 * The lasting tie to selvedge-tunnel: connects, starts the program where none answers, comes back after a crash, and replaces one that speaks another version of
 * the protocol. Closing it leaves the tunnel as it is, with everything that it carries.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { Backoff } from '../channel/backoff.ts';
import type { Timers } from '../transport/system.ts';
import { TunnelConnection } from './tunnel-client.ts';
import type { TunnelStarter } from './tunnel-process.ts';
import { AnyAnswer, checker, type HelloAnswer } from './tunnel-wire.ts';

export interface TunnelLinkOptions {
  readonly path: string;
  /** Null: whoever runs the tunnel starts it. */
  readonly starter: TunnelStarter | null;
  readonly timers: Timers;
  readonly random: Random;
  readonly onUp: (connection: TunnelConnection, hello: HelloAnswer) => void;
  readonly onDown: (why: SelvedgeError) => void;
  readonly onEvent: (event: string, data: unknown) => void;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

/** Between two looks whether a tunnel that was just started listens. */
const LOOK_MS = 10;
const checkAny = checker(AnyAnswer);

export class TunnelLink {
  readonly #options: TunnelLinkOptions;
  readonly #backoff: Backoff;
  readonly #over = Promise.withResolvers<void>();
  #running: Promise<void> | null = null;
  #connection: TunnelConnection | null = null;
  #error: SelvedgeError | null = null;
  #isClosed = false;
  #lastPid: number | null = null;
  #lost_ms: number | null = null;

  constructor(options: TunnelLinkOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, limits.tunnel_restart_ms_base, limits.backoff_ms_max);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Why there is no tunnel; null while there is one, or before the first try. */
  get error(): SelvedgeError | null {
    return this.#error;
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      try {
        await this.#session();
      } catch (error) {
        this.#error = asSelvedgeError(error, 'tunnel_unreachable', { path: this.#options.path });
        this.#options.log('no tunnel', { code: this.#error.code, reason: this.#error.message });
        await this.#pause(this.#backoff.next());
      }
    }
  }

  /** From connecting to the end of the connection. */
  async #session(): Promise<void> {
    const { onUp, onDown, log, timers } = this.#options;
    const connection = await this.#connect();
    this.#connection = connection;
    try {
      if (this.#isClosed) return;
      const hello = await this.#greet(connection);
      this.#backoff.reset();
      this.#error = null;
      const isAnother = this.#lastPid !== null && this.#lastPid !== hello.pid;
      const gap_ms = this.#lost_ms === null ? null : Math.round(timers.clock.now() - this.#lost_ms);
      log(isAnother ? 'tunnel runs again' : 'tunnel found', { pid: hello.pid, program: hello.program, generation: hello.generation ?? null, gap_ms });
      this.#lastPid = hello.pid;
      onUp(connection, hello);
      const why = await connection.closed;
      this.#lost_ms = timers.clock.now();
      if (!this.#isClosed) log('tunnel lost', { code: why.code, reason: why.message });
      onDown(why);
    } finally {
      connection.close();
      this.#connection = null;
    }
  }

  async #connect(): Promise<TunnelConnection> {
    const { path, timers, starter, onEvent } = this.#options;
    const open = () => TunnelConnection.open({ path, timers, onEvent });
    try {
      return await open();
    } catch (error) {
      if (starter === null || !(error instanceof SelvedgeError) || error.code !== 'tunnel_unreachable' || this.#isClosed) throw error;
    }
    await starter.start();
    const until_ms = timers.clock.now() + limits.tunnel_start_ms_max;
    for (;;) {
      try {
        return await open();
      } catch (error) {
        const why = await starter.ended();
        if (why !== null) throw why;
        if (timers.clock.now() >= until_ms || this.#isClosed) throw error;
      }
      await this.#pause(LOOK_MS);
    }
  }

  /** A tunnel of another protocol is asked to end, and our own takes its place: the networks are away for that moment, which is told. */
  async #greet(connection: TunnelConnection): Promise<HelloAnswer> {
    try {
      return await connection.hello();
    } catch (error) {
      if (error instanceof SelvedgeError && error.code === 'version_unsupported' && this.#options.starter !== null) {
        this.#options.log('tunnel of another version is replaced', { reason: error.message });
        this.#lost_ms = this.#options.timers.clock.now();
        await endTunnel(connection);
      }
      throw error;
    }
  }

  #pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.timers.after(ms, resolve);
    return Promise.race([promise, this.#over.promise]).finally(cancel);
  }

  /** Ends the tie, not the tunnel. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#over.resolve();
    this.#connection?.close();
    await this.#running;
  }

  /** Ends the tie and the tunnel, which removes what it made. */
  async dismiss(): Promise<void> {
    // First, so that its end is not taken for a crash.
    this.#isClosed = true;
    const connection = this.#connection;
    if (connection !== null) await endTunnel(connection);
    await this.close();
  }
}

/** Ends a tunnel that may be there from before. */
export async function dismissTunnel({ path, timers }: Pick<TunnelLinkOptions, 'path' | 'timers'>): Promise<void> {
  try {
    const connection = await TunnelConnection.open({ path, timers, onEvent: () => undefined });
    await endTunnel(connection);
    connection.close();
  } catch {
    // Nobody answers: there is none.
  }
}

/** Resolves when it is gone, or did not answer. It takes `close` without a greeting, so that one of any version can be ended. */
async function endTunnel(connection: TunnelConnection): Promise<void> {
  await connection.call('close', {}, checkAny).catch(() => undefined);
}
