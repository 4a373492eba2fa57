/** The lab in real namespaces: exact, switchable, and gone without a trace. Needs root. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Lab, loadTopology, stepSchemas } from '../../src/lab/index.ts';
import { rateBetween } from '../../src/lab/measure.ts';

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
const TWO_HOSTS = fixture('two-hosts.yaml');
const twoHosts = () => loadTopology(TWO_HOSTS, stepSchemas);
const skip = process.getuid?.() === 0 ? false : 'needs root';

const namespacesOf = async (run: string) => (await readdir('/run/netns').catch((): string[] => [])).filter((name) => name.includes(run));
const runsThere = async () => readdir('/run/selvedge-lab').catch((): string[] => []);

/** A lab in a process of its own, once it is up and its first step has begun. */
async function runElsewhere(mode: string): Promise<{ child: ChildProcessWithoutNullStreams; run: string; lines: string[] }> {
  const child = spawn(process.execPath, [fixture('run.ts'), TWO_HOSTS, mode]);
  const lines: string[] = [];
  const run = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      lines.push(line);
      const up = lines.map((each) => /as run ([0-9a-f]{6})/.exec(each)?.[1]).find((id) => id !== undefined);
      if (up !== undefined && line.startsWith('▸ ping')) resolve(up);
    });
    child.once('close', () => reject(new Error(`ended: ${lines.join('\n')}`)));
  });
  return { child, run, lines };
}

function echoTimes(text: string): number[] {
  return [...text.matchAll(/ time=([\d.]+) ms/g)].map((match) => Number(match[1])).sort((left, right) => left - right);
}

t.test('an idle ping over 20 ms each way takes 40 to 41 ms, and a delay changed while running holds at once', { skip }, async (t) => {
  await using lab = await Lab.up(await twoHosts());
  await lab.exec('left', ['ping', '-n', '-c', '1', '192.0.2.2']);
  const times = echoTimes(await lab.exec('left', ['ping', '-n', '-i', '0.01', '-c', '200', '192.0.2.2']));
  t.equal(times.length, 200);
  t.ok((times[100] ?? 0) >= 40 && (times[100] ?? 0) <= 41, `p50 ${times[100]}`);
  // The last percent is the machine's other work; the median is the link's.
  t.ok((times[0] ?? 0) >= 40, `never less: ${times[0]}`);
  await lab.link('wire').set({ delay_us: 5_000 });
  const shorter = echoTimes(await lab.exec('left', ['ping', '-n', '-i', '0.01', '-c', '100', '192.0.2.2']));
  t.ok((shorter[50] ?? 0) >= 10 && (shorter[50] ?? 0) <= 11, `p50 ${shorter[50]}`);
});

t.test('the line carries its rate at the Ethernet layer, and its queue is as long as asked', { skip }, async (t) => {
  await using lab = await Lab.up(await twoHosts());
  const link = lab.link('wire');
  // Datagrams of 1472 bytes are frames of 1514; three times as many as fit keep the queue full.
  const flood = `const s = require('node:dgram').createSocket('udp4'); const b = Buffer.alloc(1472);
    setInterval(() => { for (let i = 0; i < 64; i++) s.send(b, 9, '192.0.2.2'); }, 5)`;
  const sender = lab.spawn('left', [process.execPath, '-e', flood], { name: 'flood' });
  const progress: { at_ms: number; bytes: number }[] = [];
  let peak = 0;
  for (let look = 0; look < 30; look++) {
    const { forward } = await link.stats();
    progress.push({ at_ms: performance.now(), bytes: forward.bytes_out });
    peak = Math.max(peak, forward.queue_peak_bytes);
    await lab.exec('right', ['sleep', '0.1']);
  }
  const rate = rateBetween(progress, progress[10]?.at_ms ?? 0, progress[29]?.at_ms ?? 0);
  t.ok(rate > 49 && rate < 51, `${rate} Mbit/s`);
  t.ok(peak > 1_240_000 && peak <= 1_250_000, `peak of ${peak} bytes; 200 ms at 50 Mbit/s are 1250000`);
  t.ok((await link.stats()).forward.dropped_queue > 0);
  await sender.stop();
});

