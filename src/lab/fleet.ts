/**
 * Selvedge in a lab: the tower and the nodes of a topology, driven the way an operator does it, by their programs and their `--json`.
 * Knows the command lines and nothing of what is measured.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, isErrorCode, SelvedgeError } from '../base/errors.ts';
import type { TrafficClass } from '../channel/classes.ts';
import type { Lab } from './lab.ts';
import type { LabProcess } from './lab-process.ts';
import { askSocket, type LocalRequest } from './local-api.ts';
import type { RttSample } from './measure.ts';
import { addressOf } from './paths.ts';
import type { Host } from './topology.ts';

/** What `selvedge status --json` tells of one channel. */
export interface ChannelStatus {
  readonly peer: string;
  readonly name: string;
  readonly state: string;
  readonly transport: string | null;
  readonly why: string;
  readonly rtt_ms: number | null;
  readonly classes: readonly string[];
  readonly bytes_sent: number;
  readonly bytes_received: number;
  readonly certificate_days: number | null;
}

/** What a program said with `--json`: its last object, and the code of its error if it failed. */
export interface Answer {
  readonly ok: boolean;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly code: ErrorCode | null;
  readonly text: string;
}

/** A line of `selvedge send --json`. */
export interface SendProgress {
  readonly at_ms: number;
  readonly bytes: number;
  readonly transport: string | null;
}

export interface SendRun {
  readonly process: LabProcess;
  /** Grows while it runs. */
  readonly progress: readonly SendProgress[];
  /** What it ended with; null fields if it failed. */
  readonly result: Promise<{ readonly ok: boolean; readonly sha256: string | null; readonly why: string }>;
}

export interface PingRun {
  /** Grows while it runs. */
  readonly samples: readonly RttSample[];
  /** All samples; rejects with `lab_failed` if it failed. Unless somebody waits for it, a failure is silent. */
  readonly ended: Promise<readonly RttSample[]>;
  readonly running: boolean;
  stop(): void;
}

export interface PingOptions {
  readonly count: number;
  readonly interval_ms: number;
  /** Of input unless told. */
  readonly class?: TrafficClass;
}

const PORT = '443';
const START_MS_MAX = 20_000;
const POLL_MS = 25;
const ADMIT_MS_MAX = 20_000;

const program = (name: string) => [process.execPath, fileURLToPath(new URL(`../../daemon/${name}.ts`, import.meta.url))];

export class Fleet {
  readonly tower: Host;
  readonly towerAddress: string;
  /** Those that join at first. */
  readonly nodes: readonly Host[];
  readonly #lab: Lab;
  readonly #signal: AbortSignal;
  readonly #running = new Map<string, LabProcess>();
  /** Nodes whose store takes no key file any more. */
  readonly #sealedBySite = new Set<string>();
  #fingerprint = '';

  /** @throws lab_failed unless the topology has one tower with an address, and a node */
  constructor(lab: Lab, signal: AbortSignal) {
    const hosts = [...lab.topology.hosts.values()];
    const towers = hosts.filter((host) => host.role === 'tower');
    const [tower] = towers;
    const address = tower?.interfaces.find((entry) => entry.address !== null)?.address;
    if (!tower || towers.length > 1 || typeof address !== 'string')
      throw new SelvedgeError('lab_failed', { why: `${towers.length} hosts with role: tower and an address; this step needs one` });
    this.#lab = lab;
    this.#signal = signal;
    this.tower = tower;
    this.towerAddress = addressOf(address);
    this.nodes = hosts.filter((host) => host.role === 'node' && !host.isLate);
  }

  get fingerprint(): string {
    return this.#fingerprint;
  }

  /** Another one than the tower was made with: who joins from now on pins it. */
  knowRoot(fingerprint: string): void {
    this.#fingerprint = fingerprint;
  }

