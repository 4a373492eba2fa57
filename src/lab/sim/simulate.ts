/**
 * One simulation: a tower and its nodes, from one seed, on the real channel, session-choosing and peering code, with faults, under invariants. The same seed
 * gives the same run, octet for octet; what it did is told as a transcript.
 */
import { createHash } from 'node:crypto';
import type { ErrorCode } from '../../base/errors.ts';
import { frameTypes } from '../../channel/frames.ts';
import type { MemoryPair } from '../../transport/memory.ts';
import { Agenda } from './agenda.ts';
import { Directory, identityOf, shortName, TOWER } from './directory.ts';
import { endFaults, type FaultRates, planFaults, usualFaults } from './faults.ts';
import { SimHost } from './host.ts';
import { SimNetwork } from './network.ts';
import { converse, serveWorkload, type Workload } from './workload.ts';

export interface SimOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly sites: number;
  /** Virtual; faults happen in it, and the time to heal comes on top. */
  readonly minutes: number;
  readonly faults?: FaultRates;
  /** Conversations that begin, of all nodes together. */
  readonly conversations_per_minute?: number;
  /** Breaks something on purpose: what the simulator must find. */
  readonly plant?: (world: { readonly agenda: Agenda; readonly network: SimNetwork; readonly hosts: readonly SimHost[]; readonly tower: SimHost }) => void;
}

export interface SimResult {
  readonly seed: number;
  readonly violations: readonly string[];
  /** The last lines of what happened. */
  readonly transcript: readonly string[];
  /** SHA-256 of the whole transcript, hex: the same for the same seed. */
  readonly digest: string;
  readonly virtual_ms: number;
  readonly flows_done: number;
  readonly flows_failed: number;
  readonly sessions: number;
}

const MINUTE_MS = 60_000;
const VIOLATED = 'VIOLATED';
const bugCodes: readonly ErrorCode[] = ['frame_invalid', 'frame_too_large', 'flow_violation', 'version_unsupported', 'internal_error'];
/** After the last fault every pair must have its channel again: the longest backoff, a dial that times out, a connection that must first be found dead. */
const HEAL_MS_MAX = 120_000;
/** What a host may take to act on a revocation that it knows of: one turn of its program. */
const REVOKED_MS_MAX = 50;
const TRANSCRIPT_LINES_MAX = 400;
const VIOLATIONS_MAX = 20;
const CONVERSATIONS_PER_MINUTE = 20;
/** One reader in so many is slow, and pauses for so long. */
const SLOW_READER_ONE_IN = 5;
const SLOW_READER_MS = 400;

export async function simulate(options: SimOptions): Promise<SimResult> {
  return await new Simulation(options).run();
}

class Simulation {
  readonly #options: SimOptions;
  readonly #agenda: Agenda;
  readonly #network: SimNetwork;
  readonly #directory: Directory;
  readonly #tower: SimHost;
  readonly #hosts: readonly SimHost[];
  readonly #digest = createHash('sha256');
  readonly #transcript: string[] = [];
  readonly #violations: string[] = [];
  readonly #counts: Workload = { begun: 0, done: 0, failed: 0, open: new Set() };
  /** Sessions of which the acceptor has said that it accepts. */
  readonly #accepted = new WeakSet<MemoryPair>();
  /** When a host learned that another is revoked. */
  readonly #learned = new Map<string, number>();

  constructor(options: SimOptions) {
    this.#options = options;
    this.#agenda = new Agenda(options.seed);
    this.#network = new SimNetwork(this.#agenda);
    this.#network.watch = (from, to, session, side, head) => this.#watchFrame(from, to, session, side, head[0] ?? -1);
    const identities = Array.from({ length: options.nodes }, (_, index) => identityOf(index + 1, options.sites));
    this.#directory = new Directory(identities);
    const world = { agenda: this.#agenda, network: this.#network, directory: this.#directory, note: this.#note };
    const serve: ConstructorParameters<typeof SimHost>[2] = (mesh) => serveWorkload(mesh, this.#agenda, () => this.#slowReader_ms(), this.#violated);
    this.#tower = new SimHost(TOWER, world, serve);
    this.#hosts = identities.map((identity) => new SimHost(identity, world, serve));
  }

  readonly #note = (who: string, what: string): void => {
    // Everybody here is honest: whoever is told off has met a bug.
    const bug = bugCodes.find((code) => what.includes(code));
    if (bug !== undefined && who !== VIOLATED) this.#violated(`${who}: ${what}`);
    const line = `${(this.#agenda.now / 1_000).toFixed(3).padStart(9)}  ${who.padEnd(8)} ${what}`;
    this.#digest.update(line);
    this.#transcript.push(line);
    if (this.#transcript.length > 2 * TRANSCRIPT_LINES_MAX) this.#transcript.splice(0, TRANSCRIPT_LINES_MAX);
  };

  readonly #violated = (what: string): void => {
    this.#note(VIOLATED, what);
    if (this.#violations.length < VIOLATIONS_MAX) this.#violations.push(what);
  };

  #slowReader_ms(): number {
    return this.#agenda.random.below(SLOW_READER_ONE_IN) === 0 ? SLOW_READER_MS : 0;
  }

  async run(): Promise<SimResult> {
    const { minutes, faults = usualFaults, plant } = this.#options;
    const world = { agenda: this.#agenda, network: this.#network, directory: this.#directory, hosts: this.#hosts, tower: this.#tower, note: this.#note };
    const until = this.#agenda.now + minutes * MINUTE_MS;
    plant?.(world);
    for (const host of [this.#tower, ...this.#hosts]) host.start();
    planFaults(world, faults, until);
    this.#planConversations(until);
    await this.#runUntil(until);
    endFaults(world);
    await this.#heal();
    await this.#end();
    return {
      seed: this.#options.seed,
      violations: this.#violations,
      transcript: this.#transcript.slice(-TRANSCRIPT_LINES_MAX),
      digest: this.#digest.digest('hex'),
      virtual_ms: this.#agenda.now,
      flows_done: this.#counts.done,
      flows_failed: this.#counts.failed,
      sessions: this.#network.sessionsMade,
    };
  }

  async #runUntil(until: number, isDone: () => boolean = () => false): Promise<void> {
    await this.#agenda.runSettled(until, () => isDone() || this.#violations.length >= VIOLATIONS_MAX);
  }

  #planConversations(until: number): void {
    const { conversations_per_minute = CONVERSATIONS_PER_MINUTE } = this.#options;
    const { random } = this.#agenda;
    const plan = (): void => {
      const at = this.#agenda.now - Math.log(1 - random.unit()) * (MINUTE_MS / conversations_per_minute);
      if (at >= until) return;
      this.#agenda.at(at, () => {
        this.#converse();
        plan();
      });
    };
    plan();
  }

