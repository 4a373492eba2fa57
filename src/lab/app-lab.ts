/**
 * The app network that the steps about app networks share: made once, by the commands that an operator and a node's user type, with a server in a
 * namespace of one host and clients in namespaces of others. Knows the command lines and nothing of what is measured.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SelvedgeError } from '../base/errors.ts';
import { goFirstAsGroup } from './command.ts';
import type { Answer } from './fleet.ts';
import type { Lab } from './lab.ts';
import type { LabProcess } from './lab-process.ts';
import type { World } from './steps/step.ts';

/** What `selvedge status --json` tells of app networks, as far as the lab reads it. */
export interface AppFacts {
  readonly tunnel: { readonly pid: number | null; readonly is_current: boolean };
  readonly networks: readonly { readonly name: string; readonly addresses: readonly string[]; readonly refused: Readonly<Record<string, number>> }[];
  readonly peers: readonly { readonly node: string; readonly name: string; readonly path: string; readonly why: string }[];
}

/** A namespace on the network. */
export interface Place {
  /** In the lab, and on the network. */
  readonly name: string;
  readonly host: string;
  readonly address: string;
  readonly mac: string;
}

/** What a server of the network has heard so far; grows while it runs. */
export interface Heard {
  readonly requests: readonly { readonly url: string; readonly from: string }[];
  readonly datagrams: readonly string[];
  /** When it did not run itself. */
  readonly stalls: readonly { readonly at_ms: number; readonly gap_ms: number }[];
}

export const APP_NETWORK = 'shop';
/** As app-program.ts has them. */
export const APP_HTTP_PORT = 8080;
export const APP_UDP_PORT = 7000;
const POLL_MS = 100;
const PROGRAM = fileURLToPath(new URL('./steps/app-program.ts', import.meta.url));

export class AppLab {
  /** Of each lab that runs: the steps of one lab share it. */
  static readonly #labs = new WeakMap<Lab, AppLab>();
  readonly #world: World;
  readonly places = new Map<string, Place>();
  readonly #vnis = new Map<string, number>();
  readonly #heard = new Map<string, Heard>();

  private constructor(world: World) {
    this.#world = world;
  }

  static of(world: World): AppLab {
    const known = AppLab.#labs.get(world.lab) ?? new AppLab(world);
    AppLab.#labs.set(world.lab, known);
    return known;
  }

  /** By the server that `serve` started in a namespace. */
  heardBy(name: string): Heard | null {
    return this.#heard.get(name) ?? null;
  }

  vniOf(network: string): number {
    return this.#vnis.get(network) ?? 0;
  }

  async createNetwork(name: string, subnet: string, members: readonly string[]): Promise<void> {
    const fleet = this.#world.fleet();
    const { facts } = required(`app create ${name}`, await fleet.atTower(['app', 'create', name, '--subnet', subnet]));
    this.#vnis.set(name, Number(facts.vni));
    for (const member of members) required(`app add ${name} ${member}`, await fleet.atTower(['app', 'add', name, member]));
  }

  /** Until a node is a member and its tunnel runs. */
  async joined(host: string, network: string, within_ms: number): Promise<void> {
    const facts = await this.until(
      host,
      `${host} is no member of ${network}`,
      within_ms,
      (found) => found?.tunnel.is_current === true && found.networks.some(({ name }) => name === network),
    );
    // The daemon gave it a session of its own, which the kernel weighs by itself.
    goFirstAsGroup({ pid: facts?.tunnel.pid ?? undefined });
  }

  /** Puts a new namespace of a host on the network, in the one command that its user types. */
  async connect(host: string, name: string): Promise<Place> {
    const namespace = await this.#world.lab.addNamespace(name);
    const { facts } = required(`app connect on ${host}`, await this.#world.fleet().atNode(host, ['app', 'connect', APP_NETWORK, namespace, '--name', name]));
    const place = { name, host, address: String(facts.address4), mac: String(facts.mac) };
    this.places.set(name, place);
    return place;
  }

  async factsOf(host: string): Promise<AppFacts | null> {
    const answer = await this.#world.fleet().atNode(host, ['status']);
    return (answer.facts.app as AppFacts | null | undefined) ?? null;
  }

  /** Asks until what a node tells is as wanted. @throws lab_failed with `what` */
  async until(host: string, what: string, within_ms: number, wanted: (facts: AppFacts | null) => boolean): Promise<AppFacts | null> {
    const until_ms = performance.now() + within_ms;
    for (;;) {
      const facts = await this.factsOf(host);
      if (wanted(facts)) return facts;
      if (performance.now() > until_ms)
        throw new SelvedgeError('lab_failed', { why: `${what} after ${within_ms} ms: ${JSON.stringify(facts?.peers ?? facts)}` });
      await pause(POLL_MS, undefined, { signal: this.#world.signal });
    }
  }

  place(name: string): Place {
    const place = this.places.get(name);
    if (!place) throw new SelvedgeError('lab_failed', { why: `no namespace ${name} on the app network: the step app_network makes it` });
    return place;
  }

  /** A server in a namespace, which ends with the lab; resolves once it listens. */
  async serve(place: Place, file: string): Promise<Heard> {
    const heard = { requests: [] as { url: string; from: string }[], datagrams: [] as string[], stalls: [] as { at_ms: number; gap_ms: number }[] };
    const { promise, resolve } = Promise.withResolvers<void>();
    const server = this.run(place.name, ['serve', place.address, file], (facts) => {
      if (facts.listening === true) resolve();
      if (typeof facts.request === 'string') heard.requests.push({ url: facts.request, from: String(facts.from) });
      if (typeof facts.stalled_ms === 'number') heard.stalls.push({ at_ms: Number(facts.at_ms), gap_ms: facts.stalled_ms });
      if (typeof facts.datagram === 'string') heard.datagrams.push(facts.datagram);
    });
    const ended = server.ended.then(() => {
      throw new SelvedgeError('lab_failed', { why: `the server in ${place.name} ended: ${server.lastError}` });
    });
    await Promise.race([promise, ended]);
    ended.catch(() => {});
    this.#heard.set(place.name, heard);
    return heard;
  }

  /** Starts app-program.ts in a namespace or host; what it says comes parsed. */
  run(where: string, words: readonly string[], onFacts: (facts: Record<string, unknown>) => void = () => {}): LabProcess {
    return this.#world.lab.spawn(where, [process.execPath, PROGRAM, ...words], {
      name: `app-${words[0]}-${where}`,
      onLine: (line, stream) => {
        if (stream === 'stdout' && line.startsWith('{')) onFacts(JSON.parse(line) as Record<string, unknown>);
      },
    });
  }
}

export function required(what: string, answer: Answer): Answer {
  if (!answer.ok) throw new SelvedgeError('lab_failed', { why: `${what}: ${answer.text || answer.code || 'no message'}` });
  return answer;
}
