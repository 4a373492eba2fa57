/** What is wrong with a file that a person wrote: all of it at once, each fault where they wrote it. */
import t from 'tap';
import { NodeConfig } from '../../../daemon/config.ts';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { YamlFile } from '../../../src/config/yaml-file.ts';

function refusal(text: string): SelvedgeError {
  try {
    new YamlFile('node.yaml', text).check(NodeConfig);
  } catch (error) {
    if (error instanceof SelvedgeError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

const faultsOf = (text: string) => {
  const error = refusal(text);
  return [error, ...error.also].map(({ facts: { line, key, found } }) => [line, key, found]);
};

t.test('every fault of a file is told, in its order, with what is allowed', async (t) => {
  const error = refusal("state: /s\nlisen: 192.0.2.7\nport: '443'\nadvertise: [a b, 3]\nwireguard_engine: fast\ngovernor: 1\nwireguard_port: 0\n");
  t.strictSame(
    [error, ...error.also].map(({ message }) => message),
    [
      'node.yaml:2: lisen: this key is not allowed; allowed: state, key_file, passphrase_file, listen, port, advertise, governor, admission, certificate_file, certificate_key_file, insecure_development, metrics, drain, wireguard_engine, wireguard_port, wireguard_fwmark, wireguard_key_days, underlay_ipv4_only, tunnel_socket, unseal',
      "node.yaml:3: port: '443' is not allowed; allowed: a whole number from 1 to 65535",
      "node.yaml:4: advertise.0: 'a b' is not allowed; allowed: an IP address or host name",
      'node.yaml:4: advertise.1: 3 is not allowed; allowed: an IP address or host name',
      "node.yaml:5: wireguard_engine: 'fast' is not allowed; allowed: auto, kernel or user",
      'node.yaml:6: governor: 1 is not allowed; allowed: true or false',
      'node.yaml:7: wireguard_port: 0 is not allowed; allowed: a whole number from 1 to 65534',
    ],
  );
  t.match(error, { code: 'config_invalid', facts: { faults: 7 } });
  t.match(JSON.parse(JSON.stringify(error)), { code: 'config_invalid', also: [{ facts: { line: 3 } }, {}, {}, {}, {}, {}] });
  t.match(refusal('port: 0\n').also, [], 'one alone is one');
});

t.test('a file that says nothing is a file', async (t) => {
  for (const text of ['', '# later\n', '---\n']) t.same(new YamlFile('node.yaml', text).check(NodeConfig), {});
});

t.test('of very many only so many are told, and how many there are', async (t) => {
  const error = refusal(Array.from({ length: 60 }, (_one, index) => `key${index}: 1\n`).join(''));
  t.equal(error.also.length, limits.config_faults_max - 1);
  t.equal(error.facts.faults, 60);
});

t.test('a fault of the syntax is told where it was written', async (t) => {
  const cases: [string, number[]][] = [
    ['state: /s\nlisten: "192.0.2.7\nport: 443\ngovernor: true\n', [2]],
    ["state: '/s\nlisten: 192.0.2.7\n", [1]],
    ['state: /s\nadvertise: [a, b\nport: 443\n', [2]],
    ['state: /s\n  listen: 192.0.2.7\nport: 443\n', [2]],
    ['# first\n\nstate: /s\n  port: 443\ngovernor: true\n', [4]],
    ['state: /s\nport 443\ngovernor: true\n', [2]],
    ['state: /s\nlisten: a: b\n', [2]],
    ['state: /s\nport: 443\n\tgovernor: true\n', [3]],
    ['state: /s\nlisten: @x\nport: 1\nstate: /t\n', [2, 4]],
    ['state: /s\nport: 443\nlisten: *nowhere\n', [3]],
  ];
  for (const [text, lines] of cases) {
    const faults = faultsOf(text);
    t.same(
      faults.map(([line]) => line),
      lines,
      text,
    );
    t.ok(
      faults.every(([, key]) => key === 'YAML'),
      text,
    );
  }
});
