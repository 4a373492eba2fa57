/** What of the cluster's rules one node is told: what it needs to decide, and no name of anybody whom it may not know. */
import fc from 'fast-check';
import t from 'tap';
import type { Selector } from '../../../src/enroll/rule-wire.ts';
import { completeSpec, type KindName, kinds, type Specs } from '../../../src/tower/resources/kinds.ts';
import { selects } from '../../../src/policy/rules.ts';
import { type NamedRule, type RuleSet, rulesPart } from '../../../src/tower/rules-snapshot.ts';

const nodeOf = (id: string, more: { site?: string; tenant?: string | null; roles?: string[] } = {}) => ({
  id,
  site: 'harbor',
  tenant: null,
  roles: [],
  ...more,
});
const rule = <Name extends KindName>(kind: Name, name: string, said: object): NamedRule<Specs[Name]> => ({ name, ...completeSpec(kinds[kind], said) });
const none: RuleSet = { roles: [], policies: [], routes: [], services: [] };
const target = { host: '127.0.0.1', port: 631 };

const till = nodeOf('00000000000a', { roles: ['till'], tenant: 'shop' });
const printer = nodeOf('00000000000b', { roles: ['printer'] });
const stranger = '0000000000ff';

t.test('a node that no rule concerns is told of none', async (t) => {
  t.equal(rulesPart(till, [printer], none), null);
  const policies = [rule('policy', 'p', { from: { sites: ['other'] } }), rule('policy', 'q', { from: { nodes: [stranger] }, to: { nodes: [till.id] } })];
  t.equal(rulesPart(till, [printer], { ...none, policies }), null, 'nor of one whose other end it does not know');
});

t.test('selectors hold only names that the node knows anyway', async (t) => {
  const policies = [rule('policy', 'p', { from: { roles: ['till', 'admin'], sites: ['harbor', 'airport'] }, to: { nodes: [printer.id, stranger] } })];
  const roles = [rule('role', 'till', { peers: ['printer', 'admin'] }), rule('role', 'admin', {}), rule('role', 'printer', {})];
  for (const [self, peer] of [[till, printer] as const, [printer, till] as const]) {
    const part = rulesPart(self, [peer], { ...none, policies, roles });
    t.match(part?.policies, [{ name: 'p', from: { roles: ['till'], sites: ['harbor'] }, to: { nodes: [printer.id] } }]);
    t.strictSame(part?.roles, [
      { name: 'till', peers: ['printer'], classes: null },
      { name: 'printer', peers: null, classes: null },
    ]);
    t.notMatch(JSON.stringify(part), /admin|airport|0000000000ff|description/);
  }
});

t.test('a service’s target is told to its hosts, its name to those whom a policy lets dial it, nothing to others', async (t) => {
  const services = [rule('service', 'print', { hosts: { roles: ['printer'] }, target }), rule('service', 'secret', { hosts: { nodes: [stranger] }, target })];
  const policies = [rule('policy', 'p', { from: { roles: ['till'] }, to: { roles: ['printer'] }, services: ['print'] })];
  const rules = { ...none, services, policies };
  t.strictSame(rulesPart(printer, [till], rules)?.services, [{ name: 'print', protocol: 'tcp', target, hosts: { roles: ['printer'] } }]);
  t.strictSame(rulesPart(till, [printer], rules)?.services, [{ name: 'print', protocol: 'tcp', hosts: { roles: ['printer'] } }]);
  t.equal(rulesPart(nodeOf('00000000000c'), [nodeOf('00000000000d')], rules), null);
  const denied = [{ ...policies[0], effect: 'deny' } as (typeof policies)[number]];
  t.strictSame(rulesPart(till, [printer], { ...rules, policies: denied })?.services, [], 'a policy that denies lets nobody dial');
});

t.test('a route is told to who goes through it, who relays and who is reached', async (t) => {
  const gate = nodeOf('00000000000c', { roles: ['gate'] });
  const routes = [rule('route', 'up', { from: { roles: ['till'] }, via: [gate.id, stranger] })];
  t.match(rulesPart(till, [gate], { ...none, routes })?.routes, [{ name: 'up', to: null, via: [gate.id, stranger] }]);
  t.match(rulesPart(gate, [till], { ...none, routes })?.routes, [{ name: 'up', via: [gate.id] }]);
  t.equal(rulesPart(printer, [till, gate], { ...none, routes }), null);
});

t.test('narrowed rules select, of the nodes that are known, exactly whom the whole rules do, and name nobody else', async () => {
  const id = (index: number) => index.toString(16).padStart(12, '0');
  const word = fc.constantFrom('a', 'b', 'c', 'd');
  const anyNode = (index: number) =>
    fc.record({ id: fc.constant(id(index)), site: word, tenant: fc.option(word), roles: fc.uniqueArray(word, { maxLength: 3 }) });
  const nodes = fc.tuple(anyNode(0), fc.tuple(...Array.from({ length: 5 }, (_, index) => anyNode(index + 1))));
  const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  const list = optional(fc.uniqueArray(word, { maxLength: 3 }));
  const ids = optional(fc.uniqueArray(fc.nat({ max: 9 }).map(id), { maxLength: 4 }));
  const selector = fc.record({ nodes: ids, roles: list, sites: list, tenants: list }).map((lists) => JSON.parse(JSON.stringify(lists)) as Selector);
  fc.assert(
    fc.property(nodes, selector, selector, ([self, peers], from, to) => {
      const known = [self, ...peers];
      const told = rulesPart(self, peers, { ...none, policies: [rule('policy', 'p', { from, to })] })?.policies[0];
      const concerns = (selects(from, self) && known.some((node) => selects(to, node))) || (selects(to, self) && known.some((node) => selects(from, node)));
      if (told === undefined) return !concerns;
      const names = new Set(known.flatMap((node) => [node.id, node.site, node.tenant, ...node.roles]));
      const named = [told.from, told.to].flatMap((one) => Object.values(one).flat());
      return (
        concerns &&
        known.every((node) => selects(told.from, node) === selects(from, node) && selects(told.to, node) === selects(to, node)) &&
        named.every((one) => names.has(one))
      );
    }),
    { numRuns: 2_000 },
  );
});
