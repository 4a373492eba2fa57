import fc from 'fast-check';
import t from 'tap';
import { Type } from 'typebox';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { parseTopology, type StepSchemas } from '../../../src/lab/topology.ts';
import { stepSchemas } from '../../../src/lab/steps/registry.ts';
import { formatRate, parseLoss, parseQueue, parseRate, parseTime, queueBytes } from '../../../src/lab/units.ts';

const steps: StepSchemas = new Map([
  ['wait', Type.Object({ seconds: Type.Integer({ minimum: 1, description: 'a whole number of seconds' }) }, { additionalProperties: false })],
]);
const parse = (text: string) => parseTopology('my.yaml', text, steps);

const GOOD = `name: two
switches: [lan]
hosts:
  left:
    interfaces:
      eth: { on: lan, address: 10.0.0.1/24 }
  right:
    interfaces:
      eth: { on: wire, address: 10.0.0.2/24 }
links:
  wire:
    ends: [right, lan]
    rate: 8 Mbit/s
    delay: 1.5 ms
    backward: { rate: 1 Mbit/s, loss: 0.5 % }
steps:
  - wait: { seconds: 1 }
`;

function refusal(text: string): SelvedgeError {
  return refusalOf(() => parse(text));
}

function refusalOf(read: () => unknown): SelvedgeError {
  try {
    read();
  } catch (error) {
    if (error instanceof SelvedgeError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

t.test('a topology is read with its numbers, and a direction overrides what the link says', async (t) => {
  const topology = parse(GOOD);
  const wire = topology.links.get('wire');
  t.same(wire?.forward, { rate_bps: 8e6, delay_us: 1500, queue: { ms: 100 }, loss_ppm: 0 });
  t.same(wire?.backward, { rate_bps: 1e6, delay_us: 1500, queue: { ms: 100 }, loss_ppm: 5000 });
  t.same(topology.steps, [{ name: 'wait', parameters: { seconds: 1 } }]);
});

t.test('an error names file, line, key, what was found and what is allowed', async (t) => {
  const cases: readonly [change: [string, string], line: number, key: string, allowed: RegExp][] = [
    [['rate: 8 Mbit/s', 'rate: fast'], 13, 'links.wire.rate', /such as 50 Mbit\/s/],
    [['rate: 8 Mbit/s', 'speed: 8 Mbit/s'], 13, 'links.wire.speed', /ends, rate, delay, queue, loss/],
    [['delay: 1.5 ms', 'delay: 20'], 14, 'links.wire.delay', /such as 20 ms/],
    [['loss: 0.5 %', 'loss: 101 %'], 15, 'links.wire.backward.loss', /0 % to 100 %/],
    [['on: lan', 'on: lam'], 6, 'hosts.left.interfaces.eth.on', /one of lan/],
    [['10.0.0.1/24', '10.0.0.256/24'], 6, 'hosts.left.interfaces.eth.address', /prefix length/],
    [['10.0.0.1/24', '10.0.0.1/33'], 6, 'hosts.left.interfaces.eth.address', /prefix length/],
    [['ends: [right, lan]', 'ends: [right, moon]'], 12, 'links.wire.ends.1', /one of left, right, lan/],
    [['ends: [right, lan]', 'ends: [right]'], 12, 'links.wire.ends', /two hosts or switches/],
    [['ends: [right, lan]', 'ends: [lan, lan]'], 12, 'links.wire.ends', /different/],
    [['wait: { seconds: 1 }', 'dance'], 17, 'steps.0', /one of wait/],
    [['seconds: 1', 'seconds: 0'], 17, 'steps.0.wait.seconds', /whole number of seconds/],
    [['seconds: 1', 'hours: 1'], 17, 'steps.0.wait.hours', /seconds/],
    [['  left:', '  Left:'], 4, 'hosts.Left', /lower-case/],
    [['name: two\n', ''], 1, 'name', /a name/],
    [['switches: [lan]', 'switches: [lan, lan]'], 2, 'switches.1', /name of its own/],
  ];
  for (const [[from, to], line, key, allowed] of cases) {
    const error = refusal(GOOD.replace(from, to));
    t.equal(error.code, 'config_invalid', error.message);
    const told = [error, ...error.also].find(({ facts }) => facts.key === key);
    t.match(told?.facts, { file: 'my.yaml', line, allowed }, error.message);
  }
});

t.test('a step that names a host, node or link that is not there is refused when the file is read', async (t) => {
  const text = `name: two
switches: [lan]
hosts:
  left:
    role: node
    site: harbor
    interfaces:
      eth: { on: lan, address: 10.0.0.1/24 }
  right:
    interfaces:
      eth: { on: lan, address: 10.0.0.2/24 }
steps:
  - qos_quic: { node: lft }
  - fallback: { node: right, at: midle }
  - ping: { from: rigt, to: 10.0.0.1 }
  - link: { name: wire, rate: 1 Mbit/s }
  - udp: { host: left, blocked: true }
`;
  const error = refusalOf(() => parseTopology('my.yaml', text, stepSchemas));
  t.match(
    [error, ...error.also].map(({ facts: { line, key, found, allowed } }) => [line, key, found, allowed]),
    [
      [13, 'steps.0.qos_quic.node', "'lft'", 'a node of the topology: left'],
      [14, 'steps.1.fallback.node', "'right'", 'a node of the topology: left'],
      [14, 'steps.1.fallback.at', "'midle'", 'a host of the topology: left, right'],
      [15, 'steps.2.ping.from', "'rigt'", 'a host of the topology: left, right'],
      [16, 'steps.3.link.name', "'wire'", 'a link of the topology: it has none'],
    ],
  );
});

t.test('what is no YAML, a duplicate key and an alias bomb are refused with their line', async (t) => {
  t.match(refusal('name: [').facts, { key: 'YAML' });
  t.match(refusal(`${GOOD}name: again\n`).facts, { key: 'YAML', line: 18 });
  const bomb = `name: x\na: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n`;
  t.match(refusal(bomb).facts, { key: 'YAML' });
});

t.test('whatever the text, the answer is a topology or config_invalid', async () => {
  const fragments = fc.constantFrom(
    ...GOOD.split(/(?<=[\n:{},[\]])/),
    '&a ',
    '*a ',
    '- ',
    '? ',
    '!!binary ',
    '\t',
    '"',
    "'",
    '__proto__: 1\n',
    '<<: *a\n',
    '0x',
    '~',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(fragments, { maxLength: 60 }).map((parts) => parts.join('')),
      ),
      (text) => {
        try {
          parse(text);
        } catch (error) {
          return error instanceof SelvedgeError && error.code === 'config_invalid';
        }
        return true;
      },
    ),
    { numRuns: 2000 },
  );
});

t.test('any single line removed or doubled gives a topology or an error with a line of the file', async (t) => {
  const lines = GOOD.split('\n');
  for (const index of lines.keys()) {
    for (const changed of [lines.toSpliced(index, 1), lines.toSpliced(index, 0, lines[index] ?? '')]) {
      try {
        parse(changed.join('\n'));
      } catch (error) {
        t.ok(
          error instanceof SelvedgeError && error.code === 'config_invalid' && Number(error.facts.line) >= 1 && Number(error.facts.line) <= changed.length,
          String(error),
        );
      }
    }
  }
});

t.test('units read what they print, and refuse what is none of theirs', async (t) => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 9999 }), fc.constantFrom(1e3, 1e6), (count, unit) => parseRate(formatRate(count * unit)) !== null));
  t.equal(parseRate('50 Mbit/s'), 50e6);
  t.equal(parseTime('1.5 s'), 1_500_000);
  t.same(parseQueue('200 ms'), { ms: 200 });
  t.same(parseQueue('256 KiB'), { bytes: 262_144 });
  t.equal(parseLoss('0.5 %'), 5000);
  for (const text of ['', '50', '50 Mbit', '-1 Mbit/s', '0 bit/s', '11 Gbit/s', '1e9 bit/s', 'toString/s', '5 constructor/s'])
    t.equal(parseRate(text), null, text);
  t.equal(queueBytes({ ms: 200 }, 50e6), 1_250_000);
});
