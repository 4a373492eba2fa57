/**
 * One simulation: a tower and its nodes, from one seed, on the real channel, session-choosing and peering code, with faults, under invariants. The same seed
 * gives the same run, octet for octet; what it did is told as a transcript.
 */
import { createHash } from 'node:crypto';
import type { ErrorCode } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { TrafficClass } from '../../channel/classes.ts';
import type { ChannelState } from '../../channel/states.ts';
import type { FlowHandle } from '../../peering/mesh.ts';
import { Agenda } from './agenda.ts';
import { Directory, identityOf, TOWER, TOWER_CLASS } from './directory.ts';
import { endFaults, type FaultRates, planFaults, usualFaults } from './faults.ts';
import { SimHost } from './host.ts';
import { SimNetwork } from './network.ts';
import { Watch } from './watch.ts';
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
  /** The same by code. */
  readonly failures: Readonly<Record<string, number>>;
  readonly sessions: number;
}

const MINUTE_MS = 60_000;
const VIOLATED = 'VIOLATED';
const bugCodes: readonly ErrorCode[] = ['frame_invalid', 'frame_too_large', 'flow_violation', 'version_unsupported', 'internal_error'];
const toldOff = new RegExp(bugCodes.join('|'));
/** After the last fault every pair must have its channel again: the longest backoff, a dial that times out, a connection that must first be found dead. */
const HEAL_MS_MAX = 120_000;
/** States in which there is something to say. */
const speaking: ReadonlySet<ChannelState> = new Set(['established', 'degraded', 'draining']);
/** Between two looks at whether everything is as it should be again, which costs more than a moment. */
const LOOK_MS = 100;
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
  readonly #counts: Workload = { done: 0, failed: new Map(), open: new Set() };
  readonly #watch: Watch;
  #isTelling = false;
  #ailing: SimHost | null = null;

  constructor(options: SimOptions) {
    this.#options = options;
    this.#agenda = new Agenda(options.seed);
    this.#network = new SimNetwork(this.#agenda);
    const identities = Array.from({ length: options.nodes }, (_, index) => identityOf(index + 1, options.sites));
    this.#directory = new Directory(identities);
    const world = { agenda: this.#agenda, network: this.#network, directory: this.#directory, note: this.#note };
    const serve: ConstructorParameters<typeof SimHost>[2] = (mesh, host) =>
      serveWorkload(
        mesh,
        this.#agenda,
        () => this.#slowReader_ms(),
        this.#violated,
        (flow) => this.#watch.begun(host, flow),
      );
    this.#tower = new SimHost(TOWER, world, serve);
    this.#directory.onReissued = () => this.#tellSoon();
    this.#hosts = identities.map((identity) => new SimHost(identity, world, serve));
    this.#watch = new Watch({ agenda: this.#agenda, directory: this.#directory, hosts: [this.#tower, ...this.#hosts], violated: this.#violated });
    this.#network.watch = (from, to, session, side, head) => this.#watch.frame(from, to, session, side, head);
  }

  readonly #note = (who: string, what: string): void => {
    // Everybody here is honest: whoever is told off has met a bug.
    const [, peer] = /^channel revalidation failed (\S+) certificate_invalid/.exec(what) ?? [];
    if (peer !== undefined) this.#watch.endedByRoot(who, peer);
    if (who !== VIOLATED && toldOff.test(what)) this.#violated(`${who}: ${what}`);
    const line = `${(this.#agenda.now / 1_000).toFixed(3).padStart(9)}  ${who.padEnd(8)} ${what}`;
    this.#transcript.push(line);
    if (this.#transcript.length > 2 * TRANSCRIPT_LINES_MAX) this.#digestLines(this.#transcript.splice(0, TRANSCRIPT_LINES_MAX));
  };

  /** Leaves are issued one by one, and told of together. */
  #tellSoon(): void {
    if (this.#isTelling) return;
    this.#isTelling = true;
    this.#agenda.at(this.#agenda.now + limits.leaf_publish_ms / 2, () => {
      this.#isTelling = false;
      this.#tower.directoryChanged();
    });
  }

  #digestLines(lines: readonly string[]): void {
    this.#digest.update(lines.join('\n'));
  }

  readonly #violated = (what: string): void => {
    this.#note(VIOLATED, what);
    if (this.#violations.length < VIOLATIONS_MAX) this.#violations.push(what);
  };

  #slowReader_ms(): number {
    return this.#agenda.random.below(SLOW_READER_ONE_IN) === 0 ? SLOW_READER_MS : 0;
  }

  async run(): Promise<SimResult> {
    const { minutes, faults = usualFaults, plant } = this.#options;
    const world = {
      agenda: this.#agenda,
      network: this.#network,
      directory: this.#directory,
      hosts: this.#hosts,
      tower: this.#tower,
      note: this.#note,
      violated: this.#violated,
    };
    const until = this.#agenda.now + minutes * MINUTE_MS;
    plant?.(world);
    try {
      for (const host of [this.#tower, ...this.#hosts]) host.start();
      planFaults(world, faults, until);
      this.#planConversations(until);
      await this.#runUntil(until);
      endFaults(world);
      await this.#heal();
      await this.#end();
    } catch (error) {
      this.#violated(`it cannot go on: ${error instanceof Error ? error.message : String(error)}`);
    }
    this.#digestLines(this.#transcript);
    return {
      seed: this.#options.seed,
      violations: this.#violations,
      transcript: this.#transcript.slice(-TRANSCRIPT_LINES_MAX),
      digest: this.#digest.digest('hex'),
      virtual_ms: this.#agenda.now,
      flows_done: this.#counts.done,
      flows_failed: [...this.#counts.failed.values()].reduce((sum, count) => sum + count, 0),
      failures: Object.fromEntries(this.#counts.failed),
      sessions: this.#network.sessionsMade,
    };
  }

  async #runUntil(until: number): Promise<void> {
    await this.#agenda.runSettled(until, () => this.#isHopeless);
  }

  /** Until `isSo`, for at most `ms`. */
  async #runWhen(isSo: () => boolean, ms: number): Promise<void> {
    const until = this.#agenda.now + ms;
    while (this.#agenda.now < until && !this.#isHopeless && !isSo()) await this.#runUntil(Math.min(until, this.#agenda.now + LOOK_MS));
  }

  get #isHopeless(): boolean {
    return this.#violations.length >= VIOLATIONS_MAX;
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
    const peers = mesh.status().filter(({ state }) => speaking.has(state));
    const peer = peers[random.below(Math.max(1, peers.length))];
    if (peer === undefined) return;
    const talk = {
      mesh,
      peer: peer.peer,
      agenda: this.#agenda,
      violated: this.#violated,
      begun: (flow: FlowHandle) => this.#watch.begun(host, flow),
      mayBeDenied: (cls: TrafficClass) => cls === TOWER_CLASS || this.#directory.wasDenied(cls),
      isAlive: () => host.mesh === mesh,
    };
    converse(talk, this.#counts);
  }

  // ---- what must hold in the end

  async #heal(): Promise<void> {
    const began = this.#agenda.now;
    await this.#runWhen(() => this.#isHealed, HEAL_MS_MAX);
    for (const pair of this.#live.flatMap((host) => this.#missing(host))) this.#violated(`${HEAL_MS_MAX} ms after the last fault ${pair}`);
    this.#note('network', `healed within ${Math.round(this.#agenda.now - began)} ms`);
    const unended = (): number => [...this.#counts.open].filter((isAlive) => isAlive()).length;
    const isSilent = (): boolean => unended() === 0;
    await this.#runWhen(isSilent, HEAL_MS_MAX);
    if (!isSilent()) this.#violated(`${unended()} conversations do not end, long after the last fault`);
  }

  get #live(): SimHost[] {
    return this.#hosts.filter(({ identity }) => this.#directory.revokedAt(identity.node) === null);
  }

  /** Whoever was not healed at the last look is asked first. */
  get #isHealed(): boolean {
    if (this.#ailing !== null && this.#missing(this.#ailing).length > 0) return false;
    this.#ailing = this.#live.find((host) => this.#missing(host).length > 0) ?? null;
    return this.#ailing === null;
  }

  /** Channels that this host should have and has not. */
  #missing(host: SimHost): string[] {
    const { site } = host.identity;
    const expected = [this.#tower, ...this.#live.filter((other) => other !== host && other.identity.site === site)];
    const status = new Map(host.mesh?.status().map((row) => [row.peer, row]));
    return expected.flatMap((other) => {
      const row = status.get(other.identity.node);
      if (row?.state === 'established' && !row.suspect) return [];
      return [`${host.name} has no channel with ${other.name}: ${row === undefined ? 'none' : `${row.state}${row.suspect ? ', suspect' : ''}, ${row.why}`}`];
    });
  }

  async #end(): Promise<void> {
    for (const host of [this.#tower, ...this.#hosts]) void host.close();
    await this.#runUntil(this.#agenda.now + HEAL_MS_MAX);
    if (this.#network.liveSessions > 0) this.#violated(`${this.#network.liveSessions} sessions are open after everything was closed`);
    if (this.#agenda.planned > 0) this.#violated(`${this.#agenda.planned} timers are left after everything was closed`);
  }
}
