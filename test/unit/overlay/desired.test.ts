/** What should be on a host, from a snapshot: names, MTU, addresses; the same input always gives the same text. */
import fc from 'fast-check';
import t from 'tap';
import type { AppHost, AppNetwork, AppSnapshot } from '../../../src/overlay/app-snapshot.ts';
import { type DesiredInput, makeDesired } from '../../../src/overlay/desired.ts';
import { type Member, networkMtu } from '../../../src/overlay/mtu.ts';
import { bridgeName, defaultInterfaceName, interfaceObjection, tapName, vethName } from '../../../src/overlay/names.ts';
import { host, key, network, snapshot } from './snapshots.ts';

function input(app: AppSnapshot, more: Partial<DesiredInput> = {}): DesiredInput {
  return {
    owner: 'edge/aaaaaaaaaaaa',
    self: { node: 'aaaaaaaaaaaa', name: 'a', underlay: null },
    app,
    engine: 'auto',
    fwmark: 0,
    keys: [{ privateKey: key(1), listenPort: 51_820 }],
    attachments: [],
    pathOf: () => 'direct',
    ...more,
  };
}

t.test('names of devices fit the kernel and are one for each VNI, or each attachment', async (t) => {
  t.equal(bridgeName(1001), 'svb-3e9');
  t.equal(tapName(2 ** 24 - 1), 'svt-ffffff');
  const vni = fc.integer({ min: 1, max: 2 ** 24 - 1 });
  fc.assert(
    fc.property(
      vni,
      vni,
      fc.stringMatching(/^[a-z][a-z0-9-]{0,31}$/),
      fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
      (one, other, name, attachment) => {
        for (const device of [bridgeName(one), tapName(one), vethName(name, attachment), defaultInterfaceName(name)]) {
          if (!/^[A-Za-z0-9._-]{1,15}$/.test(device)) throw new Error(device);
        }
        if (one !== other && bridgeName(one) === bridgeName(other)) throw new Error('two networks, one bridge');
        if (vethName(name, attachment) === vethName(name, `${attachment}x`)) throw new Error('two attachments, one device');
        return interfaceObjection(defaultInterfaceName(name)) === null;
      },
    ),
  );
  for (const bad of ['', '.', '..', 'a/b', 'a b', 'sixteen-letters1', 'svb-3e9', 'a:b', 'ä']) t.type(interfaceObjection(bad), 'string', bad);
  t.equal(interfaceObjection('eth0'), null);
});

