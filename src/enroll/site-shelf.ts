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
    const last = tokens.reduce<SiteToken | null>((newest, one) => (newest === null || one.generation > newest.generation ? one : newest), null);
    // An older one than what is here would seal the store with what the tower may forget.
    if (last === null || last.generation <= this.newest) return;
    const changes: Record<string, Uint8Array | null> = {};
    for (const { generation, token } of tokens) changes[`${PREFIX}${generation}`] = token;
    const all = new Set([...this.#generations(), ...tokens.map(({ generation }) => generation)]);
    const kept = [...all].sort((left, right) => right - left).slice(0, limits.site_token_generations_kept);
    for (const generation of all) if (!kept.includes(generation)) changes[`${PREFIX}${generation}`] = null;
    await this.#write(last, node, changes);
  }

  async #write(last: SiteToken, node: string, changes: SecretChanges): Promise<void> {
    if (this.#store.mode.kind === 'site') await this.#store.reseal(siteUnsealKey(last, node), changes);
    else await this.#store.update(changes);
  }

  #generations(): number[] {
    return this.#store.keys().flatMap((name) => {
      const generation = name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length)) : Number.NaN;
      return Number.isSafeInteger(generation) && generation >= 1 ? [generation] : [];
    });
  }
}
