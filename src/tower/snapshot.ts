/** What a node may know, cut out of what the tower knows: itself, the tower, the live nodes that it may talk to, and its app networks. Pure. */
import { limits } from '../base/limits.ts';
import { trafficClassNames } from '../channel/classes.ts';
import type { AppPart } from '../enroll/app-wire.ts';
import type { Endpoint, Snapshot } from '../enroll/wire.ts';
import { peersOf } from '../policy/directory.ts';
import { noRules } from '../policy/rules.ts';
import { otherLeaves } from './renewing/renewal.ts';
import { type NodeView, type RuleSet, rulesPart } from './rules-snapshot.ts';
import type { NodeRow } from './store/store.ts';

export interface SnapshotInput {
  readonly version: number;
  readonly issued_ms: number;
  readonly cluster: string;
  readonly node: Pick<NodeRow, 'id' | 'name' | 'site' | 'tenant' | 'roles'>;
  readonly tower: { readonly fingerprint: string; readonly endpoints: readonly Endpoint[] };
  /** Those that it may be allowed to talk to, in any order, revoked and disabled ones with them. */
  readonly nodes: readonly NodeRow[];
  /** Fingerprints of the boot leaves of the site's nodes, by node. */
  readonly boots: ReadonlyMap<string, readonly string[]>;
  readonly trust: Snapshot['trust'];
  /** Absent: no root is being rotated, or it is not as far yet. */
  readonly reissue?: Snapshot['reissue'];
  /** As app-snapshot.ts makes it; null for a node that is in no app network. */
  readonly app: AppPart | null;
  /** Of the whole cluster; absent: none. */
  readonly rules?: RuleSet;
  /** As the store's view has it; absent: no rule was ever changed. */
  readonly epochOf?: NodeView['epochOf'];
}

export function buildSnapshot({
  version,
  issued_ms,
  cluster,
  node,
  tower,
  nodes,
  boots,
  trust,
  reissue,
  app,
  rules,
  epochOf = () => 0,
}: SnapshotInput): Snapshot {
  const others = nodes.filter(({ id }) => id !== node.id);
  const allowed = peersOf({ self: node, others, rules: rules ?? noRules, classes: trafficClassNames });
  const live = allowed.filter(({ fingerprint, disabled }) => fingerprint !== null && !disabled);
  const known = nearest(node.site, live);
  const gone = goneOf(allowed);
  const part = rules === undefined ? null : rulesPart(node, known, rules);
  return {
    version,
    cluster,
    issued_ms,
    ttl_s: limits.snapshot_ttl_s,
    node: { id: node.id, name: node.name, site: node.site, ...labelsOf(node), ...epochPart(epochOf(node)) },
    tower: { id: 'tower', fingerprint: tower.fingerprint, endpoints: [...tower.endpoints] },
    peers: known
      .flatMap((row) => peerOf(row, boots).map((peer) => ({ ...peer, ...epochPart(epochOf(row)) })))
      .sort((left, right) => (left.id < right.id ? -1 : 1)),
    ...(gone.length > 0 && { gone }),
    trust,
    ...(reissue !== undefined && { reissue }),
    ...(app !== null && { app }),
    ...(part !== null && { rules: part }),
  };
}

/** Where rules let it talk to more nodes than a snapshot tells of: its own site's first. */
function nearest(site: string, nodes: readonly NodeRow[]): readonly NodeRow[] {
  if (nodes.length <= limits.site_nodes_max) return nodes;
  return [...nodes]
    .sort((left, right) => Number(right.site === site) - Number(left.site === site) || (left.id < right.id ? -1 : 1))
    .slice(0, limits.site_nodes_max);
}

function peerOf({ id, name, site, fingerprint, renewal, leaving_ms, endpoints, ...labelled }: NodeRow, boots: SnapshotInput['boots']): Snapshot['peers'] {
  if (fingerprint === null) return [];
  const [also, boot] = [otherLeaves(renewal), boots.get(id)];
  const followed = { ...(leaving_ms !== null && { leaving_ms }), ...(also.length > 0 && { also }), ...(boot !== undefined && { boot: [...boot] }) };
  return [{ id, name, site, fingerprint, endpoints: [...endpoints], ...labelsOf(labelled), ...followed }];
}

function goneOf(nodes: readonly NodeRow[]): NonNullable<Snapshot['gone']> {
  const gone = nodes.filter(({ fingerprint, disabled }) => fingerprint === null || disabled);
  const last =
    gone.length <= limits.snapshot_gone_max ? gone : [...gone].sort((left, right) => right.revision - left.revision).slice(0, limits.snapshot_gone_max);
  return last.map(({ id, site, fingerprint }) => ({ id, site, why: fingerprint === null ? 'revoked' : 'disabled' }));
}

function epochPart(epoch: number): { epoch?: number } {
  return epoch === 0 ? {} : { epoch };
}

function labelsOf({ roles, tenant }: Pick<NodeRow, 'roles' | 'tenant'>): { roles?: string[]; tenant?: string } {
  return { ...(roles.length > 0 && { roles: [...roles] }), ...(tenant !== null && { tenant }) };
}
