/** The one authorization decision of a flow (spec 6.1), as far as it goes so far. */
import t from 'tap';
import { authorizeFlow } from '../../../src/policy/authorize.ts';

const opener = { cluster: 'c', site: 's', node: 'aaaaaaaaaaaa' };
const acceptor = { cluster: 'c', site: 't', node: 'bbbbbbbbbbbb' };
const request = { opener, acceptor, class: 'input', service: 'echo', classes: ['input', 'health'] };

t.test('members of one cluster may open flows of the classes that both ends offer', async (t) => {
  t.equal(authorizeFlow(request), null);
});

t.test('a class that the other end does not offer is refused with its name', async (t) => {
  t.match(authorizeFlow({ ...request, class: 'vpn_packet' }), { code: 'channel_class_denied', facts: { class: 'vpn_packet' } });
});

t.test('another cluster is refused, whatever it offers', async (t) => {
  t.match(authorizeFlow({ ...request, opener: { ...opener, cluster: 'd' } }), { code: 'wrong_cluster', facts: { found: 'd', expected: 'c' } });
});
