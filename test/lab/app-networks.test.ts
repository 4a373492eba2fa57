/** App networks with the real selvedge-tunnel: two hosts and a namespace on one of them, and what a running flow of echoes notices of what happens to daemon, keys and tunnel. */
import t from 'tap';
import { limits } from '../../src/base/limits.ts';
import { AppPair, ip, type AppHostUnderTest } from './fixtures/app-hosts.ts';

const INTERVAL_MS = 10;

/** Echoes from one host to the other, one after the other, until stopped. */
function echoes({ apps }: Pick<AppHostUnderTest, 'apps'>, address: string) {
  let isStopped = false;
  let sent = 0;
  let lost = 0;
  const running = (async () => {
    while (!isStopped) {
      const due = performance.now() + INTERVAL_MS;
      sent++;
      if ((await apps.echo('shop', address, 56, 1_000)) === null) lost++;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    }
  })();
  return {
    async atLeast(count: number) {
      const until = sent + count;
      while (sent < until) await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    },
    async stop() {
      isStopped = true;
      await running;
      return { sent, lost };
    },
  };
}

async function reached(host: AppHostUnderTest, address: string): Promise<void> {
  for (;;) {
    const rtt = await host.apps.echo('shop', address, 56, 200).catch(() => null);
    if (rtt !== null) return;
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
}

const links = async (namespace: string) =>
  (JSON.parse(await ip('-j', '-n', namespace, 'link')) as { ifname: string }[]).map(({ ifname }) => ifname).filter((name) => name.startsWith('sv'));

t.test('two hosts on one app network', { timeout: 100_000 }, async (t) => {
  const pair = await AppPair.start(t);
  const [a, b] = pair.hosts;
  if (!a || !b) throw new Error('two hosts were asked for');

  await t.test('reach each other, by IPv4 and IPv6, with the MTU of the underlay', async (t) => {
    for (const address of ['10.9.0.2', 'fd00::2']) await reached(a, address);
    t.match(await a.apps.status(), {
      tunnel: { is_up: true, engine: 'user', is_current: true },
      networks: [{ name: 'shop', mtu: 1_370, members: 2, addresses: ['10.9.0.1', 'fd00::1'] }],
      peers: [{ name: 'b', path: 'direct', endpoint: '192.0.2.2:51820', handshake_ms: Number }],
      faults: [],
    });
    t.same((await links(a.namespace)).sort(), ['svb-3e9', 'svt-3e9']);
  });

  await t.test('a namespace is put on it in one call, and is reached from the other host', async (t) => {
    const namespace = `${pair.prefix}c`;
    await ip('netns', 'add', namespace);
    const connected = await a.apps.places.connect({ network: 'shop', namespace, name: 'web' });
    t.match(connected, { interface: 'shop0', address4: '10.9.0.3' });
    await reached(b, '10.9.0.3');
    t.match(await ip('-n', namespace, 'addr', 'show', 'dev', 'shop0'), /mtu 1370[\s\S]*10\.9\.0\.3\/24[\s\S]*fd00::3\/64/);
  });

  await t.test('another daemon changes nothing: no echo is lost', async (t) => {
    const before = [await links(a.namespace), a.starter.child?.pid];
    const flow = echoes(b, '10.9.0.3');
    await flow.atLeast(20);
    await a.apps.close();
    await flow.atLeast(20);
    await a.open();
    await flow.atLeast(50);
    const { sent, lost } = await flow.stop();
    t.equal(lost, 0, `of ${sent}`);
    t.same([await links(a.namespace), a.starter.child?.pid], before);
    t.notMatch(a.log.join('\n').split('tunnel found').at(-1), /tunnel changed/, 'nothing was changed');
  });

  await t.test('a new key on each host: no echo is lost', async (t) => {
    const flow = echoes(b, '10.9.0.3');
    await flow.atLeast(20);
    await a.apps.rotateKey();
    await flow.atLeast(100);
    await b.apps.rotateKey();
    await flow.atLeast(100);
    const { sent, lost } = await flow.stop();
    t.equal(lost, 0, `of ${sent}`);
  });

  await t.test('old keys are dropped in the end, though something was still sent under them', async (t) => {
    const keys = () =>
      pair.hosts.map(
        ({ log }) =>
          log
            .filter((line) => line.startsWith('WireGuard keys changed'))
            .at(-1)
            ?.match(/"keys":(\d)/)?.[1],
      );
    t.same(keys(), ['2', '2']);
    pair.shift_ms = limits.wireguard_overlap_ms_max;
    while (keys().join() !== '1,1') await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    await reached(b, '10.9.0.3');
  });

  await t.test('a changed underlay changes the MTU of both', async (t) => {
    for (const { namespace } of pair.hosts) await ip('-n', namespace, 'link', 'set', 'under', 'mtu', '1492');
    const mtuOf = async ({ apps }: AppHostUnderTest) => (await apps.status())?.networks[0]?.mtu;
    while ((await mtuOf(a)) !== 1_362 || (await mtuOf(b)) !== 1_362) await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    await reached(b, '10.9.0.3');
    t.match(await ip('-n', `${pair.prefix}c`, 'link', 'show', 'dev', 'shop0'), /mtu 1362/);
  });

  await t.test('a tunnel that dies is started again, with its keys, and everything is back', async (t) => {
    const killed_ms = performance.now();
    await a.starter.kill();
    await reached(b, '10.9.0.3');
    const gap_ms = performance.now() - killed_ms;
    t.comment(`gap of ${Math.round(gap_ms)} ms`);
    t.ok(gap_ms < 15_000, `${gap_ms} ms`);
    t.equal(a.starter.started, 2);
    t.match(a.log.join('\n'), /tunnel runs again/);
  });

  await t.test('without a network everything that was made is gone', async (t) => {
    pair.isMember = false;
    for (const host of pair.hosts) await host.apps.follow(null);
    for (const { namespace } of pair.hosts) t.same(await links(namespace), []);
    t.notMatch(await ip('-n', `${pair.prefix}c`, 'link'), /shop0/);
  });
});
