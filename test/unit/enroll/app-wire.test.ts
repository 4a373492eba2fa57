/** The shapes of app networks: what is taken, what is refused, and that snapshots from before they existed are still read. */
import t from 'tap';
import { APP_SERVICE, type AppPart } from '../../../src/enroll/app-wire.ts';
import { checkAppAnswer, checkAppRequest, checkSnapshot, type Snapshot } from '../../../src/enroll/wire.ts';

const HEX64 = 'ab'.repeat(32);
const KEY = `${'A'.repeat(42)}E=`;
const NODE = '0123456789ab';

const before: Snapshot = {
  version: 3,
  cluster: 'edge',
  issued_ms: 1,
  ttl_s: 60,
  node: { id: NODE, name: 'one', site: 'north' },
  tower: { id: 'tower', fingerprint: HEX64, endpoints: [] },
  peers: [],
  trust: { version: 1, roots: ['AAAA'] },
};

const app: AppPart = {
  vtep: '100.96.0.1',
  networks: [
    {
      name: 'shop',
      vni: 1_001,
      mtu: null,
      learning: false,
      subnet4: '10.9.0.0/24',
      subnet6: 'fd00::/64',
      endpoints: [
        { node: NODE, attachment: '', mac: '02:00:00:00:00:01', address4: '10.9.0.2', address6: 'fd00::2' },
        { node: NODE, attachment: 'web_1.a', mac: '02:00:00:00:00:02', address4: '10.9.0.3', address6: null },
      ],
    },
  ],
  hosts: [
    {
      node: 'ba9876543210',
      name: 'two',
      site: 'south',
      vtep: '100.96.0.2',
      keys: [KEY],
      endpoint: { host: '2001:db8::1', port: 51_820 },
      underlay: { mtu: 1_500, ipv4_only: false },
    },
  ],
};

t.test('a snapshot from before app networks is read, and one with them too', async (t) => {
  t.equal(APP_SERVICE, 'app');
  t.equal(checkSnapshot(structuredClone(before)).app, undefined);
  t.strictSame(checkSnapshot({ ...before, app }).app, app);
});

t.test('a part that breaks its shape is refused with its place', async (t) => {
  const [network, host] = [app.networks[0], app.hosts[0]];
  const wrong: [unknown, string][] = [
    [{ ...app, more: 1 }, '/app'],
    [{ ...app, vtep: 'fd00::1' }, '/app/vtep'],
    [{ ...app, networks: [{ ...network, vni: 2 ** 24 }] }, '/app/networks/0/vni'],
    [{ ...app, networks: [{ ...network, name: '1shop' }] }, '/app/networks/0/name'],
    [{ ...app, networks: [{ ...network, endpoints: [{ ...network?.endpoints[0], mac: '03:00:00:00:00:01' }] }] }, '/app/networks/0/endpoints/0/mac'],
    [{ ...app, hosts: [{ ...host, keys: [KEY, KEY, KEY] }] }, '/app/hosts/0/keys'],
    [{ ...app, hosts: [{ ...host, keys: [`${'A'.repeat(42)}B=`] }] }, '/app/hosts/0/keys/0'],
    [{ ...app, hosts: [{ ...host, endpoint: { host: 'a.example', port: 1 } }] }, '/app/hosts/0/endpoint'],
  ];
  for (const [part, path] of wrong) {
    t.throws(() => checkSnapshot({ ...before, app: part }), { code: 'request_invalid', facts: { path: new RegExp(`^${path}`) } }, path);
  }
});

t.test('a node may say and ask these things, and no others', async (t) => {
  const right = [
    { op: 'wireguard', keys: [KEY], listen: { host: null, port: 51_820 }, underlay: { mtu: 1_500, ipv4_only: true } },
    { op: 'wireguard', keys: [], listen: null, underlay: null },
    { op: 'attach', network: 'shop', attachment: 'web' },
    { op: 'detach', network: 'shop', attachment: 'web' },
  ];
  for (const request of right) t.strictSame(checkAppRequest(request), request);
  const wrong = [
    null,
    [],
    'attach',
    {},
    { op: 'create', network: 'shop' },
    { op: 'attach', network: 'shop' },
    { op: 'attach', network: 'Shop', attachment: 'web' },
    { op: 'attach', network: 'shop', attachment: '' },
    { op: 'attach', network: 'shop', attachment: '../web' },
    { op: 'attach', network: 'shop', attachment: 'w'.repeat(64) },
    { op: 'attach', network: 'shop', attachment: 'web', node: NODE },
    { op: 'wireguard', keys: ['short'], listen: null, underlay: null },
    { op: 'wireguard', keys: [KEY], listen: { host: '10.0.0.1', port: 0 }, underlay: null },
    { op: 'wireguard', keys: [KEY], listen: { host: 'x'.repeat(46), port: 1 }, underlay: null },
    { op: 'wireguard', keys: [KEY], listen: null, underlay: { mtu: 500, ipv4_only: true } },
  ];
  for (const request of wrong) t.throws(() => checkAppRequest(request), { code: 'request_invalid' }, JSON.stringify(request));
});

t.test('an answer is an endpoint, a plain yes, or an error of the table', async (t) => {
  const right = [
    { ok: true },
    { ok: true, mac: '02:00:00:00:00:02', address4: '10.9.0.3', address6: null },
    { error: { code: 'policy_denied', message: 'no', facts: { why: 'no', max: 1 } } },
  ];
  for (const answer of right) t.strictSame(checkAppAnswer(answer), answer);
  for (const answer of [{ ok: false }, { ok: true, error: {} }, { ok: true, mac: '02:00:00:00:00:02' }, 1])
    t.throws(() => checkAppAnswer(answer), { code: 'request_invalid' });
});
