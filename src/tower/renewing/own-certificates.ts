/**
 * What the tower shows and signs with, as it is now: its own leaf, and the intermediate. Both are renewed while it runs (spec 1.1): the leaf at two thirds
 * of its life, the intermediate likewise, months before it ends, so that every leaf of the old one has been followed by then. Sealed before they count. While the cluster moves
 * to another root the authority under that is here too, beside the one in use (../trust/next-authority.ts).
 */
import { assert, SelvedgeError } from '../../base/errors.ts';
import { TOWER_ID, TOWER_SITE } from '../../base/ids.ts';
import type { Clock, Random } from '../../base/seam.ts';
import { type Authority, isIssuedBy, issueChain, renewIntermediate } from '../../identity/authority.ts';
import { generateKeyPair } from '../../identity/keys.ts';
import { lifetimeOf, renewAt_ms } from '../../identity/lifetime.ts';
import type { SecretStore, Signer } from '../../identity/signer.ts';
import type { Credentials } from '../../transport/session.ts';
import { adoptNext, dropNext, leafSecrets, makeNext, nextLeaf, type NextRequest, openNext, prepareNextLeaf } from '../trust/next-authority.ts';

export interface OwnParts {
  readonly sealed: SecretStore;
  readonly authority: Authority;
  readonly cluster: string;
  readonly clock: Clock;
  readonly random: Random;
}

export class OwnCertificates implements Authority {
  readonly #parts: Omit<OwnParts, 'authority'>;
  #authority: Authority;
  #next: Authority | null;
  #credentials: Credentials;

  private constructor({ authority, ...parts }: OwnParts, credentials: Credentials) {
    this.#parts = parts;
    this.#authority = authority;
    this.#next = openNext(parts.sealed);
    this.#credentials = credentials;
  }

  /** The leaf is the one that was sealed, unless another is due. @throws signer_unavailable where there is none that is good */
  static async open(parts: OwnParts): Promise<OwnCertificates> {
    const own = new OwnCertificates(parts, { chain: [], key: new Uint8Array() });
    const leaf = parts.sealed.get(leafSecrets.certificate);
    const key = parts.sealed.get(leafSecrets.key);
    const isIssued = leaf !== null && key !== null && isIssuedBy(leaf, parts.authority.intermediate);
    if (isIssued) own.#credentials = { chain: [leaf, parts.authority.intermediate, parts.authority.root], key };
    try {
      if (!isIssued || own.dueLeaf) await own.renewLeaf();
    } catch (error) {
      // Its token may be away for a while: what is still good is shown meanwhile.
      const isGood = isIssued && lifetimeOf(leaf).notAfter_ms > parts.clock.wall();
      if (!isGood || !(error instanceof SelvedgeError && error.code === 'signer_unavailable')) throw error;
    }
    return own;
  }

  get root(): Uint8Array {
    return this.#authority.root;
  }

  /** Under the root that is to follow; null: none is. */
  get next(): Authority | null {
    return this.#next;
  }

  get intermediate(): Uint8Array {
    return this.#authority.intermediate;
  }

  get signer(): Signer {
    return this.#authority.signer;
  }

  /** Leaf, intermediate, root (who calls home looks for the pinned root in it), and the key of the leaf. Another object once renewed. */
  get credentials(): Credentials {
    return this.#credentials;
  }

  get dueLeaf(): boolean {
    return this.#isDue(this.#credentials.chain[0]);
  }

  get dueIntermediate(): boolean {
    return this.#isDue(this.intermediate);
  }

  /** @throws signer_unavailable, disk_full */
  async renewLeaf(): Promise<void> {
    const { sealed } = this.#parts;
    const { privateKey, publicKey } = generateKeyPair();
    const chain = await issueChain(this, { ...this.#leafRequest, publicKey });
    const [leaf] = chain;
    if (leaf === undefined) throw new Error('an issued chain begins with its leaf');
    await sealed.update({ [leafSecrets.key]: privateKey, [leafSecrets.certificate]: leaf });
    this.#credentials = { chain: [...chain, this.root], key: privateKey };
  }

  /** And the leaf with it, which the new one signs. @throws not_found where the root's key was taken offline, signer_unavailable, disk_full */
  async renewIntermediate(): Promise<void> {
    const { sealed, cluster, clock, random } = this.#parts;
    const before = this.#authority.signer;
    this.#authority = await renewIntermediate(sealed, { cluster, now_ms: clock.wall(), random });
    await before.close();
    await this.renewLeaf();
  }

  /** Another root, and an intermediate under it, beside those in use; one that was made before and never counted makes room. @throws as `makeNext` */
  async makeNext(places: Pick<NextRequest, 'rootSigner' | 'intermediateSigner'>): Promise<Authority> {
    const { sealed, cluster, clock, random } = this.#parts;
    await this.#next?.signer.close();
    this.#next = null;
    this.#next = await makeNext({ ...places, store: sealed, cluster, now_ms: clock.wall(), random });
    return this.#next;
  }

  /** The other root is not to follow any more: its keys are gone. A kill before it is mended at the next start. @throws disk_full */
  async dropNext(): Promise<void> {
    await this.#next?.signer.close();
    this.#next = null;
    await dropNext(this.#parts.sealed);
  }

  /** The leaf that the tower will show under the next authority. @throws signer_unavailable, disk_full */
  async prepareNextLeaf(): Promise<Uint8Array> {
    assert(this.#next !== null, 'there is a next authority');
    return await prepareNextLeaf(this.#parts.sealed, this.#next, this.#leafRequest);
  }

  /** What is next is what counts from now on: authority and leaf. `keepNext` is to follow. */
  useNext(): void {
    const leaf = nextLeaf(this.#parts.sealed);
    assert(this.#next !== null && leaf !== null, 'a leaf was prepared');
    const { intermediate, root } = this.#next;
    // Whatever it signs now, it has begun with.
    void this.#authority.signer.close();
    this.#authority = this.#next;
    this.#next = null;
    this.#credentials = { chain: [leaf.certificate, intermediate, root], key: leaf.key };
  }

  /** The same on disk, in one step; the keys before are gone with it. @throws disk_full */
  async keepNext(): Promise<void> {
    await adoptNext(this.#parts.sealed);
  }

  /** Lets go of the keys. Idempotent. */
  async close(): Promise<void> {
    await this.signer.close();
    await this.#next?.signer.close();
  }

  get #leafRequest() {
    const { cluster, clock, random } = this.#parts;
    return { identity: { cluster, site: TOWER_SITE, node: TOWER_ID }, now_ms: clock.wall(), random };
  }

  #isDue(certificate: Uint8Array | undefined): boolean {
    const lifetime = lifetimeOf(certificate);
    const now_ms = this.#parts.clock.wall();
    return now_ms > renewAt_ms(lifetime, 0.5) || now_ms < lifetime.notBefore_ms;
  }
}
