/** The one authorization decision (spec 6.1), document by document. */
import t from 'tap';
import { authorize, type Decision } from '../../../src/policy/authorize.ts';
import { channelOf, classes, endOf, flowOf, noRuleSet, rule } from './clusters.ts';

const till = endOf(1, { roles: ['till'] });
const printer = endOf(2, { roles: ['printer'] });
const far = endOf(3, { site: 'airport' });
const tower = endOf(4, { id: 'tower', site: 'tower' });
const verdict = ({ allowed, code, by, name }: Decision) => [allowed, code, by, name];

t.test('without any document nodes of one site talk, in the classes that both offer', async (t) => {
  for (const cls of classes) t.strictSame(verdict(authorize(flowOf(till, printer, cls), noRuleSet)), [true, null, 'default', null]);
  t.strictSame(verdict(authorize({ ...flowOf(till, printer, 'input'), classes: ['health'] }, noRuleSet)), [false, 'channel_class_denied', 'offer', null]);
  t.ok(authorize(channelOf(till, printer), noRuleSet).allowed);
  t.strictSame(verdict(authorize(channelOf(till, far), noRuleSet)), [false, 'policy_denied', 'default', null]);
});

t.test('nodes of one site and of two tenants do not, unless one is the platform’s own', async (t) => {
  const [bakery, florist] = [endOf(1, { tenant: 'bakery' }), endOf(2, { tenant: 'florist' })];
  t.match(authorize(channelOf(bakery, florist), noRuleSet), { allowed: false, code: 'policy_denied', reason: /tenants bakery and florist/ });
  t.ok(authorize(channelOf(bakery, endOf(3)), noRuleSet).allowed);
  t.ok(authorize(channelOf(bakery, florist), { ...noRuleSet, policies: [rule('policy', 'p', { from: { tenants: ['bakery'] } })] }).allowed);
});

t.test('another cluster, a revoked node and a disabled one are refused, whatever rules say', async (t) => {
  const rules = { ...noRuleSet, policies: [rule('policy', 'all', { priority: 10_000 })] };
  t.equal(authorize(channelOf(till, { ...printer, cluster: 'd' }), rules).code, 'wrong_cluster');
  t.equal(authorize(channelOf(till, { ...printer, gone: 'revoked' }), rules).code, 'certificate_revoked');
  t.equal(authorize(flowOf({ ...till, gone: 'disabled' }, printer, 'health'), rules).code, 'peer_disabled');
  t.equal(authorize(flowOf({ ...till, gone: 'disabled' }, tower, 'fabric_control'), rules).code, 'peer_disabled');
});

t.test('the highest priority decides; of the same, deny does', async (t) => {
  const policies = [
    rule('policy', 'low', { priority: 1, effect: 'deny' }),
    rule('policy', 'mid', { priority: 2, classes: ['input', 'render'] }),
    rule('policy', 'top', { priority: 3, effect: 'deny', classes: ['render'], from: { roles: ['till'] } }),
  ];
  const rules = { ...noRuleSet, policies };
  t.strictSame(verdict(authorize(flowOf(till, printer, 'input'), rules)), [true, null, 'policy', 'mid']);
  t.strictSame(verdict(authorize(flowOf(till, printer, 'render'), rules)), [false, 'channel_class_denied', 'policy', 'top']);
  t.strictSame(verdict(authorize(flowOf(printer, till, 'render'), rules)), [true, null, 'policy', 'mid'], 'which is of one direction');
  t.strictSame(verdict(authorize(flowOf(till, printer, 'health'), rules)), [false, 'channel_class_denied', 'policy', 'low']);
  const tied = [...policies, rule('policy', 'also', { priority: 2, effect: 'deny', classes: ['input'] })];
  t.strictSame(verdict(authorize(flowOf(till, printer, 'input'), { ...rules, policies: tied })), [false, 'channel_class_denied', 'policy', 'also']);
});

t.test('nodes that may use no class either way have no channel', async (t) => {
  const policies = [rule('policy', 'apart', { effect: 'deny', from: { roles: ['till'] } })];
  t.ok(authorize(channelOf(till, printer), { ...noRuleSet, policies }).allowed, 'the other direction is left');
  const both = [...policies, rule('policy', 'too', { effect: 'deny', to: { roles: ['till'] } })];
  t.match(authorize(channelOf(till, printer), { ...noRuleSet, policies: both }), { allowed: false, code: 'policy_denied', by: 'policy', name: 'apart' });
});

