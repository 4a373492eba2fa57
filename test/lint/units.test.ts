/** The units of contrib/systemd name what there is: programs, options, files of the state, and directives that systemd knows. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { stateFiles } from '../../src/enroll/state.ts';
import { stateFiles as towerFiles } from '../../src/tower/backup/state-files.ts';
import { DEFAULT_KEY_FILE } from '../../src/identity/unseal.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Where the units think that the clone is. */
const INSTALLED = '/opt/selvedge/';
const units = ['selvedged', 'selvedge-tower'] as const;

const unitText = (name: string) => readFileSync(join(root, `contrib/systemd/${name}.service`), 'utf8');
const valuesOf = (text: string, key: string) => [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value);

for (const name of units) {
  t.test(`${name}.service starts a program that is there, with options that it has`, async (t) => {
    const [command = '', ...more] = valuesOf(unitText(name), 'ExecStart');
    t.same(more, []);
    const [node = '', program = '', ...words] = command.split(' ');
    t.ok([node, program].every((path) => path.startsWith(INSTALLED)));
    accessSync(join(root, node.slice(INSTALLED.length)), constants.X_OK);
    const subcommands = words.slice(
      0,
      words.findIndex((word) => word.startsWith('--')),
    );
    const help = spawnSync(process.execPath, [join(root, program.slice(INSTALLED.length)), ...subcommands, '--help'], { encoding: 'utf8' });
    t.equal(help.status, 0, help.stderr);
    for (const option of words.filter((word) => word.startsWith('--'))) t.match(help.stdout, new RegExp(`^ +${option} `, 'm'));
  });
}

t.test('they begin where a host has joined, or a cluster was made, and take the key file of that', async (t) => {
  const [node, tower] = [unitText('selvedged'), unitText('selvedge-tower')];
  t.same(valuesOf(node, 'ConditionPathExists'), [`/var/lib/selvedge/node/${stateFiles.identity}`]);
  t.same(valuesOf(tower, 'ConditionPathExists'), [`/var/lib/selvedge/tower/${towerFiles.tower}`]);
  for (const text of [node, tower]) t.same(valuesOf(text, 'LoadCredential'), [`unseal.key:${DEFAULT_KEY_FILE}`]);
});

t.test('a restart of the node ends its daemon alone, and leaves what the tunnel needs', async (t) => {
  const text = unitText('selvedged');
  t.same(valuesOf(text, 'KillMode'), ['process']);
  t.same(valuesOf(text, 'RuntimeDirectoryPreserve'), ['yes']);
  t.match(valuesOf(text, 'CapabilityBoundingSet')[0], 'CAP_NET_ADMIN');
  t.match(valuesOf(text, 'DeviceAllow'), ['/dev/net/tun rw']);
  t.same(valuesOf(text, 'PrivateDevices'), [], 'it would hide /dev/net/tun');
});

const hasAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0;
t.test('systemd finds no fault in them', { skip: hasAnalyze ? false : 'systemd-analyze is not installed' }, async (t) => {
  const folder = t.testdir();
  const paths = units.map((name) => {
    const path = join(folder, `${name}.service`);
    writeFileSync(path, unitText(name).replaceAll(INSTALLED, root));
    return path;
  });
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--recursive-errors=no', ...paths], { encoding: 'utf8' });
  t.same([status, stdout, stderr], [0, '', '']);
});
