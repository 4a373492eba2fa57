/**
 * Set-up, for a clean clone on a machine with Node ≥ 20, npm and (for the lab) root: `node scripts/setup.mjs [start|test|install]`.
 * npm runs it before `npm start` and `npm test`, so it uses plain Node and no packages. Each step first looks whether there is
 * anything to do; when all is in place it takes well under a second.
 *
 * `install` is what npm runs at the end of `npm install`: packages are there by then, and system packages are not its business.
 * For `start` everything that the lab needs must be there; for `test` what is missing is told, and the tests of the lab fail.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildNative, root } from './native.mjs';
import { environment, findProgram, Missing, reporter, run } from './terminal.mjs';

const NODE_MAJOR_MIN = 20;

/** Programs, and the Debian package that has each. */
const debianPackages = { ip: 'iproute2', nft: 'nftables', iperf3: 'iperf3', ping: 'iputils-ping', cc: 'gcc', unshare: 'util-linux', wg: 'wireguard-tools' };

/** What only the tests run. */
const debianPackagesForTests = { 'softhsm2-util': 'softhsm2', haproxy: 'haproxy' };

/** The packages that npm is asked for, and what is there. */
async function packages() {
  const report = reporter('npm packages');
  const lock = readLock('package-lock.json');
  const reason = staleReason(lock, readLock('node_modules/.package-lock.json'));
  if (reason === null) return;
  report.start(`installing ${Object.keys(lock.packages).length - 1} packages: ${reason}`);
  // The npm that runs this script, with the node it runs on: node_modules may be replaced under us.
  const [npm, ...first] = process.env.npm_execpath && process.env.npm_node_execpath ? [process.env.npm_node_execpath, process.env.npm_execpath] : ['npm'];
  const env = { ...environment };
  for (const name of ['npm_config_omit', 'NODE_ENV', 'npm_config_production']) delete env[name];
  try {
    await run(npm, [...first, 'ci', '--ignore-scripts', '--include=dev', '--include=optional', '--no-audit', '--no-fund'], { cwd: root, env });
  } catch (error) {
    report.failed();
    throw error;
  }
  report.done('installed');
}

function readLock(path) {
  try {
    return JSON.parse(readFileSync(join(root, path), 'utf8'));
  } catch {
    return null;
  }
}

/** Why `npm ci` is needed, or null. npm writes down what it installed; that is compared with what is asked for. */
function staleReason(lock, installed) {
  if (lock === null) throw new Missing('package-lock.json is missing or damaged: the clone is not complete. Run `git status`.');
  if (installed === null) return 'first time';
  for (const [path, wanted] of Object.entries(lock.packages)) {
    if (path === '') continue;
    const there = installed.packages?.[path];
    if (there === undefined && wanted.optional) continue;
    if (there?.version !== wanted.version) return `${path.replace(/^.*node_modules\//, '')} ${wanted.version} is not there`;
  }
  return null;
}

/** The Node that the product runs on comes as a package; npm puts it first on the PATH of every script. */
function node24() {
  const name = `node-${process.platform}-${process.arch}`;
  if (existsSync(join(root, 'node_modules', name, 'bin/node'))) return;
  const major = Number.parseInt(process.versions.node, 10);
  if (major >= 24) return;
  throw new Missing(
    `Selvedge runs on Node 24. The package ${name} that brings it was not installed, and this is Node ${process.versions.node}.\n` +
      (process.platform === 'linux' ? 'Get it:  npm ci --include=optional' : 'Selvedge runs on Linux (x64, arm64).'),
  );
}

