/**
 * The access tokens of sites: 32 random octets per site and generation, made at the site's first use and again at regular intervals. They rest in the database, each
 * sealed under a key that is in the tower's sealed store alone, and leave only in boxes (unsealing.ts).
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { fromBase64, toBase64 } from '../../identity/base64.ts';
import type { SiteToken } from '../../identity/unseal/site.ts';
import type { NodeRow } from '../store/store.ts';
import type { SiteTokenRow, UnsealStore } from './unseal-store.ts';

const TOKEN_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SEALED_BYTES = NONCE_BYTES + TOKEN_BYTES + TAG_BYTES;

export interface SiteTokensParts {
  readonly store: UnsealStore;
  /** 32 octets. */
  readonly key: Uint8Array;
  readonly clock: Clock;
  /** After another generation is on disk. */
  readonly onRotate: (site: string) => void;
}

export class SiteTokens {
  readonly #parts: SiteTokensParts;

  constructor(parts: SiteTokensParts) {
    this.#parts = parts;
  }

  /** The newest, and those before it that nodes hold too; the first is made where there is none. Newest first. */
  current(site: string): Promise<readonly SiteToken[]> {
    return this.#current(site, () => this.#parts.store.siteTokens(site));
  }

  /** The same for a node that is live (and has this key) at the moment when they are read. @throws as `UnsealStore.siteTokensFor` */
  currentFor({ id, site }: Pick<NodeRow, 'id' | 'site'>, spkiHash?: string): Promise<readonly SiteToken[]> {
    return this.#current(site, () => this.#parts.store.siteTokensFor(id, spkiHash));
  }

  /** Of any generation that is kept for somebody; null: of none. */
  async of(site: string, generation: number): Promise<SiteToken | null> {
    const row = await this.#parts.store.siteToken(site, generation);
    return row === null ? null : this.#open(row);
  }

  /** Makes another generation, for a site that has one. */
  async rotate(site: string): Promise<void> {
    const [newest] = await this.#parts.store.siteTokens(site);
    if (newest !== undefined) await this.#make(site, newest.generation + 1);
  }

  /** Makes another generation for each site whose newest is old enough. */
  async rotateDue(): Promise<void> {
    const due_ms = this.#parts.clock.wall() - limits.site_token_ms_max;
    for (const { site, created_ms, generation } of await this.#parts.store.newestTokens()) {
      if (created_ms <= due_ms) await this.#make(site, generation + 1);
    }
  }

  async #current(site: string, read: () => Promise<readonly SiteTokenRow[]>): Promise<readonly SiteToken[]> {
    let rows = await read();
    if (rows.length === 0) {
      await this.#make(site, 1);
      rows = await read();
    }
    return rows.slice(0, limits.site_token_generations_kept).map((row) => this.#open(row));
  }

  async #make(site: string, generation: number): Promise<void> {
    const { store, clock, onRotate } = this.#parts;
    const token = randomBytes(TOKEN_BYTES);
    const row = { site, generation, sealed: this.#seal(site, generation, token), created_ms: Math.floor(clock.wall()) };
    token.fill(0);
    const kept = { min: limits.site_token_generations_kept, max: limits.site_token_generations_max };
    if (await store.addSiteToken(row, kept)) onRotate(site);
  }

  #seal(site: string, generation: number, token: Uint8Array): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#parts.key, nonce).setAAD(aadOf(site, generation));
    return toBase64(Buffer.concat([nonce, cipher.update(token), cipher.final(), cipher.getAuthTag()]));
  }

  #open({ site, generation, sealed }: SiteTokenRow): SiteToken {
    const bytes = fromBase64(sealed, SEALED_BYTES);
    try {
      if (bytes?.length !== SEALED_BYTES) throw new Error('not as long as it should be');
      const decipher = createDecipheriv('aes-256-gcm', this.#parts.key, bytes.subarray(0, NONCE_BYTES));
      decipher.setAAD(aadOf(site, generation)).setAuthTag(bytes.subarray(-TAG_BYTES));
      const token = Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
      return { generation, token: new Uint8Array(token) };
    } catch (error) {
      throw new SelvedgeError('store_damaged', { path: `token ${generation} of site ${site}`, why: "the tower's key does not open it" }, { cause: error });
    }
  }
}

/** A row moved to another site or generation does not open there. */
function aadOf(site: string, generation: number): Uint8Array {
  return Buffer.from(`selvedge site token 1\n${site}\n${generation}`);
}
