/**
 * A running topology: network namespaces, links and programs of one run, owned by this process. `up` makes everything or nothing; `down`
 * removes everything, as does the next run after this process was killed.
 */
import { join } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { checkMachine, type CommandOptions, type CommandResult, mustRun, runCommand } from './command.ts';
import { LabLink } from './lab-link.ts';
import { LabProcess, type SpawnOptions } from './lab-process.ts';
import { blockUdpCommand, type Command, hostNamespace, type Plan, planTopology } from './plan.ts';
import { createRun, namespacePrefix, namespacesOf, removeLeftovers, removeRun, type RunRecord } from './run-record.ts';
import type { Host, Topology } from './topology.ts';

export interface LabOptions {
  /** A line for each thing that is done. */
  readonly log?: (line: string) => void;
  /** Aborted: `up` stops, and takes down what it made. */
  readonly signal?: AbortSignal;
}

export type LabSpawnOptions = Omit<SpawnOptions, 'logFile'>;

export class Lab implements AsyncDisposable {
  readonly topology: Topology;
  readonly run: string;
  /** For logs and files of the steps; goes with the run. */
  readonly directory: string;
  readonly #log: (line: string) => void;
  readonly #links = new Map<string, LabLink>();
  readonly #processes = new Set<LabProcess>();
  readonly #udpBlocked = new Map<string, boolean>();
  /** Namespaces that steps made beside the hosts, by name. */
  readonly #places = new Map<string, string>();
  #down: Promise<void> | null = null;

  private constructor(topology: Topology, record: RunRecord, log: (line: string) => void) {
    this.topology = topology;
    this.run = record.run;
    this.directory = record.directory;
    this.#log = log;
    for (const host of topology.hosts.values()) this.#udpBlocked.set(host.name, host.udpBlocked);
  }

  /** @throws permission_denied, native_missing, lab_failed */
  static async up(topology: Topology, options: LabOptions = {}): Promise<Lab> {
    await checkMachine();
    const log = options.log ?? (() => {});
    for (const run of await removeLeftovers()) log(`removed what run ${run} had left behind`);
    const lab = new Lab(topology, await createRun(topology.name), log);
    try {
      await lab.#build(planTopology(topology, lab.run), options.signal);
    } catch (error) {
      await lab.down();
      throw asSelvedgeError(error, 'lab_failed');
    }
    return lab;
  }

  /** Runs a program in a host to its end, whatever its exit code. */
  async tryExec(host: string, argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return runCommand('ip', this.#inside(host, argv), options);
  }

  /** Runs a program in a host to its end and gives what it printed. @throws lab_failed unless its exit code is 0 */
  async exec(host: string, argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return mustRun('ip', this.#inside(host, argv), options);
  }

  /** Starts a program in a host; the lab ends it at the latest in `down`. */
  spawn(host: string, argv: readonly string[], options: LabSpawnOptions): LabProcess {
    if (this.#down !== null) throw new SelvedgeError('handle_closed', { what: 'lab' });
    const child = new LabProcess('ip', this.#inside(host, argv), { ...options, logFile: join(this.directory, `${options.name}.log`) });
    this.#processes.add(child);
    void child.ended.then(() => this.#processes.delete(child));
    return child;
  }

  /** A namespace beside the hosts, such as a container's, with nothing but a loopback; programs run in it by this name. @returns its name for `ip netns` */
  async addNamespace(name: string): Promise<string> {
    if (this.topology.hosts.has(name) || this.#places.has(name))
      throw new SelvedgeError('lab_failed', { why: `there is a host or namespace '${name}' already` });
    const namespace = `${namespacePrefix(this.run)}place-${name}`;
    await this.#command({ program: 'ip', args: ['netns', 'add', namespace] });
    await this.#command({ program: 'ip', args: ['-n', namespace, 'link', 'set', 'lo', 'up'] });
    this.#places.set(name, namespace);
    return namespace;
  }

  /** From now on `host` passes no UDP, in or out or through (or does again). */
  async blockUdp(host: string, blocked: boolean): Promise<void> {
    await this.#command(blockUdpCommand(this.#host(host), hostNamespace(this.run, host), blocked));
    this.#udpBlocked.set(host, blocked);
  }

  udpBlocked(host: string): boolean {
    return this.#udpBlocked.get(this.#host(host).name) ?? false;
  }

  /** @throws not_found */
  link(name: string): LabLink {
    const link = this.#links.get(name);
    if (!link) throw new SelvedgeError('not_found', { what: 'link', name });
    return link;
  }

  /** Ends all programs, removes namespaces, interfaces and the run's directory. Idempotent. */
  down(): Promise<void> {
    this.#down ??= this.#takeDown();
    return this.#down;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }

  async #build(plan: Plan, signal: AbortSignal | undefined): Promise<void> {
    const step = async (command: Command) => {
      signal?.throwIfAborted();
      await this.#command(command);
    };
    for (const namespace of plan.namespaces) await step({ program: 'ip', args: ['netns', 'add', namespace] });
    for (const command of plan.switches) await step(command);
    for (const [index, { link, ends }] of plan.links.entries()) this.#links.set(link.name, await LabLink.open(link, ends, this.topology.seed + index));
    for (const command of plan.hosts) await step(command);
    this.#log(`lab ${this.topology.name} is up as run ${this.run}: ${plan.namespaces.length} namespaces, ${plan.links.length} links`);
  }

  async #takeDown(): Promise<void> {
    await Promise.all([...this.#processes].map((child) => child.stop()));
    await Promise.all([...this.#links.values()].map((link) => link.close()));
    await removeRun(this.run);
    const left = await namespacesOf(this.run);
    if (left.length > 0) throw new SelvedgeError('lab_failed', { why: `still there: ${left.join(', ')}` });
  }

  #inside(host: string, argv: readonly string[]): string[] {
    return ['netns', 'exec', this.#places.get(host) ?? hostNamespace(this.run, this.#host(host).name), ...argv];
  }

  #host(name: string): Host {
    const host = this.topology.hosts.get(name);
    if (!host) throw new SelvedgeError('not_found', { what: 'host', name });
    return host;
  }

  async #command(command: Command): Promise<void> {
    await mustRun(command.program, command.args, command.input === undefined ? {} : { input: command.input });
  }
}
