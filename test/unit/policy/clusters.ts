/** Small clusters with rules of every kind, for properties of the authorization decision. */
import fc from 'fast-check';
import { trafficClassNames } from '../../../src/channel/classes.ts';
import type { End, Request } from '../../../src/policy/authorize.ts';
import type { Selector } from '../../../src/policy/rules.ts';
import { completeSpec, type KindName, kinds, type Specs } from '../../../src/tower/resources/kinds.ts';
import type { NamedRule, RuleSet } from '../../../src/tower/rules-snapshot.ts';

export const rule = <Name extends KindName>(kind: Name, name: string, said: object): NamedRule<Specs[Name]> => ({ name, ...completeSpec(kinds[kind], said) });
export const noRuleSet: RuleSet = { roles: [], policies: [], routes: [], services: [] };

export const idOf = (index: number): string => index.toString(16).padStart(12, '0');
export const endOf = (index: number, more: Partial<End> = {}): End => ({ cluster: 'c', id: idOf(index), site: 'harbor', tenant: null, roles: [], ...more });
export const classes = trafficClassNames;

export const channelOf = (from: End, to: End): Request => ({ from, to, flow: null, classes, degraded: false });
export const flowOf = (from: End, to: End, cls: string, service = 'echo'): Request => ({ from, to, flow: { class: cls, service }, classes, degraded: false });

const NODES = 6;
const few = fc.constantFrom('a', 'b', 'c');
const someClasses = fc.option(fc.uniqueArray(fc.constantFrom('input', 'render', 'health', 'vpn_packet'), { minLength: 1, maxLength: 3 }), {
  nil: null,
  freq: 2,
});
const list = fc.option(fc.uniqueArray(few, { minLength: 1, maxLength: 2 }), { nil: undefined, freq: 1 });
const ids = fc.uniqueArray(fc.nat({ max: NODES + 1 }).map(idOf), { minLength: 1, maxLength: 4 });
export const selector = fc
  .record({ nodes: fc.option(ids, { nil: undefined, freq: 1 }), roles: list, sites: list, tenants: list })
  .map((lists) => JSON.parse(JSON.stringify(lists)) as Selector);

const anyEnd = (index: number): fc.Arbitrary<End> =>
  fc
    .record({ site: few, tenant: fc.option(few, { freq: 1 }), roles: fc.uniqueArray(few, { maxLength: 2 }) })
    .map((labels) => endOf(index, { ...labels, roles: [...labels.roles].sort() }));
const named = <Name extends KindName, Said extends object>(kind: Name, max: number, said: fc.Arbitrary<Said>) =>
  fc.array(said, { maxLength: max }).map((all) => all.map((one, index) => rule(kind, `${kind}-${index}`, one)));

export const policies = named(
  'policy',
  5,
  fc.record({
    priority: fc.nat({ max: 2 }),
    effect: fc.constantFrom('allow', 'deny'),
    from: selector,
    to: selector,
    classes: someClasses,
    services: fc.option(fc.constantFrom(['service-0'], ['service-0', 'service-1']), { nil: null, freq: 2 }),
    degraded: fc.boolean(),
  }),
);
const peers = fc.option(fc.uniqueArray(few, { maxLength: 2 }), { nil: null, freq: 1 });
const roles = fc
  .record({ a: fc.record({ peers, classes: someClasses }), b: fc.record({ peers, classes: someClasses }), c: fc.record({ peers, classes: someClasses }) })
  .map((all) => Object.entries(all).map(([name, said]) => rule('role', name, said)));
const routes = named('route', 2, fc.record({ from: selector, via: ids, classes: someClasses }));
const services = fc.tuple(selector, selector).map((all) => all.map((hosts, index) => rule('service', `service-${index}`, { hosts })));
export const rules: fc.Arbitrary<RuleSet> = fc.record({ roles: fc.oneof(fc.constant([]), roles), policies, routes, services });

export interface Cluster {
  readonly nodes: readonly End[];
  readonly rules: RuleSet;
}
export const cluster: fc.Arbitrary<Cluster> = fc.record({ nodes: fc.tuple(...Array.from({ length: NODES }, (_, index) => anyEnd(index))), rules });

/** What flows of every sort two nodes could ask for. */
export function* allFlows(from: End, to: End, degraded = false): Generator<Request> {
  for (const cls of classes)
    for (const service of ['echo', 'service/service-0', 'service/service-1', 'service/none']) yield { ...flowOf(from, to, cls, service), degraded };
}
export const pairs = (nodes: readonly End[]): [End, End][] => nodes.flatMap((from) => nodes.filter((to) => to !== from).map((to): [End, End] => [from, to]));