t.test('UDP blocked is dropped both ways without a word, and passes again', { skip }, async (t) => {
  await using lab = await Lab.up(await twoHosts());
  const echo = `const s = require('node:dgram').createSocket('udp4'); s.on('message', (m, r) => s.send(m, r.port, r.address)); s.bind(7, () => console.log('bound'))`;
  const bound = new Promise<void>((resolve) => lab.spawn('right', [process.execPath, '-e', echo], { name: 'echo', onLine: () => resolve() }));
  await bound;
  const ask = `const s = require('node:dgram').createSocket('udp4'); s.connect(7, '192.0.2.2', () => s.send('x', (error) => { if (error) { console.log(error.code); process.exit(); } }));
    s.on('message', () => { console.log('echo'); process.exit(); }); s.on('error', (error) => { console.log(error.code); process.exit(); }); setTimeout(() => { console.log('nothing'); process.exit(); }, 500)`;
  const asked = async () => (await lab.exec('left', [process.execPath, '-e', ask])).trim();
  t.equal(await asked(), 'echo');
  for (const host of ['left', 'right']) {
    await lab.blockUdp(host, true);
    t.ok(lab.udpBlocked(host));
    t.equal(await asked(), 'nothing', `${host} blocked`);
    t.equal((await lab.tryExec('left', ['ping', '-c', '1', '192.0.2.2'])).exitCode, 0, 'other protocols pass');
    await lab.blockUdp(host, false);
    t.equal(await asked(), 'echo', `${host} passes`);
  }
});

t.test('a link that cannot be made says why, and nothing of the run stays', { skip }, async (t) => {
  const topology = await twoHosts();
  const before = await runsThere();
  const link = topology.links.get('wire');
  const broken = { ...topology, links: new Map([['wire', { ...link, forward: { ...link?.forward, delay_us: 1e12 } }]]) } as typeof topology;
  await t.rejects(Lab.up(broken), { code: 'lab_failed' });
  t.same(await runsThere(), before);
});

t.test('a change that a link does not allow is refused by name, and the link goes on', { skip }, async (t) => {
  await using lab = await Lab.up(await twoHosts());
  const link = lab.link('wire');
  await t.rejects(link.set({ loss_ppm: 2e6 }), { code: 'lab_failed', message: /link wire: loss/ });
  t.equal(link.shape('forward').loss_ppm, 0, 'what holds is what was there before');
  t.ok((await link.stats()).forward.frames_in >= 0);
});

t.test('Ctrl-C and SIGTERM in mid-step remove everything', { skip }, async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const { child, run } = await runElsewhere('once');
    t.not((await namespacesOf(run)).length, 0);
    child.kill(signal);
    const [code] = (await once(child, 'close')) as [number];
    t.equal(code, 130);
    t.same(await namespacesOf(run), []);
    t.notOk((await runsThere()).includes(run));
  }
});

t.test('the next run removes what a killed one left, and spares one that lives', { skip }, async (t) => {
  const living = await Lab.up(await twoHosts());
  const { child, run } = await runElsewhere('once');
  child.kill('SIGKILL');
  await once(child, 'close');
  t.not((await namespacesOf(run)).length, 0, 'a killed run leaves its namespaces');
  const said: string[] = [];
  await using next = await Lab.up(await twoHosts(), { log: (line) => said.push(line) });
  t.match(said.join('\n'), `removed what run ${run} had left behind`);
  t.same(await namespacesOf(run), []);
  t.not((await namespacesOf(living.run)).length, 0);
  await living.down();
  t.same(await namespacesOf(living.run), []);
  t.not((await namespacesOf(next.run)).length, 0);
});

t.test('a topology runs its steps in order; one that does not hold makes the exit code 1', { skip }, async (t) => {
  const { child, run, lines } = await runElsewhere('once');
  const [code] = (await once(child, 'close')) as [number];
  const text = lines.join('\n');
  t.equal(code, 1);
  t.match(text, /4 of 5 steps held/);
  t.match(text, /did not hold: sh ends with exit code 0/);
  t.same(await namespacesOf(run), []);
});
