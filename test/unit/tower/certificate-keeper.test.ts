/** The tower's own certificates over years, on a clock that the test steps: renewed in time, told, and never a chain that is refused. */
import { EventEmitter, once } from 'node:events';
import t from 'tap';
import { lifetimeOf } from '../../../src/identity/lifetime.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { openTower } from '../../../src/tower/init.ts';
import { CertificateKeeper } from '../../../src/tower/renewing/certificate-keeper.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { DAY_MS, makeTower, random, shiftedClock, unseal } from './support.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(120_000);

const good = (tower: Tower, now_ms: number) =>
  verifyPeer({
    chain: tower.credentials.chain,
    roots: tower.roots,
    cluster: tower.cluster,
    now_ms,
    usage: 'server',
    recordedFingerprint: tower.recordedFingerprint,
  }).identity.node;

t.test('leaf and intermediate are renewed while the tower runs, and are there after a restart', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const logs = new EventEmitter();
  let renewals = 0;
  const timers = { clock, after: new VirtualTimers().after.bind(new VirtualTimers()) };
  const keeper = new CertificateKeeper({ tower, timers, onRenewed: () => renewals++, log: (message, facts) => void logs.emit(message, facts) });
  t.teardown(() => keeper.close());
  await keeper.look();
  t.equal(renewals, 0, 'nothing is due');
  t.equal(keeper.warning, null);
  const first = tower.credentials;
  clock.offset_ms = 21 * DAY_MS;
  const { version } = await tower.status();
  await keeper.look();
  t.equal(renewals, 1);
  t.not(tower.credentials, first);
  t.equal(good(tower, clock.wall()), 'tower');
  t.equal((await tower.status()).version, version + 1, 'every snapshot says so');

  clock.offset_ms = 500 * DAY_MS;
  const { intermediate } = tower.own;
  const told = once(logs, 'intermediate renewed');
  await keeper.look();
  await told;
  t.not(Buffer.compare(tower.own.intermediate, intermediate), 0);
  t.ok(lifetimeOf(intermediate).notAfter_ms - clock.wall() > 200 * DAY_MS, 'long before the old one ends');
  t.equal(good(tower, clock.wall()), 'tower');
  const shown = tower.credentials;
  await tower.close();
  const again = await openTower({ state: tower.state, unseal, clock, random });
  t.teardown(() => again.close());
  t.strictSame(again.credentials, shown);
});

t.test('renewed on demand it is another leaf at once; a renewal that cannot be is told, and what nears its end is warned of', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const logs = new EventEmitter();
  const keeper = new CertificateKeeper({
    tower,
    timers: { clock, after: () => () => undefined },
    onRenewed: () => undefined,
    others: () => [{ name: 'the server certificate', der: tower.own.intermediate, renews_ms: null }],
    log: (message, facts) => void logs.emit(message, facts),
  });
  const { before, now } = await keeper.renewNow();
  t.not(before, now);
  t.equal(good(tower, clock.wall()), 'tower');
  clock.offset_ms = 725 * DAY_MS;
  tower.own.renewIntermediate = () => Promise.reject(new Error('taken offline'));
  const failed = once(logs, 'certificate not renewed');
  const warned = once(logs, 'certificate nears its end');
  await keeper.look();
  t.match((await failed)[0], { code: 'internal_error' });
  t.ok(await warned);
  t.match(keeper.warning, /the server certificate ends at/);
});
