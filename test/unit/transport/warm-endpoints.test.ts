/** In what order the endpoints of a destination are tried: warm, unknown, failed; only while healthy and authorized does it keep to one. */
import t from 'tap';
import { WarmEndpoints } from '../../../src/transport/warm-endpoints.ts';

const endpoints = ['a', 'b', 'c', 'd'].map((host) => ({ host }));
const orderOf = (warm: WarmEndpoints, transport = 'quic', given = endpoints): string =>
  warm
    .order(transport, given)
    .map(({ host }) => host)
    .join('');

t.test('nothing is known: as the directory has them', async (t) => {
  t.equal(orderOf(new WarmEndpoints()), 'abcd');
});

t.test('who worked comes first, the latest before all; who failed since comes last', async (t) => {
  const warm = new WarmEndpoints();
  warm.worked('quic', 'c', 1);
  warm.worked('quic', 'd', 2);
  t.equal(orderOf(warm), 'dcab');
  warm.failed('quic', 'd', 3);
  t.equal(orderOf(warm), 'cabd');
  warm.failed('quic', 'a', 4);
  t.equal(orderOf(warm), 'cbda', 'of two that failed the one first that ever worked');
  warm.worked('quic', 'd', 5);
  t.equal(orderOf(warm), 'dcba', 'forgiven as soon as it works');
  t.equal(warm.latest('quic'), 'd');
  t.equal(warm.latest('tcp'), null);
});

t.test('over the other transport a host that works is better than one of which nothing is known, and its failure there counts there alone', async (t) => {
  const warm = new WarmEndpoints();
  warm.worked('quic', 'b', 1);
  warm.failed('quic', 'b', 2);
  t.equal(orderOf(warm, 'tcp'), 'bacd');
  t.equal(orderOf(warm, 'quic'), 'acdb');
});

t.test('an address that the directory has no more is never offered, and what is remembered is bounded', async (t) => {
  const warm = new WarmEndpoints();
  warm.worked('quic', 'old', 1);
  t.equal(orderOf(warm), 'abcd');
  for (let index = 0; index < 1_000; index++) warm.worked('quic', `h${index}`, 2 + index);
  t.equal(orderOf(warm, 'quic', [{ host: 'new' }, { host: 'old' }, { host: 'h999' }]), 'h999newold');
});
