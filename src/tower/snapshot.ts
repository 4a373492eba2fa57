/** What a node may know, cut out of what the tower knows: itself, the tower, the live nodes of its own site, and its app networks. Pure. */
import { limits } from '../base/limits.ts';
import type { AppPart } from '../enroll/app-wire.ts';
import type { Endpoint, Snapshot } from '../enroll/wire.ts';
import { otherLeaves } from './renewal.ts';
import { type RuleSet, rulesPart } from './rules-snapshot.ts';
import type { NodeRow } from './store.ts';

export interface SnapshotInput {
  readonly version: number;
  readonly issued_ms: number;
  readonly cluster: string;
  readonly node: Pick<NodeRow, 'id' | 'name' | 'site' | 'tenant' | 'roles'>;
  readonly tower: { readonly fingerprint: string; readonly endpoints: readonly Endpoint[] };
  /** The nodes of the site, in any order; whoever is elsewhere, revoked or disabled is left out. */
  readonly siteNodes: readonly NodeRow[];
  /** Fingerprints of the boot leaves of the site's nodes, by node. */
  readonly boots: ReadonlyMap<string, readonly string[]>;
  readonly trust: Snapshot['trust'];
  /** As app-snapshot.ts makes it; null for a node that is in no app network. */
  readonly app: AppPart | null;
  /** Of the whole cluster; absent: none. */
  readonly rules?: RuleSet;
}

export function buildSnapshot({ version, issued_ms, cluster, node, tower, siteNodes, boots, trust, app, rules }: SnapshotInput): Snapshot {
  const live = siteNodes.filter(({ id, site, fingerprint, disabled }) => id !== node.id && site === node.site && fingerprint !== null && !disabled);
  const peers: Snapshot['peers'] = [];
  for (const { id, name, site, fingerprint, renewal, endpoints, ...labelled } of live) {
    if (fingerprint === null) continue;
    const [also, boot] = [otherLeaves(renewal), boots.get(id)];
    const followed = { ...(also.length > 0 && { also }), ...(boot !== undefined && { boot: [...boot] }) };
    peers.push({ id, name, site, fingerprint, endpoints: [...endpoints], ...labelsOf(labelled), ...followed });
  }
  peers.sort((left, right) => (left.id < right.id ? -1 : 1));
  const part = rules === undefined ? null : rulesPart(node, live, rules);
  return {
    version,
    cluster,
    issued_ms,
    ttl_s: limits.snapshot_ttl_s,
    node: { id: node.id, name: node.name, site: node.site, ...labelsOf(node) },
    tower: { id: 'tower', fingerprint: tower.fingerprint, endpoints: [...tower.endpoints] },
    peers,
    trust,
    ...(app !== null && { app }),
    ...(part !== null && { rules: part }),
  };
}

function labelsOf({ roles, tenant }: Pick<NodeRow, 'roles' | 'tenant'>): { roles?: string[]; tenant?: string } {
  return { ...(roles.length > 0 && { roles: [...roles] }), ...(tenant !== null && { tenant }) };
}
