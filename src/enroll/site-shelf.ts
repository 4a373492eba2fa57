/** The site's access tokens in a node's sealed store: the newest and those before it that others of the site may still need, one secret each. */
import { limits } from '../base/limits.ts';
import type { SealedStore, SecretChanges } from '../identity/sealed-store.ts';
import { type SiteToken, siteUnsealKey } from '../identity/unseal/site.ts';

const PREFIX = 'site/token.';

export class SiteTokenShelf {
  readonly #store: SealedStore;

  constructor(store: SealedStore) {
    this.#store = store;
  }

  /** Newest generation; 0: there is none. */
  get newest(): number {
    return Math.max(0, ...this.#generations());
  }

  /** A copy, or null. */
  get(generation: number): SiteToken | null {
    const token = this.#store.get(`${PREFIX}${generation}`);
    return token === null ? null : { generation, token };
  }

  /**
   * Adds what is new, forgets what nobody needs any more, and seals the store anew where it is sealed with the site's token, all in one step.
   * @throws disk_full, permission_denied
   */
  async put(tokens: readonly SiteToken[], node: string): Promise<void> {
    // An older one than what is here would seal the store with what the tower may forget.
    if (tokens.some(({ generation }) => generation > this.newest)) await this.join(tokens, node, {}, this.#store.mode.kind === 'site');
  }

  /** The first ones, with all else that a node has from its first moment, in one step; `isSealed`: and from then on sealed with the newest. @throws as `put` */
  async join(tokens: readonly SiteToken[], node: string, others: SecretChanges, isSealed: boolean): Promise<void> {
    const [last] = [...tokens].sort((left, right) => right.generation - left.generation);
    const isNewest = last !== undefined && last.generation >= this.newest;
    const changes = { ...others, ...this.#changesFor(tokens) };
    if (isSealed && isNewest) await this.#store.reseal(siteUnsealKey(last, node), changes);
    else await this.#store.update(changes);
  }

  #changesFor(tokens: readonly SiteToken[]): SecretChanges {
    const changes: Record<string, Uint8Array | null> = {};
    for (const { generation, token } of tokens) changes[`${PREFIX}${generation}`] = token;
    const all = new Set([...this.#generations(), ...tokens.map(({ generation }) => generation)]);
    const kept = [...all].sort((left, right) => right - left).slice(0, limits.site_token_generations_kept);
    for (const generation of all) if (!kept.includes(generation)) changes[`${PREFIX}${generation}`] = null;
    return changes;
  }

  #generations(): number[] {
    return this.#store.keys().flatMap((name) => {
      const generation = name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length)) : Number.NaN;
      return Number.isSafeInteger(generation) && generation >= 1 ? [generation] : [];
    });
  }
}
