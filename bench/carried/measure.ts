/** Two nodes with the real daemons and tunnels in a lab: one TCP flow between them directly and carried in turn, and echoes of class `input` beside what is carried. */
import { writeFile } from 'node:fs/promises';
import { percentile } from '../../src/lab/measure.ts';
import { CarriedLab } from '../../test/lab/fixtures/carried-lab.ts';
import { iperfEnd } from '../iperf.ts';

const TO = '10.9.0.3';
const ECHO_INTERVAL_MS = 20;
const ECHOES_IDLE = 400;
const ECHOES_BEFORE = 50;
export const LINE_MBIT = 50;

const LINKS = {
  clean: '',
  lossy: 'links: { wire: { ends: [a, internet], rate: 1 Gbit/s, delay: 20 ms, loss: 1 % } }',
  line: `links: { wire: { ends: [a, internet], rate: ${LINE_MBIT} Mbit/s, delay: 20 ms, queue: 200 ms } }`,
} as const;
export type PathName = keyof typeof LINKS;

export interface Settings {
  readonly rounds: number;
  /** Of one flow. */
  readonly seconds: number;
  /** TCP of the flow inside. */
  readonly congestion: string;
  readonly directory: string;
}

export interface FlowRound {
  readonly direct_mbit: number;
  readonly carried_mbit: number;
}

export interface InputRound {
  readonly carried_mbit: number;
  /** What the carried flow adds to an echo's median and 99th percentile. */
  readonly added_p50_ms: number;
  readonly added_p99_ms: number;
}

/** UDP that comes and goes is trusted later each time (docs/app-networks.md): who waits for that in a lab of many rounds waits for minutes. */
const ROUNDS_PER_LAB = 2;

export async function measureFlows(path: PathName, settings: Settings): Promise<readonly FlowRound[]> {
  const rounds: FlowRound[] = [];
  while (rounds.length < settings.rounds) {
    await using lab = await PathLab.up(path, settings);
    // In its first seconds a daemon's time is the compiler's, and daemons live longer than that.
    await flowRound(lab, `${path}, not counted`);
    const last = Math.min(settings.rounds, rounds.length + ROUNDS_PER_LAB);
    while (rounds.length < last) rounds.push(await flowRound(lab, `${path} ${rounds.length + 1}`));
  }
  return rounds;
}

async function flowRound(lab: PathLab, name: string): Promise<FlowRound> {
  const direct_mbit = await lab.flow('direct');
  await lab.carried.udp('b', false);
  const carried_mbit = await lab.flow('carried');
  await lab.carried.udp('b', true);
  console.log(`${name}: direct ${direct_mbit.toFixed(1)}, carried ${carried_mbit.toFixed(1)} Mbit/s`);
  return { direct_mbit, carried_mbit };
}

export async function measureInput(settings: Settings): Promise<readonly InputRound[]> {
  await using lab = await PathLab.up('line', settings);
  await lab.carried.udp('b', false);
  await lab.on('carried');
  const rounds: InputRound[] = [];
  while (rounds.length < settings.rounds) {
    const idle = await lab.echoes(ECHOES_IDLE);
    const count = ECHOES_BEFORE + Math.round((settings.seconds * 1_000) / ECHO_INTERVAL_MS);
    const [beside, carried_mbit] = await Promise.all([lab.echoes(count), lab.flow('carried')]);
    // While the flow begins, the governor learns the path.
    const added = (part: number) => percentile(beside, part) - percentile(idle, part);
    rounds.push({ carried_mbit, added_p50_ms: added(0.5), added_p99_ms: added(0.99) });
    console.log(`line ${rounds.length}: ${JSON.stringify(rounds.at(-1))}`);
  }
  return rounds;
}

class PathLab {
  readonly carried: CarriedLab;
  readonly #settings: Settings;

  private constructor(carried: CarriedLab, settings: Settings) {
    this.carried = carried;
    this.#settings = settings;
  }

  static async up(path: PathName, settings: Settings): Promise<PathLab> {
    const file = `${settings.directory}/${path}.yaml`;
    await writeFile(file, topology(path));
    const lab = new PathLab(await CarriedLab.up(file), settings);
    await new Promise<void>((resolve) =>
      lab.carried.lab.spawn('b', ['iperf3', '-s', '--forceflush'], { name: 'iperf3', onLine: (line) => line.startsWith('Server listening') && resolve() }),
    );
    return lab;
  }

  /** Once both ends are on the path and the other host answers. */
  async on(path: 'direct' | 'carried'): Promise<void> {
    await this.carried.reached('a', TO);
    await this.carried.on('a', 'b', path);
    await this.carried.on('b', 'a', path);
  }

  /** Mbit/s of one TCP flow that arrived. */
  async flow(path: 'direct' | 'carried'): Promise<number> {
    const { seconds, congestion } = this.#settings;
    await this.on(path);
    const argv = ['iperf3', '-J', '-c', TO, '-t', String(seconds), '-C', congestion];
    const text = await this.carried.lab.exec('a', argv, { timeout_ms: seconds * 1_000 + 30_000 });
    return iperfEnd(text).sum_received.bits_per_second / 1e6;
  }

  /** Round trips in ms, over the channel between the two. */
  async echoes(count: number): Promise<readonly number[]> {
    const samples = await this.carried.fleet.ping('a', 'b', { count, interval_ms: ECHO_INTERVAL_MS }).ended;
    return samples.map(({ rtt_ms }) => rtt_ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.carried.down();
  }
}

function topology(path: PathName): string {
  return `name: carried-${path}
about: Two nodes of one site and their tower
switches: [internet]
hosts:
  tower: { role: tower, interfaces: { wan: { on: internet, address: 203.0.113.10/24 } } }
  a: { role: node, site: harbor, interfaces: { wan: { on: ${path === 'clean' ? 'internet' : 'wire'}, address: 203.0.113.11/24 } } }
  b: { role: node, site: harbor, interfaces: { wan: { on: internet, address: 203.0.113.12/24 } } }
${LINKS[path]}
`;
}