  #converse(): void {
    const { random } = this.#agenda;
    const host = this.#hosts[random.below(this.#hosts.length)];
    const mesh = host?.mesh;
    if (!mesh) return;
    const peers = mesh.status().filter(({ state }) => state === 'established');
    const peer = peers[random.below(Math.max(1, peers.length))];
    if (peer !== undefined) converse(mesh, peer.peer, this.#agenda, this.#counts, this.#violated, () => host.mesh === mesh);
  }

  // ---- what must hold at every step

  #watchFrame(from: string, to: string, session: MemoryPair, side: 'dialer' | 'acceptor', type: number): void {
    if (type === frameTypes.accept && side === 'acceptor') this.#accepted.add(session);
    else if (type !== frameTypes.hello && !this.#accepted.has(session))
      this.#violated(`${shortName(from)} sends frame ${type} to ${shortName(to)} before it was accepted`);
    const learned = this.#learnedOf(from, to);
    if (learned !== null && this.#agenda.now > learned + REVOKED_MS_MAX)
      this.#violated(
        `${shortName(from)} sends frame ${type} to ${shortName(to)}, which it has known to be revoked for ${Math.round(this.#agenda.now - learned)} ms`,
      );
    const { unsent_bytes } = session[side].facts();
    if (unsent_bytes > UNSENT_BYTES_MAX) this.#violated(`a session of ${shortName(from)} holds ${unsent_bytes} octets back`);
  }

  /** Since when `host` knows that `other` is revoked; null: it is not, or the host has not heard. */
  #learnedOf(host: string, other: string): number | null {
    if (this.#directory.revokedAt(other) === null) return null;
    const key = `${host}>${other}`;
    const known = this.#learned.get(key);
    if (known !== undefined) return known;
    const program = host === TOWER.node ? this.#tower : this.#hosts.find(({ identity }) => identity.node === host);
    if (program === undefined || !program.knowsRevoked(other)) return null;
    this.#learned.set(key, this.#agenda.now);
    return this.#agenda.now;
  }

  // ---- what must hold in the end

  async #heal(): Promise<void> {
    const began = this.#agenda.now;
    await this.#runUntil(began + HEAL_MS_MAX, () => this.#missing().length === 0);
    for (const pair of this.#missing()) this.#violated(`${HEAL_MS_MAX} ms after the last fault ${pair}`);
    this.#note('network', `healed within ${Math.round(this.#agenda.now - began)} ms`);
    const unended = (): number => [...this.#counts.open].filter((isAlive) => isAlive()).length;
    const isSilent = (): boolean => unended() === 0;
    await this.#runUntil(this.#agenda.now + HEAL_MS_MAX, isSilent);
    if (!isSilent()) this.#violated(`${unended()} conversations do not end, long after the last fault`);
  }

  /** Pairs that should have a channel and have not. */
  #missing(): string[] {
    const live = this.#hosts.filter(({ identity }) => this.#directory.revokedAt(identity.node) === null);
    return live.flatMap((host) => {
      const expected = [this.#tower, ...live.filter((other) => other !== host && other.identity.site === host.identity.site)];
      const status = new Map(host.mesh?.status().map((row) => [row.peer, row]));
      return expected.flatMap((other) => {
        const row = status.get(other.identity.node);
        if (row?.state === 'established' && !row.suspect) return [];
        return [`${host.name} has no channel with ${other.name}: ${row === undefined ? 'none' : `${row.state}${row.suspect ? ', suspect' : ''}, ${row.why}`}`];
      });
    });
  }

  async #end(): Promise<void> {
    for (const host of [this.#tower, ...this.#hosts]) void host.close();
    await this.#runUntil(this.#agenda.now + HEAL_MS_MAX);
    if (this.#network.liveSessions > 0) this.#violated(`${this.#network.liveSessions} sessions are open after everything was closed`);
    if (this.#agenda.planned > 0) this.#violated(`${this.#agenda.planned} timers are left after everything was closed`);
  }
}

/** Of both lanes: what a session may hold back, and one frame of each. */
const UNSENT_BYTES_MAX = 2 * (8 * 1_048_576 + 65_536 + 64);
