/**
 * Who may talk to whom, as documents: selectors of nodes, and the roles, policies, routes and services that are made of them; the part of a snapshot that tells a
 * node of those it has to do with. Shapes only: what they allow is decided in `policy`.
 */
import { type Static, Type } from 'typebox';
import { limits } from '../base/limits.ts';
import { trafficClassNames } from '../channel/classes.ts';
import { closed, Label, NodeId, Port } from './shapes.ts';

const names = Type.Array(Label, { maxItems: limits.selector_names_max, uniqueItems: true });
const ClassName = Type.Enum([...trafficClassNames]);

/** `null`: every class. */
export const ClassesSchema = Type.Union([Type.Array(ClassName, { minItems: 1, maxItems: trafficClassNames.length, uniqueItems: true }), Type.Null()]);

/** Nodes that fit each list that is there, by any of its names. With no list: every node. */
export const SelectorSchema = closed({
  nodes: Type.Optional(Type.Array(NodeId, { maxItems: limits.selector_names_max, uniqueItems: true })),
  roles: Type.Optional(names),
  sites: Type.Optional(names),
  tenants: Type.Optional(names),
});
export type Selector = Static<typeof SelectorSchema>;

export const RoleRule = closed({
  name: Label,
  /** Roles whose nodes it may have channels with; null: any, and nodes of no role. */
  peers: Type.Union([names, Type.Null()]),
  /** The most that its nodes may use, whatever policies allow. */
  classes: ClassesSchema,
});
export type RoleRule = Static<typeof RoleRule>;

/** The higher priority decides; of the same, `deny` does. */
const Priority = Type.Integer({ minimum: 0, maximum: limits.rule_priority_max });
const Services = Type.Union([names, Type.Null()]);

export const PolicyRule = closed({
  name: Label,
  priority: Priority,
  effect: Type.Enum(['allow', 'deny']),
  /** Who opens, and who accepts. */
  from: SelectorSchema,
  to: SelectorSchema,
  classes: ClassesSchema,
  /** Only flows of these services; null: of any, and of none. */
  services: Services,
  /** Whether it also allows while the tower is away (spec 9.5). */
  degraded: Type.Boolean(),
});
export type PolicyRule = Static<typeof PolicyRule>;

export const RouteRule = closed({
  name: Label,
  priority: Priority,
  from: SelectorSchema,
  /** Null: to the tower. */
  to: Type.Union([SelectorSchema, Type.Null()]),
  /** Nodes that relay, the preferred one first. */
  via: Type.Array(NodeId, { maxItems: limits.route_via_max, uniqueItems: true }),
  classes: ClassesSchema,
});
export type RouteRule = Static<typeof RouteRule>;

export const TargetSchema = closed({ host: Type.String({ pattern: '^[A-Za-z0-9.:-]+$', maxLength: limits.endpoint_host_chars_max }), port: Port });

export const ServiceRule = closed({
  name: Label,
  protocol: Type.Enum(['tcp', 'udp']),
  /** Where a host of it passes connections on; told to its hosts alone. */
  target: Type.Optional(TargetSchema),
  /** Of the nodes that it knows, those that host it. */
  hosts: Type.Optional(SelectorSchema),
});
export type ServiceRule = Static<typeof ServiceRule>;

/** What a node is told: rules that it is an end of, and of their selectors only names of itself, of its peers, of their roles, sites and tenants. */
export const RulesSchema = closed({
  roles: Type.Array(RoleRule, { maxItems: limits.roles_max }),
  policies: Type.Array(PolicyRule, { maxItems: limits.policies_max }),
  routes: Type.Array(RouteRule, { maxItems: limits.routes_max }),
  services: Type.Array(ServiceRule, { maxItems: limits.services_max }),
});
export type Rules = Static<typeof RulesSchema>;
