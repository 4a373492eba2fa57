/**
 * What decisions are made by, as documents say it (docs/resources.md): selectors of nodes, roles, policies, routes, services. Shapes alone, read-only: the
 * tower has them from its store, a node from its snapshot.
 */
import { TOWER_ID } from '../base/ids.ts';

/** Nodes that fit each list that is there, by any of its names. With no list: every node. */
export interface Selector {
  readonly nodes?: readonly string[];
  readonly roles?: readonly string[];
  readonly sites?: readonly string[];
  readonly tenants?: readonly string[];
}

export interface RoleRule {
  readonly name: string;
  /** Roles whose nodes it may have channels with; null: any, and nodes of no role. */
  readonly peers: readonly string[] | null;
  /** The most that its nodes may use; null: every class. */
  readonly classes: readonly string[] | null;
}

export interface PolicyRule {
  readonly name: string;
  readonly priority: number;
  readonly effect: 'allow' | 'deny';
  readonly from: Selector;
  readonly to: Selector;
  readonly classes: readonly string[] | null;
  /** Only flows of these services. */
  readonly services: readonly string[] | null;
  readonly degraded: boolean;
}

export interface RouteRule {
  readonly name: string;
  readonly from: Selector;
  readonly via: readonly string[];
  readonly classes: readonly string[] | null;
}

export interface ServiceRule {
  readonly name: string;
  /** Absent: nobody that is known here. */
  readonly hosts?: Selector;
}

export interface Rules {
  readonly roles: readonly RoleRule[];
  readonly policies: readonly PolicyRule[];
  readonly routes: readonly RouteRule[];
  readonly services: readonly ServiceRule[];
}

export const noRules: Rules = { roles: [], policies: [], routes: [], services: [] };

/** A node as rules see it. */
export interface Member {
  readonly id: string;
  readonly site: string;
  /** Null: the platform's own. */
  readonly tenant: string | null;
  readonly roles: readonly string[];
}

/** Rules are about nodes; the tower is none. */
export function isTower({ id }: Pick<Member, 'id'>): boolean {
  return id === TOWER_ID;
}

export function selects({ nodes, roles, sites, tenants }: Selector, node: Member): boolean {
  if (nodes !== undefined && !nodes.includes(node.id)) return false;
  if (sites !== undefined && !sites.includes(node.site)) return false;
  if (tenants !== undefined && (node.tenant === null || !tenants.includes(node.tenant))) return false;
  return roles === undefined || roles.some((role) => node.roles.includes(role));
}
