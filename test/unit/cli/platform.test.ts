/** `selvedge platform …` against a real tower behind its socket, and a configuration file that becomes proofs. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { TowerConfig } from '../../../daemon/config.ts';
import { YamlFile } from '../../../src/config/yaml-file.ts';
import { platformProofs } from '../../../src/enroll/platform/settings.ts';
import { adminApi } from '../../../src/tower/api.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { makeTower } from '../tower/support.ts';

t.setTimeout(120_000);

const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));

async function tower(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const socketPath = join(folder, 's');
  const api = await adminApi(await makeTower(t), socketPath);
  t.teardown(() => api.close());
  return async (...args: string[]) => {
    const child = spawn(process.execPath, [program, 'platform', ...args, '--socket', socketPath], { stdio: ['ignore', 'pipe', 'pipe'] });
    const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { status: await closed, stdout, stderr };
  };
}

t.test('hosts are recorded, listed, revoked and removed', async (t) => {
  const platform = await tower(t);
  const facts = ['--fact', 'account=123456789012', '--fact', 'role=edge-*'];
  const added = await platform('add', 'aws', ...facts, '--site', 'harbor', '--uses', '3', '--expires', '7d', '--from', '10.0.0.0/8', '--json');
  const host = JSON.parse(added.stdout) as { id: string };
  t.match(host, { kind: 'aws', facts: { account: '123456789012', role: 'edge-*' }, site: 'harbor', uses: 0, uses_max: 3 });
  t.match((await platform('list')).stdout, new RegExp(`${host.id} +aws +account=123456789012 role=edge-\\* +harbor +0 of 3 +valid for`));
  t.match((await platform('revoke', 'aws', host.id)).stdout, /is revoked/);
  t.match((await platform('list')).stdout, /revoked/);
  t.match((await platform('remove', 'aws', host.id)).stdout, /is removed/);
  t.match(JSON.parse((await platform('list', '--json')).stdout), { hosts: [] });
});

t.test('what cannot be recorded is refused with what is wrong', async (t) => {
  const platform = await tower(t);
  const wrong: [string[], RegExp][] = [
    [['add', 'aws', '--fact', 'role=edge'], /must name account/],
    [['add', 'aws', '--fact', 'account'], /NAME=VALUE/],
    [['add', 'azure', '--fact', 'x=y'], /not one of aws, google, kubernetes/],
    [['add', 'google', '--fact', 'project=p', '--fact', 'color=red'], /no such fact/],
    [['add', 'google', '--fact', 'project=p', '--name', 'one', '--uses', '2'], /for one node/],
    [['remove', 'aws', '000000000000'], /not found/],
  ];
  for (const [args, message] of wrong) {
    const { status, stderr } = await platform(...args);
    t.match(stderr, message, args.join(' '));
    t.not(status, 0);
  }
});

t.test('the configuration of a tower names the platforms that it asks', async (t) => {
  const folder = t.testdir({ 'roots.pem': 'x', 'keys.json': '{}' });
  const read = async (yaml: string) => {
    const { platforms = {} } = new YamlFile('tower.yaml', yaml).check(TowerConfig);
    return (await platformProofs(platforms, systemClock)).map(({ kind }) => kind);
  };
  const file = join(folder, 'tower.yaml');
  writeFileSync(file, '');
  t.same(await read(''), []);
  const good = `
platforms:
  aws: { endpoints: [{ host: sts.eu-central-1.amazonaws.com }, { host: sts.amazonaws.com, address: "https://10.0.0.1:8443" }], inside: [10.0.0.0/8] }
  google: {}
  kubernetes:
    - { issuer: "https://k8s.example", keys_file: ${folder}/keys.json, plain: true }
    - { issuer: "https://other.example", keys_url: "https://10.0.0.1:6443/openid/v1/jwks", inside: [10.0.0.0/24], roots_file: ${folder}/roots.pem }`;
  t.same(await read(good), ['aws', 'google', 'kubernetes']);
  const wrong: Record<string, string> = {
    config_invalid: 'platforms: { azure: {} }',
    'config_invalid ': 'platforms: { aws: { endpoints: [] } }',
    'config_invalid  ': 'platforms: { google: { keys_url: "http://www.googleapis.com/certs" } }',
    'config_invalid   ': 'platforms: { kubernetes: [{ issuer: "https://k8s.example", keys_file: x, algorithm: HS256 }] }',
    argument_invalid: 'platforms: { kubernetes: [{ issuer: "https://k8s.example" }] }',
    'argument_invalid ': 'platforms: { google: { inside: [10.0.0.0/99] } }',
    not_found: 'platforms: { google: { roots_file: /nowhere } }',
  };
  for (const [code, yaml] of Object.entries(wrong)) await t.rejects(read(yaml), { code: code.trim() }, yaml);
});
