/**
 * How the tower recognizes who asks on its public port: by the certificate of the connection, judged by the one decision of `identity`. No header
 * names a caller, whatever a proxy writes into it.
 */
import type { IncomingMessage } from 'node:http';
import type { Access, Caller } from '../../api/access.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { TOWER_ID } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { verifyPeer } from '../../identity/verify.ts';
import { addressGroup } from '../../transport/address-group.ts';
import { chainOf } from '../../transport/peer-chain.ts';
import { RateLimit } from '../rate-limit.ts';
import type { Tower } from '../tower.ts';
import { openRoutes } from './open-routes.ts';

export interface PublicAccessOptions {
  readonly clock: Clock;
  readonly per_minute_max?: number;
}

export class PublicAccess implements Access {
  readonly openRoutes = openRoutes;
  readonly #tower: Tower;
  readonly #clock: Clock;
  readonly #rate: RateLimit;

  constructor(tower: Tower, { clock, per_minute_max = limits.api_enroll_per_address_per_minute_max }: PublicAccessOptions) {
    this.#tower = tower;
    this.#clock = clock;
    this.#rate = new RateLimit({ clock, per_minute: per_minute_max });
  }

  admit(address: string): void {
    this.#rate.take(addressGroup(address));
  }

  /** Whoever is refused has asked like a stranger, and is counted as one. */
  async authenticate(request: IncomingMessage): Promise<Caller> {
    try {
      return this.#recognize(request);
    } catch (error) {
      this.admit(request.socket.remoteAddress ?? '');
      throw error;
    }
  }

  #recognize({ socket }: IncomingMessage): Caller {
    const chain = chainOf(socket);
    if (chain.length === 0) throw new SelvedgeError('unauthorized', { why: 'neither a client certificate nor a session was shown' });
    const { identity } = verifyPeer({
      chain,
      roots: this.#tower.roots,
      cluster: this.#tower.cluster,
      now_ms: this.#clock.wall(),
      usage: 'client',
      recordedFingerprint: this.#tower.recordedFingerprint,
    });
    if (identity.node === TOWER_ID) throw new SelvedgeError('unauthorized', { why: 'a tower asks no tower' });
    return { actor: `node:${identity.node}`, scopes: new Set(['client']), node: identity.node };
  }
}
