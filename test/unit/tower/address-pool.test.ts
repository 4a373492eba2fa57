/** Addresses and pools: properties over random input, and the edges of each rule. */
import { SocketAddress } from 'node:net';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { appPool, type Pool, sizeOf, vniPool, vtepPool, walk } from '../../../src/tower/app/address-pool.ts';
import { checkAppSubnet, type Family, formatAddress, overlaps, parseAddress, parseSubnet, readSubnet } from '../../../src/tower/app/subnet.ts';

const value4 = fc.bigInt({ min: 0n, max: 2n ** 32n - 1n });
/** Mostly zeros, as addresses are, so that each way of shortening comes up. */
const value6 = fc
  .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.reduce((value, group) => value * 65_536n + BigInt(group), 0n));
const address = fc.oneof(
  value4.map((value) => ({ family: 4 as Family, value })),
  value6.map((value) => ({ family: 6 as Family, value })),
);
const subnet = address.chain(({ family, value }) =>
  fc.integer({ min: 0, max: family === 4 ? 32 : 128 }).map((prefix) => {
    const size = 1n << BigInt((family === 4 ? 32 : 128) - prefix);
    return readSubnet(`${formatAddress(family, value - (value % size))}/${prefix}`);
  }),
);

t.test('an address is read back as it was written, and written as the system writes it', async (t) => {
  fc.assert(
    fc.property(address, ({ family, value }) => {
      const text = formatAddress(family, value);
      if (family === 6 && text.startsWith('::') && value < 2n ** 48n) return parseAddress(text)?.value === value;
      return parseAddress(text)?.value === value && new SocketAddress({ address: text, family: family === 4 ? 'ipv4' : 'ipv6' }).address === text;
    }),
    { numRuns: 2_000 },
  );
  t.equal(parseAddress('FD00:0:0::1')?.value, parseAddress('fd00::1')?.value);
  for (const text of ['', '10.9.0', '10.9.0.256', '10.9.0.01', ':::', 'fd00::1%eth0', '::ffff:10.9.0.1', 'fd00:::1', 'g::', '1:2:3:4:5:6:7:8:9'])
    t.equal(parseAddress(text), null, text);
});

t.test('no text makes the parser throw, and what it takes is canonical', async () => {
  const texts = fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:.]{0,45}\/[0-9]{0,3}$/));
  fc.assert(
    fc.property(texts, (text) => {
      const found = parseSubnet(text);
      return found === null || typeof found === 'string' || readSubnet(found.text).first === found.first;
    }),
    { numRuns: 5_000 },
  );
});

t.test('two subnets overlap exactly where one holds the first address of the other', async () => {
  fc.assert(
    fc.property(subnet, subnet, (left, right) => {
      const expected =
        left.family === right.family && ((left.first <= right.first && right.first <= left.last) || (right.first <= left.first && left.first <= right.last));
      return overlaps(left, right) === expected && overlaps(right, left) === expected;
    }),
    { numRuns: 2_000 },
  );
});

t.test('a subnet that an app network may not have is refused, and the reason helps', async (t) => {
  const wrong: [Family, string, RegExp][] = [
    [4, '10.9.0.0', /no subnet such as/],
    [4, '10.9.0.0/33', /no subnet/],
    [4, '10.9.0.5/24', /do you mean 10\.9\.0\.0\/24/],
    [6, 'fd00::5/64', /do you mean fd00::\/64/],
    [4, 'fd00::/64', /is IPv6, not IPv4/],
    [6, '10.9.0.0/24', /is IPv4, not IPv6/],
    [4, '10.0.0.0/7', /\/8 to \/30/],
    [4, '10.9.0.0/31', /\/8 to \/30/],
    [6, 'fd00::/121', /\/32 to \/120/],
    [4, '127.0.0.0/8', /loopback/],
    [4, '224.1.0.0/16', /multicast/],
    [4, '169.254.0.0/16', /link-local/],
    [6, 'fe80::/64', /unique local/],
    [6, 'ff02::/64', /unique local/],
    [6, '::/96', /unique local/],
  ];
  for (const [family, text, why] of wrong) t.throws(() => checkAppSubnet('subnet', text, family), { code: 'argument_invalid', facts: { why } }, text);
  t.equal(checkAppSubnet('subnet', '10.9.0.0/24', 4).text, '10.9.0.0/24');
  t.equal(checkAppSubnet('subnet6', 'FD00:0::/64', 6).text, 'fd00::/64');
});

const texts = (t: Test, text: string, family: Family) => {
  const pool = appPool(checkAppSubnet('subnet', text, family));
  const all = [...walk(pool, null)].map((value) => formatAddress(family, value));
  t.equal(BigInt(all.length), sizeOf(pool));
  return all;
};

t.test('neither the subnet itself, nor its gateway, nor broadcast, nor anycast is given out', async (t) => {
  t.strictSame(texts(t, '10.9.0.0/30', 4), ['10.9.0.2']);
  t.strictSame(texts(t, '10.9.0.8/29', 4), ['10.9.0.10', '10.9.0.11', '10.9.0.12', '10.9.0.13', '10.9.0.14']);
  const six = texts(t, 'fd00::/120', 6);
  t.equal(six.length, 126);
  t.strictSame([six[0], six.at(-1)], ['fd00::2', 'fd00::7f']);
  t.strictSame(
    [...walk(vtepPool(readSubnet('100.96.0.0/30')), null)].map((value) => formatAddress(4, value)),
    ['100.96.0.1', '100.96.0.2'],
  );
  t.equal(sizeOf(vniPool), 2n ** 24n - 1_001n);
});

t.test('a walk visits every number of the pool once, first the one behind the last given', async () => {
  const pools = fc
    .tuple(fc.bigInt({ min: 0n, max: 2n ** 120n }), fc.integer({ min: 0, max: 300 }))
    .map(([first, size]): Pool => ({ first, last: first + BigInt(size) - 1n }));
  fc.assert(
    fc.property(pools, fc.option(fc.integer({ min: -3, max: 303 })), (pool, offset) => {
      const after = offset === null ? null : pool.first + BigInt(offset);
      const seen = [...walk(pool, after)];
      const isInside = after !== null && after >= pool.first && after < pool.last;
      return (
        BigInt(seen.length) === sizeOf(pool) &&
        new Set(seen).size === seen.length &&
        seen.every((value) => value >= pool.first && value <= pool.last) &&
        (seen.length === 0 || seen[0] === (isInside ? (after as bigint) + 1n : pool.first))
      );
    }),
    { numRuns: 500 },
  );
});

t.test('given out and released in any order, no number is held twice, none is refused while one is free, and a released one rests', async () => {
  const steps = fc.array(fc.oneof(fc.constant(null), fc.nat({ max: 20 })), { maxLength: 120 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), steps, (size, moves) => {
      const pool: Pool = { first: 5n, last: 4n + BigInt(size) };
      const held: bigint[] = [];
      let last: bigint | null = null;
      for (const move of moves) {
        if (move !== null) held.splice(move % Math.max(1, held.length), 1);
        else {
          const next: bigint | undefined = [...walk(pool, last)].find((value) => !held.includes(value));
          if ((next === undefined) !== (held.length === size)) return false;
          if (next === undefined) continue;
          if (next === last && held.length < size - 1) return false;
          held.push(next);
          last = next;
        }
      }
      return new Set(held).size === held.length;
    }),
    { numRuns: 500 },
  );
});
