/**
 * The programs themselves, with stores sealed by the site's token: a node starts with the tower's help, with its site's while the tower is away, waits while nobody is
 * there, and its store is sealed in other ways and back. What is refused to whom is in test/unit/tower/unsealing.test.ts.
 */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { postAs } from '../../src/enroll/https.ts';
import { BootFile } from '../../src/enroll/boot-file.ts';
import { Host } from '../../src/peering/host.ts';
import { programs } from './programs.ts';
import { freePort } from '../fixtures/free-port.ts';

t.setTimeout(300_000);
const directory = t.testdir({});
const at = (name: string): string => join(directory, name);

const { run, cli, kill, initTower } = programs(t);
const keyFile = ['--key-file', at('key')];
const fingerprint = await initTower(at('tower'), at('key'));
const [port, portA, portB] = [await freePort(), await freePort(), await freePort()];
const towerArgs = ['run', '--state', at('tower'), '--listen', '127.0.0.1', '--port', String(port), ...keyFile];
let tower = run('tower', towerArgs);
await tower.until('tower runs');
const { token } = await cli('token', 'create', '--uses', '2', '--state', at('tower'));
await writeFile(at('token'), String(token));
for (const name of ['a', 'b'])
  await cli(
    'join',
    '--tower',
    `127.0.0.1:${port}`,
    '--fingerprint',
    fingerprint,
    '--token-file',
    at('token'),
    '--name',
    name,
    '--site',
    'harbor',
    '--state',
    at(name),
    ...keyFile,
  );

const startA = () => run('selvedged', ['--state', at('a'), '--listen', '127.0.0.1', '--port', String(portA), ...keyFile]);
const startB = (...key: string[]) => run('selvedged', ['--state', at('b'), '--listen', '127.0.0.1', '--port', String(portB), ...key]);
let a = startA();
let b = startB(...keyFile);

t.test('nodes have token and boot identity from the moment of joining, and keep where the others are', async (t) => {
  for (const node of [a, b]) await node.until('node runs');
  t.equal((await stat(join(at('b'), 'boot.json'))).mode & 0o777, 0o600);
  const own = async () => (await BootFile.read(at('b')))?.peers.length;
  while ((await own()) !== 1) await new Promise((resolve) => setTimeout(resolve, 50));
  await t.rejects(cli('store', 'reseal', '--to', 'site', '--state', at('b'), ...keyFile), /state_in_use/, 'while its daemon runs its store is its own');
});

t.test('the store is shown without a value, and sealed with the token of the site', async (t) => {
  b.child.kill('SIGTERM');
  await b.ended;
  const before = await cli('store', 'show', '--state', at('b'), ...keyFile);
  t.match(before, { mode: 'key-file', format: 2, generation: 0 });
  t.match(before.names, ['node/intermediate.crt', 'node/leaf.crt', 'node/leaf.key']);
  t.ok((before.names as string[]).includes('site/token.1'));
  t.match(await cli('store', 'reseal', '--to', 'site', '--state', at('b'), ...keyFile), { before: 'key-file', mode: 'site', generation: 1 });
  await t.rejects(cli('store', 'reseal', '--to', 'key-file', '--state', at('b'), ...keyFile), /store_locked/, 'the key file opens it no more');
  const after = await cli('store', 'show', '--state', at('b'));
  t.match(after, { mode: 'site', generation: 1 });
  t.same(after.names, before.names);
});

t.test('with the tower there, it says the key', async (t) => {
  b = startB();
  t.match(await b.until('the store is unsealed'), { unsealed_by: 'tower' });
  await b.until('node runs');
});

