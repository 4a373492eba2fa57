/**
 * The one authorization decision (spec 6.1): whether two hosts may have a channel, and whether a flow of a class and a service may be opened from one to the
 * other. Both ends ask it with what they know, and the tower with all there is; all get the same answer (docs/resources.md says it in words). Asked after identity was judged. Pure.
 *
 *   cluster, then what became of the nodes, then roles, then the policies of the highest priority that fit, then what holds without one
 */
import type { ErrorCode } from '../base/errors.ts';
import { isTower, type Member, type PolicyRule, type RouteRule, type Rules, selects } from './rules.ts';

export interface End extends Member {
  readonly cluster: string;
  /** Absent: neither. */
  readonly gone?: 'revoked' | 'disabled';
}

export interface Flow {
  readonly class: string;
  /** As the flow names it; see `declaredService`. */
  readonly service: string;
}

export interface Request {
  /** Of a flow, who opens it and who accepts it; a channel is for both directions. */
  readonly from: End;
  readonly to: End;
  /** Null: whether there may be a channel. */
  readonly flow: Flow | null;
  /** Classes that both ends offer. */
  readonly classes: readonly string[];
  /** The tower is away (spec 9.5). */
  readonly degraded: boolean;
}

export type DecidedBy = 'cluster' | 'node' | 'offer' | 'role' | 'policy' | 'service' | 'route' | 'tower' | 'default';

export interface Decision {
  readonly allowed: boolean;
  /** What the refusal is called; null: allowed. */
  readonly code: ErrorCode | null;
  readonly reason: string;
  readonly by: DecidedBy;
  /** Name of the document that decided, where one did. */
  readonly name: string | null;
}

/** Between node and tower, whatever anybody says: without them nobody would hear that it was said otherwise. */
const towerClasses: readonly string[] = ['fabric_control', 'health'];
/** What a node and the relay that a route gives it say to each other, beside what is relayed. */
const relayClasses: readonly string[] = ['route_control', 'health'];
const SERVICE_PREFIX = 'service/';

/** Flows to a service that an operator declared are named after it; all other names are the product's own. Null: of no declared service. */
export function declaredService(service: string): string | null {
  return service.startsWith(SERVICE_PREFIX) ? service.slice(SERVICE_PREFIX.length) : null;
}

export function flowServiceOf(declared: string): string {
  return SERVICE_PREFIX + declared;
}

export function authorize(request: Request, rules: Rules): Decision {
  return (
    hostsObjection(request) ??
    rolesObjection(request, rules) ??
    (request.flow === null ? decideChannel(request, rules) : decideFlow(request, request.flow, rules))
  );
}

function hostsObjection({ from, to }: Request): Decision | null {
  if (from.cluster !== to.cluster) return deny('wrong_cluster', 'cluster', null, `${from.id} is of cluster ${from.cluster}, ${to.id} of ${to.cluster}`);
  const gone = [from, to].find((end) => end.gone !== undefined);
  if (gone === undefined) return null;
  return deny(gone.gone === 'revoked' ? 'certificate_revoked' : 'peer_disabled', 'node', gone.id, `node ${gone.id} is ${gone.gone}`);
}

/** Each role of a node narrows with whom it may have a channel. */
function rolesObjection({ from, to }: Request, rules: Rules): Decision | null {
  if (isTower(from) || isTower(to)) return null;
  for (const [self, peer] of [
    [from, to],
    [to, from],
  ] as const) {
    const role = rolesOf(self, rules).find(({ peers }) => peers !== null && !peers.some((name) => peer.roles.includes(name)));
    if (role !== undefined) return deny('policy_denied', 'role', role.name, `role ${role.name} of ${self.id} may have channels with nodes of other roles only`);
  }
  return null;
}

/** A channel is for the flows that may be: of any class, either way. */
function decideChannel(request: Request, rules: Rules): Decision {
  let refusal: Decision | null = null;
  for (const [from, to] of [
    [request.from, request.to],
    [request.to, request.from],
  ] as const) {
    const fitting = fittingPolicies(from, to, rules);
    const services = ['', ...new Set(fitting.flatMap((policy) => policy.services ?? []).map(flowServiceOf))];
    for (const cls of request.classes) {
      for (const service of services) {
        const decision = decideFlow({ ...request, from, to }, { class: cls, service }, rules, fitting);
        if (decision.allowed) return decision;
        refusal ??= decision;
      }
    }
  }
  const { by, name, reason } = refusal ?? { by: 'offer', name: null, reason: 'they offer no class in common' };
  return deny('policy_denied', by, name, `no class is allowed either way; ${reason}`);
}

function decideFlow(request: Request, flow: Flow, rules: Rules, fitting = fittingPolicies(request.from, request.to, rules)): Decision {
  const { from, to, classes } = request;
  if (!classes.includes(flow.class)) return deny('channel_class_denied', 'offer', null, 'the other end does not offer it');
  const isOfTower = isTower(from) || isTower(to);
  if (isOfTower && towerClasses.includes(flow.class)) return allow('tower', null, `${flow.class} with the tower is always allowed`);
  return (
    classObjection(request, flow, rules) ?? (isOfTower ? allow('tower', null, 'no policy is about the tower') : decideByRules(request, flow, rules, fitting))
  );
}

