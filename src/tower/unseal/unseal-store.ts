/** The part of the store that unsealing needs: site tokens (sealed before they come here), boot identities, what nodes hold. Part of `Store`. */

export interface SiteTokenRow {
  readonly site: string;
  /** From 1, each one more than the one before. */
  readonly generation: number;
  /** Base64 of what `site-tokens.ts` seals. */
  readonly sealed: string;
  readonly created_ms: number;
}

export interface BootRow {
  /** SHA-256 of the boot leaf, hex. */
  readonly fingerprint: string;
  /** Of the one before, until the node has said that it has this one. */
  readonly previous: string | null;
  readonly csrHash: string;
  /** Base64 of leaf and intermediate. */
  readonly chain: readonly string[];
}

export interface UnsealStore {
  /** Newest first. */
  siteTokens(site: string): Promise<readonly SiteTokenRow[]>;
  /**
   * Those of a node's site, if the node is live and, where a key is named (SHA-256 of its SPKI, hex), has that one: all in one transaction, so that a token that was made
   * because the node was revoked is never among them. @throws not_found, certificate_revoked, peer_disabled, csr_invalid (it has another key)
   */
  siteTokensFor(node: string, spkiHash?: string): Promise<readonly SiteTokenRow[]>;
  siteToken(site: string, generation: number): Promise<SiteTokenRow | null>;
  /** The newest of every site that has one. */
  newestTokens(): Promise<readonly SiteTokenRow[]>;
  /** False where that generation is there already: somebody else was faster. Older ones go that no live node's store is sealed with, down to `kept` of them. */
  addSiteToken(row: SiteTokenRow, kept: { readonly min: number; readonly max: number }): Promise<boolean>;

  boot(node: string): Promise<BootRow | null>;
  /** Fingerprints of the boot leaves of a site's nodes, by node. */
  boots(site: string): Promise<ReadonlyMap<string, readonly string[]>>;
  /** The one that it had becomes the previous one. `spkiHash`: as above. @throws not_found, certificate_revoked, peer_disabled, csr_invalid */
  setBoot(node: string, boot: Omit<BootRow, 'previous'>, at_ms: number, spkiHash?: string): Promise<void>;
  /** An observation, with one consequence: a node that has its newest boot leaf needs no other. True where that changed what peers are told. @throws not_found, certificate_revoked, peer_disabled */
  report(node: string, report: { readonly have: number; readonly sealed: number; readonly boot: string | null }, at_ms: number): Promise<boolean>;
  /** Nothing but the audit row. `code`: with what it was refused. */
  unsealed(node: string, generation: number, code: string | null, at_ms: number): Promise<void>;
}
