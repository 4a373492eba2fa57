/**
 * What a node answers on its own port to whoever is no channel: `POST /v1/unseal`, so that another node of its site comes back while the tower is away (spec 3.2). Whom it
 * helps it decides by its snapshot: a node that is not in it, or an expired one, gets nobody helped.
 */
import type { Access } from '../api/access.ts';
import { type Api, makeApi } from '../api/http.ts';
import { RateLimit } from '../api/rate-limit.ts';
import { SelvedgeError } from '../base/errors.ts';
import { fromHex, type NodeIdentity } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Clock } from '../base/seam.ts';
import { SiteTokenShelf } from '../enroll/site-shelf.ts';
import type { NodeState } from '../enroll/state.ts';
import { UNSEAL_ROUTE, unsealRoute } from '../enroll/unseal-route.ts';
import type { RecordedBoot } from '../identity/verify-boot.ts';
import { addressGroup } from '../transport/address-group.ts';
import type { SnapshotExpiry } from '../peering/snapshot-expiry.ts';

export interface UnsealApiOptions {
  readonly state: NodeState;
  readonly expiry: SnapshotExpiry;
  readonly clock: Clock;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

/** Ready for sockets: `api.server.emit('connection', tlsSocket)`. Close it with `api.close()`. */
export async function unsealApi({ state, expiry, clock, log }: UnsealApiOptions): Promise<Api> {
  const rate = new RateLimit({ clock, per_minute: limits.api_unseal_per_address_per_minute_max });
  const access: Access = {
    openRoutes: new Set([`POST ${UNSEAL_ROUTE}`]),
    admit: (address) => rate.take(addressGroup(address)),
    authenticate: async () => {
      throw new SelvedgeError('unauthorized', { why: 'a node answers nobody but a node of its site that has just started' });
    },
  };
  const shelf = new SiteTokenShelf(state.secrets);
  return await makeApi({
    title: 'Selvedge node',
    access,
    routes: (routes) =>
      unsealRoute(routes, {
        clock,
        cluster: state.identity.cluster,
        roots: () => state.trust.roots,
        recordedBoot: (identity) => recordedIn(state, expiry, identity),
        siteToken: async (site, generation) => (site === state.identity.site ? (shelf.get(generation)?.token ?? null) : null),
        onUnseal: ({ node, generation, error }) =>
          log(error === null ? 'node unsealed' : 'node not unsealed', { node, generation, code: error?.code ?? null, reason: error?.message ?? null }),
      }),
  });
}

function recordedIn({ snapshot }: NodeState, expiry: SnapshotExpiry, { node, site }: NodeIdentity): RecordedBoot {
  const objection = expiry.objection({ cluster: snapshot.cluster, site, node });
  if (objection !== null) throw objection;
  // Whoever was revoked or disabled is not among the peers of any snapshot.
  const peer = snapshot.peers.find(({ id, site: theirs }) => id === node && theirs === site);
  if (peer === undefined) return snapshot.gone?.find(({ id, site: theirs }) => id === node && theirs === site)?.why ?? 'unknown';
  return (peer.boot ?? []).map((hex) => fromHex(hex)).filter((known) => known !== null);
}