t.test('roles say with whom a node may have channels, and cap its classes; each narrows', async (t) => {
  const roles = [rule('role', 'till', { peers: ['printer'], classes: ['input', 'file_transfer'] }), rule('role', 'printer', {})];
  const rules = { ...noRuleSet, roles, policies: [rule('policy', 'all', {})] };
  t.ok(authorize(channelOf(till, printer), rules).allowed);
  t.strictSame(verdict(authorize(channelOf(endOf(5), till), rules)), [false, 'policy_denied', 'role', 'till'], 'in either direction');
  t.ok(authorize(flowOf(printer, till, 'input'), rules).allowed);
  t.strictSame(verdict(authorize(flowOf(printer, till, 'render'), rules)), [false, 'channel_class_denied', 'role', 'till']);
  const narrow = { ...rules, roles: [...roles, rule('role', 'old', { classes: ['input'] })] };
  t.notOk(authorize(flowOf({ ...till, roles: ['old', 'till'] }, printer, 'file_transfer'), narrow).allowed);
});

t.test('node and tower always have fabric_control and health; other classes are capped by the node’s roles, and no policy is about the tower', async (t) => {
  const rules = { ...noRuleSet, roles: [rule('role', 'till', { peers: [], classes: ['input'] })], policies: [rule('policy', 'none', { effect: 'deny' })] };
  for (const [from, to] of [
    [till, tower],
    [tower, till],
  ] as const) {
    t.ok(authorize(channelOf(from, to), rules).allowed);
    t.strictSame(verdict(authorize(flowOf(from, to, 'fabric_control'), rules)), [true, null, 'tower', null]);
    t.ok(authorize(flowOf(from, to, 'health'), rules).allowed);
    t.strictSame(verdict(authorize(flowOf(from, to, 'file_transfer'), rules)), [false, 'channel_class_denied', 'role', 'till']);
    t.ok(authorize(flowOf(from, to, 'input'), rules).allowed);
  }
});

t.test('a declared service is dialed where it is hosted, by whom a policy that names it lets', async (t) => {
  const services = [rule('service', 'print', { hosts: { roles: ['printer'] }, target: { host: '127.0.0.1', port: 631 } })];
  const print = flowOf(till, printer, 'input', 'service/print');
  t.strictSame(verdict(authorize(print, { ...noRuleSet, services })), [false, 'policy_denied', 'service', 'print'], 'the default opens none');
  const all = rule('policy', 'all', { priority: 5 });
  t.notOk(authorize(print, { ...noRuleSet, services, policies: [all] }).allowed, 'nor does a policy that names none');
  const policies = [all, rule('policy', 'dial', { priority: 5, from: { roles: ['till'] }, services: ['print'] })];
  t.strictSame(verdict(authorize(print, { ...noRuleSet, services, policies })), [true, null, 'policy', 'dial']);
  t.equal(authorize(flowOf(till, endOf(7), 'input', 'service/print'), { ...noRuleSet, services, policies }).code, 'policy_denied', 'not a host');
  const closed = [...policies, rule('policy', 'closed', { priority: 6, effect: 'deny' })];
  t.notOk(authorize(print, { ...noRuleSet, services, policies: closed }).allowed, 'a deny closes all');
  const alone = {
    ...noRuleSet,
    services,
    policies: [rule('policy', 'dial', { from: { sites: ['airport'] }, to: { sites: ['harbor'] }, services: ['print'] })],
  };
  t.ok(authorize(channelOf(printer, far), alone).allowed, 'a channel is there for a service, too');
  t.notOk(authorize(flowOf(far, printer, 'input'), alone).allowed);
});

t.test('a route lets a node and the relay have a channel, for what it carries and to speak of it', async (t) => {
  const routes = [rule('route', 'up', { from: { sites: ['airport'] }, via: [printer.id], classes: ['vpn_packet'] })];
  const rules = { ...noRuleSet, routes };
  t.match(authorize(channelOf(far, printer), rules), { allowed: true, by: 'route', name: 'up' });
  t.ok(authorize(flowOf(far, printer, 'vpn_packet'), rules).allowed);
  t.ok(authorize(flowOf(printer, far, 'route_control'), rules).allowed);
  t.notOk(authorize(flowOf(far, printer, 'input'), rules).allowed);
  t.notOk(authorize(channelOf(far, till), rules).allowed);
  t.notOk(
    authorize(flowOf(far, printer, 'vpn_packet'), { ...rules, policies: [rule('policy', 'none', { effect: 'deny' })] }).allowed,
    'a policy decides first',
  );
});

t.test('while the tower is away a policy allows only if it says so', async (t) => {
  const policies = [
    rule('policy', 'near', { priority: 2, classes: ['input'] }),
    rule('policy', 'always', { priority: 2, classes: ['health'], degraded: true }),
  ];
  const ask = (cls: string) => verdict(authorize({ ...flowOf(till, printer, cls), degraded: true }, { ...noRuleSet, policies }));
  t.strictSame(ask('input'), [false, 'channel_class_denied', 'policy', 'near']);
  t.strictSame(ask('health'), [true, null, 'policy', 'always']);
  t.strictSame(ask('render'), [true, null, 'default', null]);
});