t.test('the boot identity does nothing else: no channel, with whomever', async (t) => {
  const boot = await BootFile.read(at('b'));
  const credentials = boot?.credentials;
  if (!boot || !credentials) return t.fail('no boot identity');
  const { cluster, site, node } = boot.who;
  for (const transport of ['tcp', 'quic'] as const) {
    const failed = Promise.withResolvers<string>();
    const host = await Host.start({
      self: { cluster, site, node },
      credentials: () => credentials,
      roots: () => boot.roots,
      recordedFingerprint: () => 'any',
      versions: () => ({ directory: 1, trust: 1 }),
      nameOf: (id) => id,
      listen: null,
      onHttp: null,
      isGoverned: false,
      log: (_message, { code, reason }) => typeof code === 'string' && failed.resolve(`${code} ${reason}`),
      onChange: () => undefined,
    });
    const endpoint = { host: '127.0.0.1', tcp: port, udp: transport === 'quic' ? port : null };
    host.mesh.setCandidates([{ identity: { cluster, site: 'tower', node: 'tower' }, name: 'tower', endpoints: [endpoint], isDialed: true }]);
    t.match(await failed.promise, /certificate_invalid/, transport);
    await host.close();
  }
  const signal = AbortSignal.timeout(5_000);
  const request = { body: Buffer.from('{"generation":1}'), answer_bytes_max: 4096, signal, judge: () => undefined };
  await t.rejects(postAs({ host: '127.0.0.1', port: portA }, credentials, { ...request, path: '/v1/other' }), { code: 'not_found' });
  t.ok(await postAs({ host: '127.0.0.1', port: portA }, credentials, { ...request, path: '/v1/unseal' }));
});

t.test('with the tower away, a node of the site says it, and the channel to it comes back', async (t) => {
  await kill(tower);
  await kill(b);
  b = startB();
  const { node } = JSON.parse(await readFile(join(at('a'), 'identity.json'), 'utf8')) as { node: string };
  t.match(await b.until('the store is unsealed'), { unsealed_by: node });
  t.ok(b.lines.some((line) => line.msg === 'no key for the store' && line.by === 'tower' && line.code === 'network_unreachable'));
  await b.until('node runs');
  const established = async () => {
    const { channels } = (await cli('status', '--state', at('b'))) as { channels: { name: string; state: string }[] };
    return channels.some((channel) => channel.name === 'a' && channel.state === 'established');
  };
  while (!(await established())) await new Promise((resolve) => setTimeout(resolve, 100));
});

t.test('with everybody away it says that it waits, ends when it is asked to, and is served by whoever comes back', async (t) => {
  await kill(a);
  await kill(b);
  b = startB();
  t.match(await b.until('still waiting for somebody who says the key of the store'), { round: 1 });
  b.child.kill('SIGTERM');
  t.equal(await b.ended, 0, b.said);
  b = startB();
  await b.until('still waiting for somebody who says the key of the store');
  a = startA();
  await b.until('the store is unsealed');
  await b.until('node runs');
});

t.test('damage to the store ends the wait, and names its part; a broken boot file says so', async (t) => {
  b.child.kill('SIGTERM');
  await b.ended;
  tower = run('tower', towerArgs);
  await tower.until('tower runs');
  const [sealed, boot] = [join(at('b'), 'sealed.bin'), join(at('b'), 'boot.json')];
  const [good, goodBoot] = [await readFile(sealed), await readFile(boot)];
  const flipped = Buffer.from(good);
  flipped[120] = (flipped[120] ?? 0) ^ 1;
  await writeFile(sealed, flipped);
  const damaged = startB();
  t.equal(await damaged.ended, 1);
  t.match(damaged.said, /record changed since it was written.*\[store_damaged\]/s);
  await writeFile(sealed, good);
  await writeFile(boot, '{}');
  const broken = startB();
  t.equal(await broken.ended, 1);
  t.match(broken.said, /boot\.json.*\[store_damaged\]/s);
  await writeFile(boot, goodBoot);
});

t.test('it is sealed with a key file again, and no secret of it was in clear on the way', async (t) => {
  t.match(await cli('store', 'reseal', '--to', 'key-file', '--new-key-file', at('new-key'), '--state', at('b')), { before: 'site', mode: 'key-file' });
  b = startB('--key-file', at('new-key'));
  await b.until('node runs');
});