/** Each role of both ends caps the classes. */
function classObjection({ from, to }: Request, flow: Flow, rules: Rules): Decision | null {
  const role = [from, to].flatMap((end) => rolesOf(end, rules)).find(({ classes }) => classes !== null && !classes.includes(flow.class));
  return role === undefined ? null : deny('channel_class_denied', 'role', role.name, `role ${role.name} does not use it`);
}

function decideByRules(request: Request, flow: Flow, rules: Rules, fitting: readonly PolicyRule[]): Decision {
  const service = declaredService(flow.service);
  if (service !== null && !rules.services.some(({ name, hosts }) => name === service && hosts !== undefined && selects(hosts, request.to)))
    return deny('policy_denied', 'service', null, `${request.to.id} hosts no service ${service} for ${request.from.id}`);
  const deciding = highest(fitting.filter((policy) => fitsFlow(policy, flow.class, service)));
  if (deciding.length > 0) return decideByPolicies(deciding, flow, request.degraded);
  if (service !== null) return deny('policy_denied', 'service', service, `no policy lets ${request.from.id} dial service ${service}`);
  return withoutPolicy(request, flow, rules);
}

/** Those of one priority: if one denies, it is denied. The first by name is named, whatever their order. */
function decideByPolicies(deciding: readonly PolicyRule[], { class: cls }: Flow, degraded: boolean): Decision {
  const denying = firstByName(deciding.filter(({ effect }) => effect === 'deny'));
  if (denying !== undefined)
    return deny(
      denying.services === null ? 'channel_class_denied' : 'policy_denied',
      'policy',
      denying.name,
      `policy ${denying.name} (priority ${denying.priority}) denies it`,
    );
  const allowing = firstByName(deciding.filter((policy) => !degraded || policy.degraded));
  if (allowing !== undefined) return allow('policy', allowing.name, `policy ${allowing.name} (priority ${allowing.priority}) allows ${cls}`);
  const absent = firstByName(deciding)?.name ?? null;
  return deny('channel_class_denied', 'policy', absent, `policy ${absent} allows it only while the tower can be reached`);
}

/** Where no policy fits: nodes of one site and one tenant talk; a node and the relay that a route gives it do. */
function withoutPolicy({ from, to }: Request, { class: cls }: Flow, rules: Rules): Decision {
  const isOneTenant = from.tenant === null || to.tenant === null || from.tenant === to.tenant;
  if (from.site === to.site && isOneTenant) return allow('default', null, 'no policy fits, and nodes of one site may talk');
  const route = firstByName(rules.routes.filter((one) => carries(one, cls) && (leads(one, from, to) || leads(one, to, from))));
  if (route !== undefined) return allow('route', route.name, `route ${route.name} goes from one through the other`);
  const apart = from.site === to.site ? `tenants ${from.tenant} and ${to.tenant}` : `sites ${from.site} and ${to.site}`;
  return deny('channel_class_denied', 'default', null, `no policy fits, and they are of different ${from.site === to.site ? 'tenants' : 'sites'}: ${apart}`);
}

function carries({ classes }: RouteRule, cls: string): boolean {
  return classes === null || classes.includes(cls) || relayClasses.includes(cls);
}

function leads({ from, via }: RouteRule, node: Member, relay: Member): boolean {
  return via.includes(relay.id) && selects(from, node);
}

function fittingPolicies(from: Member, to: Member, rules: Rules): PolicyRule[] {
  return rules.policies.filter((policy) => selects(policy.from, from) && selects(policy.to, to));
}

/** To open a declared service to somebody, a policy has to name it; one that names none still closes it. */
function fitsFlow({ classes, services, effect }: PolicyRule, cls: string, service: string | null): boolean {
  if (classes !== null && !classes.includes(cls)) return false;
  if (services === null) return service === null || effect === 'deny';
  return service !== null && services.includes(service);
}

function highest(policies: readonly PolicyRule[]): PolicyRule[] {
  const priority = policies.reduce((most, policy) => Math.max(most, policy.priority), Number.NEGATIVE_INFINITY);
  return policies.filter((policy) => policy.priority === priority);
}

function firstByName<Rule extends { readonly name: string }>(rules: readonly Rule[]): Rule | undefined {
  return rules.reduce<Rule | undefined>((first, rule) => (first === undefined || rule.name < first.name ? rule : first), undefined);
}

/** In the order of their names, so that the same one is named whatever the order of documents. */
function rolesOf(node: Member, rules: Rules): Rules['roles'] {
  if (node.roles.length === 0) return [];
  return rules.roles.filter(({ name }) => node.roles.includes(name)).sort((left, right) => (left.name < right.name ? -1 : 1));
}

function allow(by: DecidedBy, name: string | null, reason: string): Decision {
  return { allowed: true, code: null, reason, by, name };
}

function deny(code: ErrorCode, by: DecidedBy, name: string | null, reason: string): Decision {
  return { allowed: false, code, reason, by, name };
}