  stateOf(host: string): string {
    return join(this.#lab.directory, `state-${host}`);
  }

  keyFileOf(host: string): string {
    return `${this.stateOf(host)}.key`;
  }

  /** Of the daemon that runs there. */
  pidOf(host: string): number | null {
    return this.#running.get(host)?.pid ?? null;
  }

  /** The last lines that each daemon logged, and how it ended if it did, for whoever looks for the cause of a failure. */
  async lastWords(lines: number): Promise<string[]> {
    const tail = async ([host, daemon]: readonly [string, LabProcess]) => {
      const text = await readFile(join(this.#lab.directory, `${host}.log`), 'utf8').catch(() => '');
      const end = daemon.running ? null : await daemon.ended;
      return [...text.trim().split('\n').slice(-lines), ...(end ? [`ended with ${end.signal ?? `exit code ${end.code}`}`] : [])].map(
        (line) => `${host}: ${line}`,
      );
    };
    return (await Promise.all([...this.#running].map(tail))).flat();
  }

  /** Of a node that joined later: its token, which it has used. */
  tokenFileOf(host: string): string {
    return join(this.#lab.directory, `token-${host}`);
  }

  get inbox(): string {
    return join(this.stateOf(this.tower.name), 'inbox');
  }

  async initTower(cluster: string): Promise<Answer> {
    const answer = await this.#call(this.tower.name, 'tower', ['init', '--cluster', cluster, ...this.#stateArguments(this.tower.name), '--json']);
    this.#fingerprint = String(answer.facts.fingerprint ?? '');
    return answer;
  }

  async startTower(): Promise<void> {
    const address = ['--listen', this.towerAddress, '--port', PORT, '--advertise', this.towerAddress];
    await this.#start(this.tower.name, [...program('tower'), 'run', ...this.#stateArguments(this.tower.name), ...address], 'tower.sock');
  }

  async startNode(node: string, extra: readonly string[] = [], onLine?: (line: string) => void): Promise<void> {
    const address = this.#address(node);
    const listen = address === null ? [] : ['--listen', address, '--port', PORT];
    await this.#start(node, [...program('selvedged'), ...this.#stateArguments(node), ...listen, ...extra], 'selvedged.sock', onLine);
  }

  /** `selvedge …` at the tower, with `--json`. */
  async atTower(args: readonly string[]): Promise<Answer> {
    return this.#call(this.tower.name, 'selvedge', [...args, '--socket', join(this.stateOf(this.tower.name), 'tower.sock'), '--json']);
  }

  /** `selvedge …` at a node, with `--json`. */
  async atNode(node: string, args: readonly string[]): Promise<Answer> {
    return this.#call(node, 'selvedge', [...args, '--state', this.stateOf(node), '--json']);
  }

  /** Waits until the node holds its site's token and a boot identity, so that it could start without anything else. @throws lab_failed */
  async holdsSiteToken(node: string, within_ms: number): Promise<void> {
    const until = performance.now() + within_ms;
    for (;;) {
      const answer = await this.atNode(node, ['status']);
      const boot = await readFile(join(this.stateOf(node), 'boot.json'), 'utf8').catch(() => '');
      if (
        Number((answer.facts.self as Record<string, unknown> | undefined)?.site_generation ?? 0) > 0 &&
        (parseFacts(boot.replaceAll('\n', ''))?.identity ?? null) !== null
      )
        return;
      if (performance.now() > until) throw new SelvedgeError('lab_failed', { why: `${node} holds no token of its site` });
      await pause(POLL_MS, undefined, { signal: this.#signal });
    }
  }

  /** Stops the node and seals its store with its site's token; from then on it is started without a key. @throws lab_failed */
  async resealToSite(node: string): Promise<void> {
    await this.stop(node);
    const answer = await this.#call(node, 'selvedge', ['store', 'reseal', '--to', 'site', ...this.#stateArguments(node), '--json']);
    if (!answer.ok) throw new SelvedgeError('lab_failed', { why: `store reseal of ${node}: ${answer.text}` });
    this.#sealedBySite.add(node);
  }

  /** Starts a node whose store is sealed with its site's token, and tells who said the key. */
  async restart(node: string): Promise<{ readonly unsealed_by: string; readonly after_ms: number }> {
    let told = { unsealed_by: '', after_ms: 0 };
    await this.startNode(node, [], (line) => {
      const facts = parseFacts(line);
      if (facts?.msg === 'the store is unsealed') told = { unsealed_by: String(facts.unsealed_by), after_ms: Number(facts.after_ms) };
    });
    return told;
  }

  /** Starts a node that is to be told no key, and ends it: the code with which the tower (or, null, a node of the site) refused. `none` if nobody did in time. */
  async refusedStart(node: string, by: string | null, within_ms: number): Promise<string> {
    const refused = Promise.withResolvers<string>();
    const daemon = this.#lab.spawn(node, [...program('selvedged'), ...this.#stateArguments(node)], {
      name: node,
      onLine: (line) => {
        const facts = parseFacts(line);
        if (facts?.msg === 'no key for the store' && facts.code !== 'network_unreachable' && (facts.by === 'tower') === (by !== null))
          refused.resolve(String(facts.code));
        if (facts?.msg === 'node runs') refused.resolve('started');
      },
    });
    const timer = setTimeout(() => refused.resolve('none'), within_ms);
    void daemon.ended.then(() => refused.resolve('ended'));
    const code = await refused.promise;
    clearTimeout(timer);
    await daemon.stop();
    return code;
  }

  /** Waits until the peer has been told that the node is not one of its site any more. @throws lab_failed */
  async forgets(peer: string, node: string, within_ms: number): Promise<void> {
    const until = performance.now() + within_ms;
    while ((await this.channels(peer)).some((channel) => channel.name === node)) {
      if (performance.now() > until) throw new SelvedgeError('lab_failed', { why: `${peer} still knows ${node}` });
      await pause(POLL_MS, undefined, { signal: this.#signal });
    }
  }

  /** What the local API of a host's daemon answers. @throws lab_failed */
  ask(host: string, method: 'GET' | 'POST' | 'DELETE', path: string, more: LocalRequest = {}): Promise<Readonly<Record<string, unknown>>> {
    return askSocket(join(this.stateOf(host), host === this.tower.name ? 'tower.sock' : 'selvedged.sock'), method, path, more);
  }

  /** SIGKILL: nothing is said to anybody. */
  async kill(host: string): Promise<void> {
    const daemon = this.#running.get(host);
    daemon?.kill('SIGKILL');
    await daemon?.ended;
  }

  async stop(host: string): Promise<void> {
    await this.#running.get(host)?.stop();
  }

  /** The token goes by file, never by argument. */
  async createToken(uses: number): Promise<Answer> {
    return this.atTower(['token', 'create', '--uses', String(uses), '--expires', '1h']);
  }

  async join(host: string, tokenFile: string, name: string, site: string, state: string): Promise<Answer> {
    const where = ['--tower', `${this.towerAddress}:${PORT}`, '--fingerprint', this.#fingerprint, '--token-file', tokenFile];
    return this.#call(host, 'selvedge', ['join', ...where, '--name', name, '--site', site, '--state', state, '--key-file', `${state}.key`, '--json']);
  }

  /** A node that joins later: with a token of its own, and its daemon is started. Nothing for one that has joined. @throws lab_failed */
  async admit(name: string): Promise<void> {
    const host = this.#lab.topology.hosts.get(name);
    if (host?.role !== 'node') throw new SelvedgeError('lab_failed', { why: `${name} is no node of this topology` });
    if (!host.isLate || this.#running.has(name)) return;
    const token = await this.createToken(1);
    const tokenFile = this.tokenFileOf(name);
    await writeFile(tokenFile, `${String(token.facts.token)}\n`, { mode: 0o600 });
    const joined = await this.join(name, tokenFile, name, host.site ?? 'none', this.stateOf(name));
    if (!joined.ok) throw new SelvedgeError('lab_failed', { why: `join of ${name}: ${joined.text || joined.code || 'no message'}` });
    await this.startNode(name);
    await this.established(name, this.tower.name, ADMIT_MS_MAX);
  }

  async channels(node: string): Promise<readonly ChannelStatus[]> {
    const answer = await this.atNode(node, ['status']);
    return answer.ok ? ((answer.facts.channels as ChannelStatus[] | undefined) ?? []) : [];
  }

  /** Asks until the channel to `peer` (a name) is established, and as `wanted` says. @throws lab_failed with what it was instead */
  established(node: string, peer: string, within_ms: number, wanted: (channel: ChannelStatus) => boolean = () => true): Promise<ChannelStatus> {
    return this.hasState(node, peer, 'established', within_ms, wanted);
  }

  /** The same for any state. */
  async hasState(
    node: string,
    peer: string,
    state: ChannelStatus['state'],
    within_ms: number,
    wanted: (channel: ChannelStatus) => boolean = () => true,
  ): Promise<ChannelStatus> {
    const until = performance.now() + within_ms;
    for (;;) {
      const channel = (await this.channels(node)).find((entry) => entry.name === peer);
      if (channel?.state === state && wanted(channel)) return channel;
      if (performance.now() > until) {
        const found = channel ? `${channel.state} on ${channel.transport ?? 'nothing'} (${channel.why})` : 'no channel';
        throw new SelvedgeError('lab_failed', { why: `${node} to ${peer} after ${Math.round(within_ms)} ms: ${found}` });
      }
      await pause(POLL_MS, undefined, { signal: this.#signal });
    }
  }

  /** 64-byte echoes, of class `input` unless told. */
  ping(node: string, peer: string, { count, interval_ms, class: cls = 'input' }: PingOptions): PingRun {
    const samples: RttSample[] = [];
    const options = [
      '--class',
      cls,
      '--count',
      String(count),
      '--interval',
      String(interval_ms),
      '--size',
      '64',
      '--follow',
      '--json',
      '--state',
      this.stateOf(node),
    ];
    const child = this.#lab.spawn(node, [...program('selvedge'), 'ping', peer, ...options], {
      name: `ping-${node}`,
      onLine: (line, stream) => {
        const facts = stream === 'stdout' ? parseFacts(line) : null;
        if (typeof facts?.rtt_ms === 'number') samples.push({ at_ms: performance.now(), rtt_ms: facts.rtt_ms });
      },
    });
    const ended = child.succeeded().then(() => samples);
    ended.catch(() => {});
    return {
      samples,
      ended,
      get running() {
        return child.running;
      },
      stop: () => child.kill('SIGTERM'),
    };
  }

  /** One echo through the channel, or null if it did not come back in time. */
  async pingOnce(node: string, peer: string, within_ms: number): Promise<number | null> {
    const run = this.#lab.spawn(node, [...program('selvedge'), 'ping', peer, '--class', 'input', '--count', '1', '--json', '--state', this.stateOf(node)], {
      name: `ping-${node}`,
    });
    const timer = setTimeout(() => run.kill('SIGKILL'), within_ms);
    const end = await run.ended;
    clearTimeout(timer);
    return end.code === 0 ? performance.now() : null;
  }

  send(node: string, file: string, peer: string): SendRun {
    const progress: SendProgress[] = [];
    let last: Readonly<Record<string, unknown>> = {};
    const child = this.#lab.spawn(node, [...program('selvedge'), 'send', file, peer, '--class', 'file_transfer', '--json', '--state', this.stateOf(node)], {
      name: `send-${node}`,
      onLine: (line) => {
        const facts = parseFacts(line);
        if (!facts) return;
        last = facts;
        if (typeof facts.bytes === 'number')
          progress.push({ at_ms: performance.now(), bytes: facts.bytes, transport: typeof facts.transport === 'string' ? facts.transport : null });
      },
    });
    const result = child.ended.then(({ code }) => ({
      ok: code === 0 && last.done === true,
      sha256: typeof last.sha256 === 'string' ? last.sha256 : null,
      why: child.lastError || JSON.stringify(last),
    }));
    return { process: child, progress, result };
  }

  #address(host: string): string | null {
    const address = this.#lab.topology.hosts.get(host)?.interfaces.find((entry) => entry.address !== null)?.address;
    return typeof address === 'string' ? addressOf(address) : null;
  }

  #stateArguments(host: string): string[] {
    return ['--state', this.stateOf(host), ...(this.#sealedBySite.has(host) ? [] : ['--key-file', this.keyFileOf(host)])];
  }

  /** Starts a daemon and waits until its local socket answers. */
  async #start(host: string, argv: readonly string[], socket: string, onLine?: (line: string) => void): Promise<void> {
    const daemon = this.#lab.spawn(host, argv, { name: host, ...(onLine && { onLine }) });
    this.#running.set(host, daemon);
    const until = performance.now() + START_MS_MAX;
    while (!(await accepts(join(this.stateOf(host), socket)))) {
      const why = daemon.running ? `not ready within ${START_MS_MAX} ms` : 'ended at its start';
      if (!daemon.running || performance.now() > until)
        throw new SelvedgeError('lab_failed', { why: `the daemon of ${host}: ${why}: ${daemon.lastError || 'no message'}` });
      await pause(POLL_MS, undefined, { signal: this.#signal });
    }
  }

  async #call(host: string, name: string, args: readonly string[]): Promise<Answer> {
    const { stdout, stderr, exitCode } = await this.#lab.tryExec(host, [...program(name), ...args]);
    const facts = lastFacts(stdout) ?? {};
    return {
      ok: exitCode === 0,
      facts,
      code: exitCode === 0 ? null : (codeIn(facts) ?? codeIn(lastFacts(stderr)) ?? codeInText(stderr)),
      text: (stderr || stdout).trim(),
    };
  }
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
}

function parseFacts(line: string): Record<string, unknown> | null {
  if (!line.startsWith('{')) return null;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return null;
  }
}

/** The object that a program printed: all of its output, or its last line that is one. */
function lastFacts(text: string): Record<string, unknown> | null {
  return (
    parseFacts(text.trim()) ??
    text
      .trim()
      .split('\n')
      .map(parseFacts)
      .findLast((facts) => facts !== null) ??
    null
  );
}

function codeIn(facts: Readonly<Record<string, unknown>> | null): ErrorCode | null {
  const inner = facts?.error;
  const code = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>).code : facts?.code;
  return typeof code === 'string' && isErrorCode(code) ? code : null;
}

function codeInText(text: string): ErrorCode | null {
  return text.match(/[a-z]+(?:_[a-z]+)+/g)?.find(isErrorCode) ?? null;
}
