/** The command line as a user meets it: its arguments, what it prints, and its exit codes. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { address, duration, integer, socketOf, trafficClass } from '../../../daemon/cli/arguments.ts';
import { formatBytes, formatMs, formatSeconds, printable } from '../../../daemon/cli/output.ts';

const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));

const root = fileURLToPath(new URL('../../..', import.meta.url));

function selvedge(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  return { status, stdout, stderr };
}

t.test('help lists every command and the exit codes, and ends with 0', async (t) => {
  const { status, stdout } = selvedge('--help');
  t.equal(status, 0);
  for (const name of ['status', 'peers', 'ping', 'send', 'join', 'token', 'app', 'tower', 'netcheck', 'lab', 'version'])
    t.match(stdout, new RegExp(`^  ${name} `, 'm'));
  t.match(stdout, /Exit codes/);
});

t.test('every program of the package is there, may be run, and tells what it is', async (t) => {
  const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { bin: Record<string, string> };
  t.same(Object.keys(bin).sort(), ['selvedge', 'selvedge-tunnel', 'selvedged']);
  for (const [name, path] of Object.entries(bin)) {
    accessSync(join(root, path), constants.X_OK);
    // The first line of a script names `node`, which is to be this one.
    const env = { ...process.env, PATH: `${join(process.execPath, '..')}:${process.env.PATH}` };
    const { status, stdout } = spawnSync(join(root, path), ['--help'], { encoding: 'utf8', env });
    t.match({ status, stdout }, { status: 0, stdout: new RegExp(`\\b${name}\\b`) });
  }
});

t.test('help of each program says which key file it takes, and only of what makes one that it does', async (t) => {
  const help = (...args: string[]) => selvedge(...args, '--help').stdout.replace(/\s+/g, ' ');
  const [init, run, join_] = [help('tower', 'init'), help('tower', 'run'), help('join')];
  for (const text of [init, run, join_]) t.match(text, /--key-file <file> [^-]*\(default: \/etc\/selvedge\/unseal\.key\)/);
  for (const text of [init, join_]) t.match(text, /made if it is missing/);
  t.notMatch(run, /if it is missing/);
});

t.test('version tells the version of the package, for people and programs', async (t) => {
  t.match(selvedge('version').stdout, /^selvedge \d+\.\d+\.\d+ /);
  t.match(JSON.parse(selvedge('version', '--json').stdout), { version: /^\d+\.\d+\.\d+$/, node: process.versions.node });
});

t.test('wrong usage ends with 2: an unknown command, a missing argument, a value that is not allowed', async (t) => {
  t.match(selvedge('nonsense'), { status: 2, stderr: /unknown command 'nonsense'/ });
  t.match(selvedge('send', 'file'), { status: 2, stderr: /missing required argument/ });
  t.match(selvedge('ping', 'b', '--count', '0'), { status: 2, stderr: /count.*whole number from 1/ });
  t.match(selvedge('ping', 'b', '--class', 'everything'), { status: 2, stderr: /fabric_control.*vpn_packet/ });
  t.match(selvedge('token', 'revoke', 'nope'), { status: 2, stderr: /'nope' is not an id of 12 hexadecimal digits.*\[argument_invalid\]/s });
  t.notMatch(selvedge('token', 'revoke', 'svt_000000000000_secret').stderr, /secret/);
});

t.test('no daemon ends with 3, and says what to do, as text or JSON', async (t) => {
  const state = join(t.testdir(), 'none');
  t.match(selvedge('status', '--state', state), { status: 3, stderr: /no daemon answers at .*selvedged\.sock.*\n +Start `selvedged`.*\[daemon_unreachable\]/ });
  const { status, stdout, stderr } = selvedge('status', '--state', state, '--json');
  t.equal(status, 3);
  t.equal(stdout, '');
  t.match(JSON.parse(stderr), { error: { code: 'daemon_unreachable' } });
});

t.test('a tower is made, and a second one is not made over it', async (t) => {
  const folder = t.testdir();
  const args = ['tower', 'init', '--cluster', 'edge', '--state', join(folder, 'tower'), '--key-file', join(folder, 'key'), '--json'];
  const first = selvedge(...args);
  t.equal(first.status, 0);
  t.match(JSON.parse(first.stdout), { cluster: 'edge', fingerprint: /^sha256:[0-9a-f]{64}$/ });
  t.equal(selvedge(...args).status, 1);
});

t.test('joining refuses what cannot be before anything is made', async (t) => {
  const folder = t.testdir({ token: 'no token at all\n', empty: '\n', large: 'x'.repeat(100_000) });
  const base = [
    'join',
    '--tower',
    '127.0.0.1:1',
    '--token-file',
    join(folder, 'token'),
    '--state',
    join(folder, 'node'),
    '--key-file',
    join(folder, 'key'),
    '--name',
    'a',
  ];
  t.not(selvedge(...base, '--fingerprint', 'sha256:12', '--json').status, 0);
  t.match(JSON.parse(selvedge(...base, '--fingerprint', `sha256:${'0'.repeat(64)}`, '--json').stderr), { error: { code: 'token_invalid' } });
  const without = (file: string) => {
    const args = base.map((word) => (word === join(folder, 'token') ? file : word));
    return JSON.parse(selvedge(...args, '--fingerprint', `sha256:${'0'.repeat(64)}`, '--json').stderr) as unknown;
  };
  t.match(without(join(folder, 'empty')), { error: { code: 'token_invalid', message: `token refused: ${join(folder, 'empty')} is empty` } });
  t.match(without('-'), { error: { code: 'token_invalid', message: 'token refused: standard input is empty' } });
  t.match(without(join(folder, 'large')), { error: { code: 'token_invalid', message: /holds none: 100000 bytes long/ } });
  t.match(without(join(folder, 'none')), { error: { code: 'not_found', remedy: /token create/ } });
});

t.test('lab list tells the topologies that come along', async (t) => {
  const { status, stdout } = selvedge('lab', 'list', '--json');
  t.equal(status, 0);
  t.match(JSON.parse(stdout).labs[0], { name: 'edge-site', steps: Array });
});

t.test('arguments are parsed within their bounds', async (t) => {
  t.equal(duration('x')('90s'), 90_000);
  t.equal(duration('x')('7d'), 7 * 86_400_000);
  for (const bad of ['', '1', 's', '1.5h', '-1s', '1 h']) t.throws(() => duration('x')(bad), { code: 'argument_invalid' });
  t.equal(integer('x', 1, 3)('3'), 3);
  for (const bad of ['', '0', '4', '1e0', '0x1', '-1', ' 1']) t.throws(() => integer('x', 1, 3)(bad), { code: 'argument_invalid' });
  t.same(address('203.0.113.5'), { host: '203.0.113.5', port: 443 });
  t.same(address('tower.example:8443'), { host: 'tower.example', port: 8443 });
  t.same(address('[2001:db8::5]:1'), { host: '2001:db8::5', port: 1 });
  t.same(address('2001:db8::5'), { host: '2001:db8::5', port: 443 });
  for (const bad of ['', 'a:0', 'a:65536', 'a b', 'http://a', '[::1']) t.throws(() => address(bad), { code: 'argument_invalid' });
  t.equal(trafficClass('input'), 'input');
  t.match(socketOf({ state: '/nowhere' }), '/nowhere/selvedged.sock');
});

t.test('figures are short, and nothing from outside moves the cursor', async (t) => {
  t.equal(formatBytes(999), '999 B');
  t.equal(formatBytes(1_500), '1.5 kB');
  t.equal(formatBytes(300_000_000), '300 MB');
  t.equal(formatMs(null), '-');
  t.equal(formatMs(1.234), '1.23 ms');
  t.equal(formatMs(41.26), '41.3 ms');
  t.equal(formatSeconds(59), '59 s');
  t.equal(formatSeconds(3_725), '1 h 2 min');
  t.equal(printable('a\x1b[2Jb'), 'a?[2Jb');
});
