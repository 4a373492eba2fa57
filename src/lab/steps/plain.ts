/** Steps that need no Selvedge: for topologies of one's own, and for the lab's own tests. */
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { percentile } from '../measure.ts';
import { nameOf } from '../schema.ts';
import { parseLoss, parseQueue, parseRate, parseTime, round } from '../units.ts';
import type { Shape } from '../topology.ts';
import { defineStep, judge } from './step.ts';

const host = (what: string) => nameOf('host', `${what}, a host of the topology`);

export const ping = defineStep(
  'ping',
  'ICMP echoes from one host to an address',
  Type.Object(
    {
      from: host('who asks'),
      to: Type.String({ description: 'an address' }),
      count: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'a whole number, 1 to 10000' })),
      p50_ms_max: Type.Optional(Type.Number({ minimum: 0, description: 'milliseconds' })),
      p99_ms_max: Type.Optional(Type.Number({ minimum: 0, description: 'milliseconds' })),
    },
    { additionalProperties: false, description: 'from, to, count, p50_ms_max, p99_ms_max' },
  ),
  async ({ lab, say }, { from, to, count = 100, p50_ms_max, p99_ms_max }) => {
    // The first echo also waits for the address resolution of each hop; it is asked before and not counted.
    await lab.tryExec(from, ['ping', '-n', '-c', '1', '-W', '5', to]);
    const { stdout } = await lab.tryExec(from, ['ping', '-n', '-i', '0.02', '-c', String(count), '-W', '5', to], { timeout_ms: count * 30 + 20_000 });
    const times = [...stdout.matchAll(/ time=([\d.]+) ms/g)].map((match) => Number(match[1]));
    if (times.length === 0) return judge({ received: 0 }, [['an echo comes back', false]]);
    const figures = { received: times.length, p50_ms: round(percentile(times, 0.5), 2), p99_ms: round(percentile(times, 0.99), 2) };
    say(`${times.length} of ${count} echoes, p50 ${figures.p50_ms} ms, p99 ${figures.p99_ms} ms`);
    return judge(figures, [
      [`p50 within ${p50_ms_max} ms`, p50_ms_max === undefined || figures.p50_ms <= p50_ms_max],
      [`p99 within ${p99_ms_max} ms`, p99_ms_max === undefined || figures.p99_ms <= p99_ms_max],
    ]);
  },
);

export const run = defineStep(
  'run',
  'a command in a host; ok if its exit code is 0',
  Type.Object(
    {
      host: host('where'),
      command: Type.Array(Type.String(), { minItems: 1, maxItems: 64, description: 'a list: program and arguments' }),
      within_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 3600, description: 'seconds, 1 to 3600' })),
    },
    { additionalProperties: false, description: 'host, command, within_s' },
  ),
  async ({ lab, say }, { host: where, command, within_s = 20 }) => {
    const result = await lab.tryExec(where, command, { timeout_ms: within_s * 1000 });
    for (const line of `${result.stdout}${result.stderr}`.trim().split('\n').slice(-8)) say(line);
    return judge({ exit_code: result.exitCode }, [[`${command[0]} ends with exit code 0`, result.exitCode === 0]]);
  },
);

export const udp = defineStep(
  'udp',
  'a host drops UDP from now on, or lets it pass',
  Type.Object({ host: host('which'), blocked: Type.Boolean({ description: 'true or false' }) }, { additionalProperties: false, description: 'host, blocked' }),
  async ({ lab, say }, { host: which, blocked }) => {
    await lab.blockUdp(which, blocked);
    say(`${which}: UDP ${blocked ? 'is dropped' : 'passes'}`);
    return judge({ blocked }, []);
  },
);

const shapeKeys = { rate: parseRate, delay: parseTime, queue: parseQueue, loss: parseLoss } as const;

export const link = defineStep(
  'link',
  'changes what a link does',
  Type.Object(
    {
      name: nameOf('link', 'a link of the topology'),
      rate: Type.Optional(Type.String({ description: 'such as 10 Mbit/s' })),
      delay: Type.Optional(Type.String({ description: 'such as 20 ms' })),
      queue: Type.Optional(Type.String({ description: 'such as 200 ms' })),
      loss: Type.Optional(Type.String({ description: 'such as 1 %' })),
    },
    { additionalProperties: false, description: 'name, rate, delay, queue, loss' },
  ),
  async ({ lab, say }, { name, ...texts }) => {
    const read = <K extends keyof typeof shapeKeys>(key: K) => {
      const text = texts[key];
      const value = text === undefined ? undefined : shapeKeys[key](text);
      if (value === null) throw new SelvedgeError('argument_invalid', { name: key, why: `'${text}'` });
      return value as Exclude<ReturnType<(typeof shapeKeys)[K]>, null> | undefined;
    };
    const [rate_bps, delay_us, queue, loss_ppm] = [read('rate'), read('delay'), read('queue'), read('loss')];
    const change: Partial<Shape> = {
      ...(rate_bps === undefined ? {} : { rate_bps }),
      ...(delay_us === undefined ? {} : { delay_us }),
      ...(queue === undefined ? {} : { queue }),
      ...(loss_ppm === undefined ? {} : { loss_ppm }),
    };
    await lab.link(name).set(change);
    say(
      `${name}: ${Object.entries(texts)
        .map(([key, text]) => `${key} ${text}`)
        .join(', ')}`,
    );
    return judge({}, []);
  },
);