/** tap composes its test class at install; which plugins go in is decided in .taprc. */
async function testRunner() {
  const stamp = join(root, 'node_modules/.selvedge-tap');
  const want = createHash('sha256')
    .update(readFileSync(join(root, '.taprc')))
    .update(readFileSync(join(root, 'node_modules/tap/package.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === want) return;
  const report = reporter('test runner');
  report.start('composing tap');
  const bin = join(root, 'node_modules/.bin');
  try {
    await run(join(bin, 'tap'), ['build'], { cwd: root, env: { ...environment, PATH: `${bin}:${environment.PATH}` } });
  } catch (error) {
    report.failed();
    throw error;
  }
  writeFileSync(stamp, want);
  report.done('ready');
}

async function systemPackages(goal) {
  const wanted = goal === 'test' ? { ...debianPackages, ...debianPackagesForTests } : debianPackages;
  const absent = Object.entries(wanted).filter(([program]) => findProgram(program) === null);
  if (absent.length === 0) return;
  const names = [...new Set(absent.map(([, name]) => name))];
  if (names.includes('gcc')) names.push('libc6-dev');
  const what = `programs missing: ${absent.map(([program]) => program).join(', ')}`;
  if (findProgram('apt-get') === null) throw new Missing(`${what}. Install what your distribution calls ${names.join(', ')}.`);
  if (process.getuid?.() !== 0)
    throw new Missing(`${what}, and installing them takes root.\nGet them:  sudo apt-get update && sudo apt-get install -y ${names.join(' ')}`);
  const report = reporter('system packages');
  report.start(`installing ${names.join(', ')}`);
  const env = { ...environment, DEBIAN_FRONTEND: 'noninteractive' };
  try {
    await run('apt-get', ['update', '-q'], { env });
    await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...names], { env });
  } catch (error) {
    report.failed();
    throw new Missing(`${error.message}\n${what}. Install ${names.join(', ')} by hand, then run this again.`);
  }
  const still = absent.filter(([program]) => findProgram(program) === null);
  if (still.length > 0) {
    report.failed();
    throw new Missing(`${names.join(', ')} installed, and yet these are not on PATH: ${still.map(([program]) => program).join(', ')}`);
  }
  report.done(`installed ${names.join(', ')}`);
}

/** What tests run of Python (scripts/test-requirements.txt), in an environment of its own that no other program sees. */
async function pythonForTests() {
  const wanted = join(root, 'scripts/test-requirements.txt');
  const folder = join(root, '.selvedge/python');
  const stamp = join(folder, 'installed.txt');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === readFileSync(wanted, 'utf8')) return;
  const report = reporter('python packages');
  report.start('installing what plays AWS in tests');
  rmSync(folder, { recursive: true, force: true });
  try {
    try {
      await run('python3', ['-m', 'venv', folder]);
    } catch (error) {
      // Debian keeps the part that makes environments in a package of its own.
      if (findProgram('apt-get') === null || process.getuid?.() !== 0) throw error;
      const env = { ...environment, DEBIAN_FRONTEND: 'noninteractive' };
      await run('apt-get', ['update', '-q'], { env });
      await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', 'python3-venv'], { env });
      await run('python3', ['-m', 'venv', '--clear', folder]);
    }
    await run(join(folder, 'bin/pip'), ['install', '-q', '--disable-pip-version-check', '-r', wanted]);
  } catch (error) {
    report.failed();
    throw new Missing(`${error.message}\nThe tests that ask AWS need Python 3.10 or later, with venv, and the packages of scripts/test-requirements.txt.`);
  }
  writeFileSync(stamp, readFileSync(wanted));
  report.done('ready');
}

/** Tries, in a network namespace that ends with the command, what the lab will do. */
const kernelTrial = `
ip link add s0 type veth peer name s1 || echo 'veth pairs (CONFIG_VETH, module veth)'
ip tuntap add dev t0 mode tap || echo 'TAP devices (CONFIG_TUN, module tun)'
nft 'add table inet s; add chain inet s c { type filter hook forward priority 0; }; add rule inet s c udp dport 443 drop' || echo 'nftables (CONFIG_NF_TABLES_INET, module nf_tables)'
`;

async function kernel() {
  if (process.platform !== 'linux') throw new Missing('The lab needs Linux network namespaces.');
  if (process.getuid?.() !== 0) throw new Missing('The lab makes network namespaces, which takes root.\nRun it as root:  sudo npm start');
  if (!existsSync('/dev/net/tun')) {
    throw new Missing(
      '/dev/net/tun is missing.\nGet it:  modprobe tun   (in a container: start it with --device /dev/net/tun --cap-add NET_ADMIN --cap-add SYS_ADMIN)',
    );
  }
  let missing;
  try {
    missing = await run('unshare', ['--net', 'sh', '-c', kernelTrial]);
  } catch (error) {
    throw new Missing(`Network namespaces cannot be made here (CONFIG_NET_NS, CAP_SYS_ADMIN).\n${error.message}`);
  }
  if (missing !== '') throw new Missing(`This kernel or container does not allow what the lab needs:\n${missing.replace(/^/gm, '  - ')}`);
}

async function setUp(goal) {
  const started = performance.now();
  if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN)
    throw new Missing(`Node ${NODE_MAJOR_MIN} or later is needed; this is ${process.versions.node}.`);
  if (goal !== 'install') await packages();
  node24();
  // Before the native build: the compiler's linker is among them.
  let labProblem = null;
  if (goal !== 'install') {
    try {
      await systemPackages(goal);
      await kernel();
    } catch (error) {
      if (!(error instanceof Missing) || goal === 'start') throw error;
      labProblem = error.message;
    }
  }
  let pythonProblem = null;
  if (goal === 'test') {
    try {
      await pythonForTests();
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      pythonProblem = error.message;
    }
  }
  await buildNative();
  if (goal !== 'install' || existsSync(join(root, 'node_modules/tap'))) await testRunner();
  if (labProblem !== null) process.stdout.write(`\nThe tests of the lab will fail here:\n${labProblem}\n\n`);
  if (pythonProblem !== null) process.stdout.write(`\nThe tests that ask AWS will fail here:\n${pythonProblem}\n\n`);
  process.stdout.write(`set-up: ready (${((performance.now() - started) / 1000).toFixed(1)} s)\n`);
}

try {
  await setUp(process.argv[2] ?? 'start');
} catch (error) {
  process.stderr.write(`\nset-up: ${error instanceof Missing ? error.message : (error.stack ?? error)}\n`);
  process.exitCode = 1;
}
