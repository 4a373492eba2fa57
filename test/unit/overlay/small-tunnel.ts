/** A tunnel for tests of the daemon's side: speaks the control protocol over a real Unix socket, keeps what it was told, and does what a test says. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { TunnelStarter } from '../../../src/overlay/tunnel-process.ts';
import type { DesiredState } from '../../../src/overlay/tunnel-wire.ts';

type Applied = DesiredState & { readonly generation: number };
type Answer = { readonly result: unknown } | { readonly error: { readonly code: string; readonly message: string } } | null;

export class SmallTunnel {
  readonly path: string;
  pid: number;
  version = 1;
  program = 'small 1';
  /** Every request, by method. */
  readonly methods: string[] = [];
  /** What is applied; survives a daemon, not this tunnel. */
  state: Applied | null = null;
  readonly applied: Applied[] = [];
  stats: object = { peers: [], networks: [] };
  underlay: object | null = null;
  /** Answers in place of the usual ones; null: none. */
  readonly answers = new Map<string, (params: never) => Answer>();
  #server: Server | null = null;
  readonly #sockets = new Set<Socket>();
  #waiters: (() => void)[] = [];

  constructor(path: string, pid = 100) {
    this.path = path;
    this.pid = pid;
  }

  async listen(): Promise<this> {
    this.#server = createServer((socket) => this.#serve(socket)).listen(this.path);
    await once(this.#server, 'listening');
    return this;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
    let rest = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#answer(socket, JSON.parse(line));
    });
  }

  #answer(socket: Socket, { id, method, params }: { id: number; method: string; params: never }): void {
    this.methods.push(method);
    const special = this.answers.get(method);
    const answer = special === undefined ? { result: this.#usual(method, params) } : special(params);
    if (answer !== null) socket.write(`${JSON.stringify({ id, ...answer })}\n`);
    for (const wake of this.#waiters.splice(0)) wake();
    if (method === 'close') void this.kill();
  }

  #usual(method: string, params: Applied): unknown {
    if (method === 'hello')
      return { version: this.version, program: this.program, pid: this.pid, engine: 'user', features: [], generation: this.state?.generation ?? null };
    if (method === 'apply') {
      const isSame = this.state !== null && JSON.stringify({ ...this.state, generation: 0 }) === JSON.stringify({ ...params, generation: 0 });
      this.state = params;
      this.applied.push(params);
      return { generation: params.generation, changed: isSame ? [] : ['something'], failures: [] };
    }
    if (method === 'actual')
      return { wireguard: { engine: 'user', why: '' }, peers: (this.state?.peers ?? []).map(({ node }) => ({ node, underlay: this.underlay })) };
    if (method === 'stats') return this.stats;
    return {};
  }

  /** Says a line to everyone connected. */
  say(line: string | Uint8Array): void {
    for (const socket of this.#sockets) socket.write(line);
  }

  event(event: string, data: object): void {
    this.say(`${JSON.stringify({ event, data })}\n`);
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Resolves once `isTrue` holds after some request. */
  async until(isTrue: () => boolean): Promise<void> {
    while (!isTrue()) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** As SIGKILL does: no word, no state. */
  async kill(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    this.state = null;
    for (const socket of this.#sockets) socket.destroy();
    if (server === null) return;
    server.close();
    await once(server, 'close');
  }
}

/** Starts small tunnels one after the other, each with a process number of its own. */
export class SmallStarter implements TunnelStarter {
  readonly #path: string;
  readonly #prepare: (tunnel: SmallTunnel) => void;
  started: SmallTunnel[] = [];

  constructor(path: string, prepare: (tunnel: SmallTunnel) => void = () => undefined) {
    this.#path = path;
    this.#prepare = prepare;
  }

  async start(): Promise<void> {
    const tunnel = new SmallTunnel(this.#path, 200 + this.started.length);
    this.#prepare(tunnel);
    this.started.push(await tunnel.listen());
  }

  async ended(): Promise<null> {
    return null;
  }

  get last(): SmallTunnel {
    const last = this.started.at(-1);
    if (last === undefined) throw new Error('none was started');
    return last;
  }
}

/** A path that is short enough for a socket. */
export function socketPath(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 't');
}
