/** What is kept of app networks between snapshots: only what is current, and never too much. */
import fc from 'fast-check';
import t from 'tap';
import type { AppEndpoint } from '../../../src/enroll/app-wire.ts';
import { limits } from '../../../src/base/limits.ts';
import { VersionCache } from '../../../src/tower/version-cache.ts';

const endpoint: AppEndpoint = { node: '0123456789ab', attachment: '', mac: '02:00:00:00:00:01', address4: '10.9.0.2', address6: null };
const many = (count: number) => Array.from({ length: count }, () => endpoint);

t.test('what was read at another version is not believed', async (t) => {
  const cache = new VersionCache<AppEndpoint>(limits.app_cache_endpoints_max);
  cache.set('shop', 5, many(2));
  t.equal(cache.get('shop', 5)?.length, 2);
  t.equal(cache.get('shop', 6), null);
  t.equal(cache.get('shop', 4), null);
  t.equal(cache.get('office', 5), null);
  cache.set('shop', 6, []);
  t.strictSame(cache.get('shop', 6), [], 'an empty network is known too');
});

t.test('the one not asked for longest is forgotten first', async (t) => {
  const cache = new VersionCache<AppEndpoint>(10);
  cache.set('a', 1, many(4));
  cache.set('b', 1, many(4));
  t.ok(cache.get('a', 1));
  cache.set('c', 1, many(4));
  t.strictSame([cache.get('a', 1)?.length, cache.get('b', 1), cache.get('c', 1)?.length], [4, null, 4]);
  cache.set('d', 1, many(11));
  t.equal(cache.get('d', 1), null, 'what is larger than all of it is not kept, and pushes nothing out');
  t.equal(cache.size, 8);
  t.ok(limits.app_cache_endpoints_max >= limits.app_endpoints_per_node_max);
});

t.test('whatever is put in, it holds no more than it may, and what it gives is what was put in', async () => {
  const steps = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.nat({ max: 3 }), fc.nat({ max: 8 })), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (moves) => {
      const cache = new VersionCache<AppEndpoint>(12);
      const put = new Map<string, number>();
      return moves.every(([network, version, count]) => {
        const found = cache.get(network, version);
        if (found !== null && found.length !== put.get(`${network} ${version}`)) return false;
        put.set(`${network} ${version}`, count);
        cache.set(network, version, many(count));
        return cache.size <= 12 && cache.get(network, version)?.length === count;
      });
    }),
  );
});