t.test('the MTU is that of the documents', async (t) => {
  const two = (mtu: number, ipv4_only = false): Member[] => [
    { name: 'a', mtu, ipv4_only },
    { name: 'b', mtu, ipv4_only },
  ];
  const rows: [number, boolean, number][] = [
    [1_500, false, 1_370],
    [1_500, true, 1_390],
    [1_492, false, 1_362],
    [1_400, false, 1_270],
    [1_280, false, 1_150],
    [9_000, false, 8_870],
  ];
  for (const [underlay, ipv4Only, mtu] of rows) {
    const found = networkMtu(two(underlay, ipv4Only), null);
    t.equal(found.mtu, mtu, `underlay of ${underlay}`);
    t.equal(found.fitsIpv6, mtu >= 1_280);
  }
  t.equal(networkMtu([{ name: 'a' }, { name: 'b' }], null).mtu, 1_370, 'who has not said has an ordinary Ethernet');
  t.match(networkMtu(two(1_492), null).why, 'underlay of 1492 at a, less 130 of headers (IPv6 may carry it)');
  t.match(networkMtu(two(1_280), null).why, /under the 1280 that IPv6 needs/);
  t.match(networkMtu(two(1_500), 1_300), { mtu: 1_300, why: /operator's limit; without it 1370/ });
  t.equal(networkMtu(two(1_500), 9_000).mtu, 1_370, 'a limit raises nothing');
});

t.test('the MTU is that of the worst pair', async () => {
  const member = fc.record({ name: fc.constantFrom('a', 'b', 'c'), mtu: fc.integer({ min: 576, max: 9_000 }), ipv4_only: fc.boolean() });
  fc.assert(
    fc.property(fc.array(member, { minLength: 2, maxLength: 8 }), (members) => {
      const pairs = members.flatMap((left, index) => members.slice(index + 1).map((right) => [left, right] as const));
      const worst = Math.min(...pairs.map(([left, right]) => Math.min(left.mtu, right.mtu) - (left.ipv4_only || right.ipv4_only ? 110 : 130)));
      return networkMtu(members, null).mtu === worst;
    }),
  );
});

t.test('a snapshot becomes a desired state', async (t) => {
  const app = snapshot({
    networks: [network({ name: 'shop', vni: 1001, places: ['aaaaaaaaaaaa/', 'aaaaaaaaaaaa/web', 'bbbbbbbbbbbb/'] })],
    hosts: [host('bbbbbbbbbbbb')],
  });
  const attachments = [{ network: 'shop', name: 'web', netns: '/run/netns/web', interface: 'shop0' }];
  const { desired, notes, mtus } = makeDesired(input(app, { attachments }));
  t.same(notes, []);
  t.equal(mtus.get('shop')?.mtu, 1_370);
  t.same(desired, {
    owner: 'edge/aaaaaaaaaaaa',
    wireguard: { engine: 'auto', keys: [{ privateKey: key(1), listenPort: 51_820 }], fwmark: 0, vtep: '100.96.0.1' },
    peers: [{ node: 'bbbbbbbbbbbb', vtep: '100.96.0.2', keys: [key(2)], endpoint: { host: '192.0.2.2', port: 51_820 }, path: 'direct', keepalive_s: 25 }],
    networks: [
      {
        name: 'shop',
        vni: 1001,
        bridge: 'svb-3e9',
        tap: 'svt-3e9',
        mtu: 1_370,
        mac: '02:00:00:00:03:00',
        addresses: ['10.9.0.1/24', 'fd00::1/64'],
        learning: false,
        broadcast_pps: 200,
        remote: [{ mac: '02:00:00:00:03:02', addresses: ['10.9.0.3', 'fd00::3'], vtep: '100.96.0.2' }],
        local: [
          { mac: '02:00:00:00:03:00', addresses: ['10.9.0.1', 'fd00::1'] },
          { mac: '02:00:00:00:03:01', addresses: ['10.9.0.2', 'fd00::2'] },
        ],
        attachments: [
          {
            name: 'web',
            netns: '/run/netns/web',
            interface: 'shop0',
            mac: '02:00:00:00:03:01',
            addresses: ['10.9.0.2/24', 'fd00::2/64'],
            host: vethName('shop', 'web'),
          },
        ],
      },
    ],
  });
});

t.test('what cannot be is left out, and a note says why', async (t) => {
  const places = ['aaaaaaaaaaaa/', 'bbbbbbbbbbbb/'];
  const notes = (app: AppSnapshot, more?: Partial<DesiredInput>) => makeDesired(input(app, more)).notes;
  const shop = network({ name: 'shop', vni: 1, places });
  const hosts = [host('bbbbbbbbbbbb')];

  const keyless = makeDesired(input(snapshot({ networks: [shop], hosts: [{ ...host('bbbbbbbbbbbb'), keys: [] }] })));
  t.match(keyless.notes, [{ code: 'not_connected', what: 'peer bbbbbbbbbbbb' }]);
  t.same(keyless.desired.networks[0]?.remote, [], 'nothing lives behind a host that is no peer');

  t.match(notes(snapshot({ networks: [network({ name: 'shop', vni: 1, places: ['bbbbbbbbbbbb/'] })], hosts })), [
    { code: 'document_invalid', what: 'network shop' },
  ]);
  t.match(notes(snapshot({ networks: [shop, { ...shop, name: 'twin' }], hosts })), [{ what: 'network twin', why: /another network has its VNI/ }]);

  const self = { node: 'aaaaaaaaaaaa', name: 'a', underlay: { mtu: 1_280, ipv4_only: false } };
  const small = makeDesired(input(snapshot({ networks: [shop], hosts }), { self }));
  t.match(small.notes, [{ code: 'mtu_too_small', what: 'network shop', why: /IPv6 is left out/ }]);
  t.match(small.desired.networks[0], { mtu: 1_150, addresses: ['10.9.0.1/24'], remote: [{ addresses: ['10.9.0.2'] }] });
  const tiny = { mtu: 600, ipv4_only: false };
  const own = makeDesired(input(snapshot({ networks: [shop], hosts }), { self: { node: 'aaaaaaaaaaaa', name: 'a', underlay: tiny } }));
  t.match(own, { desired: { networks: [] }, notes: [{ code: 'mtu_too_small', what: 'network shop' }] });
  const others = makeDesired(input(snapshot({ networks: [shop], hosts: [host('bbbbbbbbbbbb', tiny)] })));
  t.match(others.desired.networks, [{ name: 'shop', mtu: 1_370 }], 'a member cannot take the network away from the others');
  t.match(others.notes, [{ code: 'mtu_too_small', what: 'peer bbbbbbbbbbbb', why: /600 is too small/ }]);

  const attachments = [
    { network: 'shop', name: 'unknown', netns: '/run/netns/x', interface: 'shop0' },
    { network: 'gone', name: 'web', netns: '/run/netns/y', interface: 'gone0' },
  ];
  const strayed = makeDesired(input(snapshot({ networks: [shop], hosts }), { attachments }));
  t.match(strayed.notes, [{ what: 'attachment shop/unknown' }, { what: 'attachment gone/web', why: /no member/ }]);
  t.same(strayed.desired.networks[0]?.attachments, []);

  const carried = makeDesired(input(snapshot({ networks: [shop], hosts }), { pathOf: () => 'carried' }));
  t.match(carried.desired.peers, [{ path: 'carried', keepalive_s: 5 }]);
});

t.test('what a member says of its underlay takes IPv6 from itself alone', async (t) => {
  const [a, b, c] = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc'] as const;
  const places = [`${a}/`, `${b}/`, `${c}/`];
  const shop = network({ name: 'shop', vni: 1, places });
  const plain = { ...shop, name: 'plain', vni: 2, subnet6: null, endpoints: shop.endpoints.map((one) => ({ ...one, address6: null })) };
  const sized = (mtu: number) => ({ mtu, ipv4_only: false });
  const app = snapshot({ networks: [shop, plain], hosts: [host(b, sized(1_280)), host(c, sized(1_492))] });

  const wide = makeDesired(input(app));
  t.match(wide.desired.networks, [
    { name: 'plain', mtu: 1_150 },
    { name: 'shop', mtu: 1_362, addresses: ['10.9.0.1/24', 'fd00::1/64'] },
  ]);
  t.same(
    wide.desired.networks[1]?.remote.map(({ addresses }) => addresses),
    [['10.9.0.2'], ['10.9.0.3', 'fd00::3']],
    'nobody is answered that it had IPv6',
  );
  t.same(wide.notes, [
    { code: 'mtu_too_small', what: `peer ${b}`, why: 'its underlay of 1280 leaves 1150: it has no IPv6 in network shop, and may not get larger datagrams' },
  ]);

  const narrow = makeDesired(input(app, { self: { node: a, name: 'a', underlay: sized(1_400) } }));
  t.match(narrow.desired.networks[1], { name: 'shop', mtu: 1_150, addresses: ['10.9.0.1/24'] }, 'those without IPv6 have a figure in common');
  t.match(narrow.notes, [{ what: 'network shop', why: /IPv6 is left out/ }]);
});

t.test('an address that a host gives itself costs the others that host and nothing else', async (t) => {
  const app = (address: string) =>
    snapshot({
      networks: [network({ name: 'shop', vni: 1, places: ['aaaaaaaaaaaa/', 'bbbbbbbbbbbb/', 'cccccccccccc/'] })],
      hosts: [{ ...host('bbbbbbbbbbbb'), endpoint: { host: address, port: 51_820 } }, host('cccccccccccc')],
    });
  const bad = ['0.0.0.0', '224.0.0.1', '255.255.255.255', '::', 'ff02::1', '::ffff:192.0.2.2', '::FFFF:c000:202', 'fe80::1%eth0', 'b.example', ''];
  for (const address of [...bad, '10.9.0.2', '10.9.0.77', 'fd00::2', 'FD00:0::77']) {
    const { desired, notes } = makeDesired(input(app(address)));
    t.match(
      desired.peers,
      [
        { node: 'bbbbbbbbbbbb', endpoint: null },
        { node: 'cccccccccccc', endpoint: { host: '192.0.2.3' } },
      ],
      `'${address}' is nowhere to send to`,
    );
    t.match(notes, [
      { code: 'unsupported', what: 'peer bbbbbbbbbbbb', why: bad.includes(address) ? /not the IP address of one host/ : /inside an app network/ },
    ]);
  }
  for (const address of ['192.0.2.2', '10.8.255.255', '2001:db8::2', '127.0.0.1', '::1']) t.same(makeDesired(input(app(address))).notes, [], address);
});

t.test('the order of a snapshot means nothing: equal states are equal texts', async () => {
  const nodes = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc', 'dddddddddddd'];
  const networks = fc.uniqueArray(fc.record({ vni: fc.integer({ min: 1, max: 50 }), members: fc.subarray(nodes.slice(1)) }), {
    selector: ({ vni }) => vni,
    maxLength: 8,
  });
  fc.assert(
    fc.property(networks, fc.nat(), (list, seed) => {
      const made = list.map(({ vni, members }) => network({ name: `n${vni}`, vni, places: ['aaaaaaaaaaaa/', ...members.map((node) => `${node}/`)] }));
      const hosts = nodes.slice(1).map((node) => host(node));
      const shuffled = <T>(values: readonly T[]) => values.toSorted((left, right) => hash(left, seed) - hash(right, seed));
      const other = { networks: shuffled(made).map((one: AppNetwork) => ({ ...one, endpoints: shuffled(one.endpoints) })), hosts: shuffled<AppHost>(hosts) };
      const text = (app: AppSnapshot) => JSON.stringify(makeDesired(input(app)).desired);
      return text(snapshot({ networks: made, hosts })) === text(snapshot(other));
    }),
  );
});

function hash(value: unknown, seed: number): number {
  let sum = seed;
  for (const letter of JSON.stringify(value)) sum = (Math.imul(sum, 31) + letter.charCodeAt(0)) | 0;
  return sum;
}
