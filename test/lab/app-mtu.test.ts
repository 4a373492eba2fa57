/** The MTU of an app network with the real selvedge-tunnel: right on every underlay, to the octet, and when the underlay changes while a TCP flow runs. Needs root. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { runCommand } from '../../src/lab/command.ts';
import { type AppHostUnderTest, AppPair, ip } from './fixtures/app-hosts.ts';

const PROGRAM = fileURLToPath(new URL('../../src/lab/steps/app-program.ts', import.meta.url));
const IP_AND_ICMP = 28;
const POLL_MS = 20;
/** Underlay and what is left inside (docs/app-networks.md): down, up, and back. */
const cases = [
  { underlay: 1_500, inner: 1_370, hasIpv6: true },
  { underlay: 1_492, inner: 1_362, hasIpv6: true },
  { underlay: 1_400, inner: 1_270, hasIpv6: false },
  { underlay: 1_280, inner: 1_150, hasIpv6: false },
  { underlay: 9_000, inner: 8_870, hasIpv6: true },
  { underlay: 1_500, inner: 1_370, hasIpv6: true },
] as const;

const inside = (namespace: string, ...argv: string[]) => runCommand('ip', ['netns', 'exec', namespace, ...argv]);

const mtuOf = async ({ apps }: AppHostUnderTest) => (await apps.status())?.networks[0]?.mtu;

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

/** An echo that nobody may fragment, of a packet of so many octets. */
async function passes(namespace: string, address: string, octets: number): Promise<boolean> {
  const { exitCode } = await inside(namespace, 'ping', '-n', '-c', '1', '-W', '2', '-M', 'do', '-s', String(octets - IP_AND_ICMP), address);
  return exitCode === 0;
}

/** Packets that this host has cut into fragments since it was made. */
async function fragmented(namespace: string): Promise<number> {
  const { stdout } = await inside(namespace, 'cat', '/proc/net/snmp');
  const [names = '', values = ''] = stdout.split('\n').filter((line) => line.startsWith('Ip:'));
  return Number(values.split(' ')[names.split(' ').indexOf('FragCreates')]);
}

function start(namespace: string, ...words: string[]): { readonly child: ChildProcess; readonly facts: Record<string, unknown>[] } {
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, PROGRAM, ...words], { stdio: ['pipe', 'pipe', 'inherit'] });
  const facts: Record<string, unknown>[] = [];
  if (child.stdout) createInterface(child.stdout).on('line', (line) => facts.push(JSON.parse(line) as Record<string, unknown>));
  t.teardown(() => child.kill('SIGKILL'));
  return { child, facts };
}

t.test('the MTU follows the underlay', { timeout: 100_000 }, async (t) => {
  const pair = await AppPair.start(t);
  const [a, b] = pair.hosts;
  if (!a || !b) throw new Error('two hosts were asked for');
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-mtu-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'file');
  writeFileSync(file, randomBytes(4 * 1024 * 1024));
  const expected = createHash('sha256').update(readFileSync(file)).digest('hex');
  await until(async () => (await a.apps.echo('shop', '10.9.0.2', 56, 200).catch(() => null)) !== null);
  const server = start(b.namespace, 'serve', '10.9.0.2', file);
  await until(async () => server.facts.length > 0);
  const flow = start(a.namespace, 'watch', 'http://10.9.0.2:8080/flow?mbit=20', '1000000');

  for (const { underlay, inner, hasIpv6 } of cases) {
    await t.test(`${underlay} leaves ${inner}`, async (t) => {
      for (const { namespace } of pair.hosts) await ip('-n', namespace, 'link', 'set', 'under', 'mtu', String(underlay));
      await until(async () => (await mtuOf(a)) === inner && (await mtuOf(b)) === inner);
      // What is desired is there a moment later.
      for (const { namespace } of pair.hosts) await until(async () => (await ip('-n', namespace, 'link', 'show', 'dev', 'svb-3e9')).includes(`mtu ${inner}`));
      const before = await fragmented(a.namespace);
      t.ok(await passes(a.namespace, '10.9.0.2', inner), 'a packet of the MTU passes');
      t.notOk(await passes(a.namespace, '10.9.0.2', inner + 1), 'one octet more does not');
      const { facts, child } = start(a.namespace, 'fetch', 'http://10.9.0.2:8080/file');
      await once(child, 'close');
      t.match(facts, [{ sha256: expected }], 'a file arrives as it was sent');
      t.equal(await fragmented(a.namespace), before, 'nothing was fragmented on the way');
      const large = await inside(a.namespace, 'ping', '-n', '-c', '1', '-W', '2', '-s', '20000', '10.9.0.2');
      t.equal(large.exitCode, 0, 'what is larger is fragmented by its sender, and passes');
      t.equal((await ip('-n', a.namespace, '-6', 'addr', 'show', 'dev', 'svb-3e9')).includes('fd00::1'), hasIpv6, 'IPv6 where it has room');
      const faults = (await a.apps.status())?.faults.map(({ code }) => code);
      t.same(faults, hasIpv6 ? [] : ['mtu_too_small'], 'status says why there is none');
    });
  }

  await t.test('one host of 1280 keeps IPv4 alone, and takes neither IPv6 nor the MTU from the other', async (t) => {
    await ip('-n', b.namespace, 'link', 'set', 'under', 'mtu', '1280');
    await until(async () => (await mtuOf(b)) === 1_150);
    await until(async () => (await a.apps.status())?.faults.some(({ what }) => what === `peer ${b.node}`) === true);
    for (const [{ namespace }, inner] of [[a, 1_370] as const, [b, 1_150] as const])
      await until(async () => (await ip('-n', namespace, 'link', 'show', 'dev', 'svb-3e9')).includes(`mtu ${inner}`));
    t.match(await ip('-n', a.namespace, '-6', 'addr', 'show', 'dev', 'svb-3e9'), 'fd00::1');
    t.notMatch(await ip('-n', b.namespace, '-6', 'addr', 'show', 'dev', 'svb-3e9'), 'fd00::2');
    t.ok(await passes(b.namespace, '10.9.0.1', 1_150), 'what fits the smaller passes');
    // The link drops what is larger without a word: TCP must not need more.
    const back = start(a.namespace, 'serve', '10.9.0.1', file);
    await until(async () => back.facts.length > 0);
    for (const [{ namespace }, address] of [[a, '10.9.0.2'] as const, [b, '10.9.0.1'] as const]) {
      const { facts, child } = start(namespace, 'fetch', `http://${address}:8080/file`);
      await once(child, 'close');
      t.match(facts, [{ sha256: expected }], 'a file arrives as it was sent, either way');
    }
  });

  flow.child.stdin?.end();
  await once(flow.child, 'close');
  const total = flow.facts.find(({ bytes }) => typeof bytes === 'number');
  t.notOk(
    flow.facts.some((facts) => 'broken_ms' in facts),
    'the flow lived through it all',
  );
  t.ok(Number(total?.bytes) > 1_000_000, `${total?.bytes} bytes`);
});
