/**
 * The rules that one node may know (spec 6.3, 14.2): those that it is an end of, with a node that it is told of at the other end; and of their selectors only names of
 * itself and its peers, of their roles, sites and tenants. What is left out selects nobody whom the node knows, so that it decides as it would with all of it. Pure.
 */
import type { PolicyRule, RoleRule, RouteRule, Rules, Selector, ServiceRule } from '../enroll/rule-wire.ts';
import { selects } from '../policy/rules.ts';
import type { Specs } from './resources/kinds.ts';
import type { NodeRow } from './store/store.ts';

export type NamedRule<Spec> = Spec & { readonly name: string };

/** All rules of the cluster, each kind in the order of names. */
export interface RuleSet {
  readonly roles: readonly NamedRule<Specs['role']>[];
  readonly policies: readonly NamedRule<Specs['policy']>[];
  readonly routes: readonly NamedRule<Specs['route']>[];
  readonly services: readonly NamedRule<Specs['service']>[];
}

/** What one node's snapshot is cut from, at one moment. */
export interface NodeView {
  readonly version: number;
  /** All whom rules may let it talk to, and more: itself, revoked and disabled ones with them. */
  readonly nodes: readonly NodeRow[];
  readonly rules: RuleSet;
  /** The version of the last change of a rule that concerns a node. */
  readonly epochOf: (node: Selectable) => number;
}

/** Whose changes a node's snapshot may show. */
export interface Seen {
  readonly version: number;
  readonly sites: ReadonlySet<string> | 'all';
}

export type Selectable = Pick<NodeRow, 'id' | 'site' | 'tenant' | 'roles'>;

/** Null where no rule concerns the node. */
export function rulesPart(self: Selectable, peers: readonly Selectable[], rules: RuleSet): Rules | null {
  const known = new Known([self, ...peers]);
  const policies = rules.policies.flatMap((policy) => policyFor(self, known, policy));
  const routes = rules.routes.flatMap((route) => routeFor(self, known, route));
  const services = servicesFor(self, known, policies, rules.services);
  const roles = rules.roles.flatMap((role) => roleFor(known, role));
  return policies.length + routes.length + services.length + roles.length === 0 ? null : { roles, policies, routes, services };
}

/** The nodes that a node is told of, itself with them. Many are alike in all that a rule can ask for. */
class Known {
  readonly nodes = new Map<string, Selectable>();
  readonly roles = new Set<string>();
  readonly #sites = new Set<string>();
  readonly #tenants = new Set<string>();
  readonly #alike = new Map<string, Selectable>();

  constructor(nodes: readonly Selectable[]) {
    for (const node of nodes) {
      this.nodes.set(node.id, node);
      this.#sites.add(node.site);
      if (node.tenant !== null) this.#tenants.add(node.tenant);
      for (const role of node.roles) this.roles.add(role);
      this.#alike.set(`${node.site}/${node.tenant ?? ''}/${node.roles.join(' ')}`, node);
    }
  }

  hasAny(selector: Selector): boolean {
    const candidates = selector.nodes === undefined ? this.#alike.values() : selector.nodes.flatMap((id) => this.nodes.get(id) ?? []);
    for (const node of candidates) if (selects(selector, node)) return true;
    return false;
  }

  narrow({ nodes, roles, sites, tenants }: Selector): Selector {
    return {
      ...(nodes !== undefined && { nodes: nodes.filter((id) => this.nodes.has(id)) }),
      ...(roles !== undefined && { roles: roles.filter((role) => this.roles.has(role)) }),
      ...(sites !== undefined && { sites: sites.filter((site) => this.#sites.has(site)) }),
      ...(tenants !== undefined && { tenants: tenants.filter((tenant) => this.#tenants.has(tenant)) }),
    };
  }
}

function policyFor(self: Selectable, known: Known, policy: NamedRule<Specs['policy']>): PolicyRule[] {
  const { name, priority, effect, from, to, classes, services, degraded } = policy;
  const isEnd = (selects(from, self) && known.hasAny(to)) || (selects(to, self) && known.hasAny(from));
  return isEnd ? [{ name, priority, effect, from: known.narrow(from), to: known.narrow(to), classes, services, degraded }] : [];
}

/** Who is to go through a relay must know it, wherever it is; a relay or an end knows of the others those whom it is told of anyway. */
function routeFor(self: Selectable, known: Known, route: NamedRule<Specs['route']>): RouteRule[] {
  const { name, priority, from, to, via, classes } = route;
  const isFrom = selects(from, self);
  if (!isFrom && !via.includes(self.id) && !(to !== null && selects(to, self))) return [];
  const relays = isFrom ? via : via.filter((id) => known.nodes.has(id));
  return [{ name, priority, from: known.narrow(from), to: to === null ? null : known.narrow(to), via: relays, classes }];
}

/** A host is told the target; whoever a policy lets dial it, the name and the hosts that it knows. */
function servicesFor(self: Selectable, known: Known, policies: readonly PolicyRule[], services: RuleSet['services']): ServiceRule[] {
  const dialed = new Set(policies.flatMap((policy) => (policy.effect === 'allow' && selects(policy.from, self) ? (policy.services ?? []) : [])));
  return services.flatMap(({ name, protocol, target, hosts }): ServiceRule[] => {
    if (selects(hosts, self)) return [{ name, protocol, target, hosts: known.narrow(hosts) }];
    return dialed.has(name) ? [{ name, protocol, hosts: known.narrow(hosts) }] : [];
  });
}

function roleFor(known: Known, { name, peers, classes }: NamedRule<Specs['role']>): RoleRule[] {
  if (!known.roles.has(name)) return [];
  return [{ name, peers: peers === null ? null : peers.filter((role) => known.roles.has(role)), classes }];
}
