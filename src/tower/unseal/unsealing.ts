/**
 * What the tower does so that nodes come back after a restart: it hands out site tokens and boot identities to nodes with a channel, and to a node without one, that shows
 * its boot identity, the key of its own store; each in a box for whom it is meant.
 */
import { createHash } from 'node:crypto';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { fromHex, type NodeIdentity, toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/seam.ts';
import { boxPurposes, type FirstSite, type SiteNews, type SiteReport } from '../../enroll/unseal-wire.ts';
import type { UnsealHelper } from '../../enroll/unseal-route.ts';
import { type BootRequest, bytesOf, type Envelope } from '../../enroll/wire.ts';
import type { Authority } from '../../identity/authority.ts';
import { toBase64 } from '../../identity/base64.ts';
import { issueBootLeaf } from '../../identity/ca.ts';
import { parseCsr } from '../../identity/csr.ts';
import { fingerprint } from '../../identity/fingerprint.ts';
import { sealBox } from '../../identity/sealed-box.ts';
import { signDocument } from '../../identity/signed-document.ts';
import type { SiteToken } from '../../identity/unseal/site.ts';
import type { RecordedBoot } from '../../identity/verify-boot.ts';
import type { NodeRow, Store } from '../store/store.ts';
import { SiteTokens } from './site-tokens.ts';
import type { BootRow } from './unseal-store.ts';

export interface UnsealingParts {
  readonly cluster: string;
  readonly store: Store;
  /** Under which a node's first boot identity is, and what is signed. */
  readonly authority: Authority;
  /** Under which a node's next boot identity is. */
  readonly authorityOf: (node: string) => Promise<Authority>;
  /** Under which site tokens are sealed. */
  readonly key: Uint8Array;
  readonly clock: Clock;
  readonly random: Random;
  readonly roots: () => readonly Uint8Array[];
  /** A boot identity has changed: the nodes of its site are to know. */
  readonly onBoot: (site: string) => void;
}

export class Unsealing {
  readonly tokens: SiteTokens;
  readonly #parts: UnsealingParts;
  readonly #listeners = new Set<(site: string) => void>();

  constructor(parts: UnsealingParts) {
    this.#parts = parts;
    const onRotate = (site: string) => {
      for (const listener of this.#listeners) listener(site);
    };
    this.tokens = new SiteTokens({ store: parts.store.unseal, key: parts.key, clock: parts.clock, onRotate });
  }

  /** Told of each site that has another generation. The returned function ends it. */
  onRotate(listener: (site: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Makes another generation of a site's token, if it has one. A failure is told, and mended when the token is next due: what called for it is done in any case. */
  async renewToken(site: string): Promise<void> {
    try {
      await this.tokens.rotate(site);
    } catch (error) {
      process.emitWarning(asSelvedgeError(error, 'internal_error', { what: 'making a site token anew' }));
    }
  }

  /** Takes what a node with a channel says it has, and gives what it lacks; null: nothing. @throws not_found, certificate_revoked, csr_invalid, sealed_box_invalid */
  async report(id: string, report: SiteReport): Promise<SiteNews | null> {
    const { store, clock, onBoot } = this.#parts;
    const node = await this.#mustFind(id);
    if (await store.unseal.report(id, report, clock.wall())) onBoot(node.site);
    const boot =
      report.csr === undefined ? undefined : await this.#issueBoot(node, bytesOf(report.csr, limits.csr_bytes_max, '/csr'), await this.#parts.authorityOf(id));
    // Last, and in the transaction that sees it live: a node that was revoked meanwhile is told nothing.
    const current = await this.tokens.currentFor(node);
    const isBehind = (current[0]?.generation ?? 0) > report.have;
    const tokens = isBehind ? boxed(node.site, current, bytesOf(report.key, limits.csr_bytes_max, '/key')) : [];
    for (const { token } of current) token.fill(0);
    return tokens.length === 0 && boot === undefined ? null : { tokens, ...(boot !== undefined && { boot: [...boot] }) };
  }

  /** A boot identity for whoever holds the key of this request; it counts once it is recorded. @throws csr_invalid, signer_unavailable */
  async newBoot(
    { node, site }: { node: string; site: string },
    csr: Uint8Array,
    { intermediate, signer }: Authority = this.#parts.authority,
  ): Promise<Omit<BootRow, 'previous'>> {
    const { clock, random, cluster } = this.#parts;
    const { publicKey } = await parseCsr(csr);
    const leaf = await issueBootLeaf({ identity: { cluster, site, node }, publicKey, issuer: intermediate, signer, now_ms: clock.wall(), random });
    return { fingerprint: toHex(fingerprint(leaf)), csrHash: hashOf(csr), chain: [toBase64(leaf), toBase64(intermediate)] };
  }

  /**
   * With its first certificate: what a node needs to come back after a restart, signed; secrets are in boxes for the key (SPKI, DER) that it asked with, and there are none
   * once it has another. @throws as `report`
   */
  async first(node: NodeRow, publicKey: Uint8Array, { csr, sealed }: BootRequest): Promise<Envelope> {
    const { store, authority, clock } = this.#parts;
    const key = hashOf(publicKey);
    const boot = await this.#issueBoot(node, bytesOf(csr, limits.csr_bytes_max, '/body/boot/csr'), authority, key);
    const current = await this.tokens.currentFor(node, key);
    const tokens = boxed(node.site, current, publicKey);
    for (const { token } of current) token.fill(0);
    const newest = tokens[0]?.generation ?? 0;
    // Kept from being forgotten until the node says by itself what its store is sealed with.
    if (sealed) await store.unseal.report(node.id, { have: newest, sealed: newest, boot: null }, clock.wall());
    const said: FirstSite = { node: node.id, tokens, boot: [...boot] };
    const { payload, signature, chain } = await signDocument('site', new TextEncoder().encode(JSON.stringify(said)), authority);
    return { payload, signature, chain: [...chain] };
  }

  /** For `POST /v1/unseal`; each answer and each refusal has its audit row. */
  get helper(): UnsealHelper {
    const { clock, cluster, roots, store } = this.#parts;
    return {
      clock,
      cluster,
      roots,
      recordedBoot: (identity) => this.#recordedBoot(identity),
      siteToken: async (site, generation) => (await this.tokens.of(site, generation))?.token ?? null,
      onUnseal: ({ node, generation, error }) => store.unseal.unsealed(node, generation, error?.code ?? null, clock.wall()),
    };
  }

  async #recordedBoot({ node, site }: NodeIdentity): Promise<RecordedBoot> {
    const { store } = this.#parts;
    const row = await store.node(node);
    if (row === null || row.site !== site) return 'unknown';
    if (row.fingerprint === null) return 'revoked';
    if (row.disabled) return 'disabled';
    const boot = await store.unseal.boot(node);
    return [boot?.fingerprint, boot?.previous].map((hex) => (hex == null ? null : fromHex(hex))).filter((known) => known !== null);
  }

  /** The same request again gets the same chain, and moves nothing. `spkiHash`: of the key that the node is to have. */
  async #issueBoot({ id, site }: NodeRow, csr: Uint8Array, authority: Authority, spkiHash?: string): Promise<readonly string[]> {
    const { store, clock, onBoot } = this.#parts;
    const before = await store.unseal.boot(id);
    if (before?.csrHash === hashOf(csr)) return before.chain;
    const boot = await this.newBoot({ node: id, site }, csr, authority);
    await store.unseal.setBoot(id, boot, clock.wall(), spkiHash);
    onBoot(site);
    return boot.chain;
  }

  async #mustFind(id: string): Promise<NodeRow> {
    const row = await this.#parts.store.node(id);
    if (row === null) throw new SelvedgeError('not_found', { what: 'node', name: id });
    return row;
  }
}

/** A site's tokens in boxes for this public key: what an answer to a node may carry. */
function boxed(site: string, tokens: readonly SiteToken[], publicKey: Uint8Array): SiteNews['tokens'] {
  return tokens.map(({ generation, token }) => ({ generation, box: toBase64(sealBox(publicKey, boxPurposes.siteToken(site, generation), token)) }));
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
