/** What this node knows to decide by (policy/judge.ts), out of its snapshot: itself, its peers and those that are gone, and the rules that it was told. */
import { type NodeIdentity, TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import type { Snapshot } from '../enroll/wire.ts';
import type { SelvedgeError } from '../base/errors.ts';
import type { End } from '../policy/authorize.ts';
import { endOf, type View } from '../policy/judge.ts';
import { noRules } from '../policy/rules.ts';

/** How this node stands with its tower: what of the snapshot counts by that. */
export interface Standing {
  readonly degraded: boolean;
  readonly objection: (peer: NodeIdentity) => SelvedgeError | null;
}

const AS_EVER: Standing = { degraded: false, objection: () => null };

export function viewOf({ cluster, node, peers, gone = [], rules }: Snapshot, { degraded, objection }: Standing = AS_EVER): View {
  const epochs = new Map(peers.flatMap(({ id, epoch }) => (epoch === undefined ? [] : [[id, epoch] as const])));
  const leaving = new Map(peers.flatMap(({ id, site, leaving_ms }) => (leaving_ms === undefined ? [] : [[id + site, leaving_ms] as const])));
  const known = new Map<string, End>();
  for (const { id, site, why } of gone) known.set(id, { cluster, id, site, tenant: null, roles: [], gone: why });
  for (const { id, site, tenant = null, roles = [] } of peers) known.set(id, { cluster, id, site, tenant, roles });
  known.set(TOWER_ID, endOf({ cluster, site: TOWER_SITE, node: TOWER_ID }));
  return {
    self: { cluster, id: node.id, site: node.site, tenant: node.tenant ?? null, roles: node.roles ?? [] },
    peer: (identity: NodeIdentity) => {
      const end = known.get(identity.node);
      if (identity.cluster !== cluster) return endOf(identity);
      return end !== undefined && end.site === identity.site ? end : null;
    },
    leavesAt: ({ node: id, site }) => leaving.get(id + site) ?? null,
    epochOf: (identity) => epochs.get(identity.node) ?? 0,
    rules: rules ?? noRules,
    degraded,
    objection,
  };
}
