/** The route by which a daemon is asked why a flow is allowed or not: a node answers by what it was told, the tower by all there is. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { platformView } from '../api/access.ts';
import { SelvedgeError } from '../base/errors.ts';
import { type NodeIdentity, TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { trafficClassNames } from '../channel/classes.ts';
import type { Snapshot } from '../enroll/wire.ts';
import type { End } from '../policy/authorize.ts';
import { type Asked, type Explanation, explain } from '../policy/explain.ts';
import { noRules } from '../policy/rules.ts';
import { viewOf } from './node-view.ts';

export interface NamedEnd extends End {
  readonly name: string;
}

export interface Explained extends Explanation, Asked {
  readonly from: NamedEnd;
  readonly to: NamedEnd;
  /** By whose knowledge. */
  readonly view: 'node' | 'tower';
}

export type Explainer = (from: string, to: string, asked: Asked) => Promise<Explained>;

const NodeName = Type.String({ minLength: 1, maxLength: 63, pattern: '^[a-z0-9][a-z0-9-]*$' });
const Query = Type.Object(
  {
    from: NodeName,
    to: NodeName,
    class: Type.Enum([...trafficClassNames]),
    service: Type.Optional(Type.String({ minLength: 1, maxLength: limits.service_name_bytes_max })),
    /** A query has words alone, and nothing coerces them. */
    degraded: Type.Optional(Type.Enum(['true', 'false'])),
  },
  { additionalProperties: false },
);

export function registerExplain(scope: FastifyInstance, explainer: Explainer): void {
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  api.get('/v1/policy/explain', { ...platformView('policy'), schema: { querystring: Query } }, async ({ query }) => {
    const { from, to, class: cls, service = null, degraded } = query;
    return await explainer(from, to, { class: cls, service, degraded: degraded === 'true' });
  });
}

/** A node knows of its own flows alone. */
export function nodeExplainer(snapshot: () => Snapshot): Explainer {
  return async (from, to, asked) => {
    const known = snapshot();
    const ends = [endNamed(known, from), endNamed(known, to)] as const;
    if (!ends.some(({ id }) => id === known.node.id))
      throw new SelvedgeError('request_invalid', { path: '/querystring', why: `one end must be this node (${known.node.name}); the tower knows of all` });
    const explanation = explain(...ends, asked, known.rules ?? noRules, trafficClassNames);
    return { from: ends[0], to: ends[1], ...asked, ...explanation, view: 'node' };
  };
}

/** By id or name. @throws not_found, the same for a node that is not there and for one that this node is not told of */
function endNamed(snapshot: Snapshot, name: string): NamedEnd {
  const { cluster, node, peers, gone = [] } = snapshot;
  if (name === node.id || name === node.name) return { ...viewOf(snapshot).self, name: node.name };
  const peer = peers.find((one) => one.id === name || one.name === name);
  const identity: NodeIdentity | undefined =
    name === TOWER_ID ? { cluster, site: TOWER_SITE, node: TOWER_ID } : toIdentity(cluster, peer ?? gone.find(({ id }) => id === name));
  const end = identity === undefined ? null : viewOf(snapshot).peer(identity);
  if (end === null) throw new SelvedgeError('not_found', { what: 'node', name });
  return { ...end, name: peer?.name ?? end.id };
}

function toIdentity(cluster: string, one: { readonly id: string; readonly site: string } | undefined): NodeIdentity | undefined {
  return one === undefined ? undefined : { cluster, site: one.site, node: one.id };
}
