/**
 * `ProofStore`: the part of the store that enrolling needs: grants and their uses, and nodes as they come to be. An
 * operator's changes say who made them; each is one transaction with its version and audit row, as everywhere in the store.
 */
import type { Claim, Grant, HostFacts, ProofKind, ProofRecords } from '../../enroll/proof.ts';
import type { Endpoint } from '../../enroll/wire.ts';
import type { By, Match, PageRequest } from '../resources/resource-store.ts';
import type { NodeRow } from './store.ts';
import type { BootRow } from '../unseal/unseal-store.ts';

export type NewGrant = Omit<Grant, 'uses' | 'revoked_ms' | 'created_ms'>;

/** A node that a request would become, and its leaf. */
export interface NewNode {
  readonly id: string;
  readonly name: string;
  readonly site: string;
  readonly fingerprint: string;
  readonly leaf: string;
  readonly csrHash: string;
  readonly spkiHash: string;
  readonly endpoints: readonly Endpoint[];
  /** What its host said of itself, and from where; null: nothing. */
  readonly facts: HostFacts | null;
  readonly peer: string;
  readonly roles?: readonly string[];
  /** Absent: it did not ask for one. */
  readonly boot?: Omit<BootRow, 'previous'>;
}

/** What a request is known again by: SHA-256 of it, and of its key (SPKI), hex. */
export type Requested = Pick<NewNode, 'csrHash' | 'spkiHash'>;

export interface Admission {
  /** The node that this request made before; null if it would make a new one. */
  readonly answered: NodeRow | null;
  /** The site that was asked for, else the grant's; null if neither says. */
  readonly site: string | null;
}

export interface ProofStore extends ProofRecords {
  /** In the order of their ids. */
  grantPage(kind: ProofKind, request: PageRequest): Promise<readonly Grant[]>;
  /** Of several kinds, in the order of kind and id; `after` is `KIND:ID`. */
  grantsByKind(kinds: readonly ProofKind[], request: PageRequest): Promise<readonly Grant[]>;
  /** @throws limit_reached, grant_exists, name_taken, not_found (its tenant) */
  createGrant(grant: NewGrant, by: By): Promise<Grant>;
  /** The grant stays, to be seen. Idempotent. `match`: when it was made or revoked, as the caller has seen it. @throws not_found, changed_meanwhile */
  revokeGrant(kind: ProofKind, id: string, by: By, match?: Match): Promise<Grant>;
  /** Forgets it and its uses, so that its id can be granted anew; nodes that it made stay. @throws not_found, changed_meanwhile */
  removeGrant(kind: ProofKind, id: string, by: By, match?: Match): Promise<Grant>;

  /** Takes one use of a token and makes the grant by which one node will enroll, both or neither. The same token and request again gives the same grant. @throws as `enroll` */
  preflight(token: Grant, csrHash: string, grant: NewGrant, at_ms: number): Promise<Grant>;

  /** What enrolling with this claim and request would do now, without doing it. `site` null: the grant's choice. @throws as `enroll` */
  admit(claim: Claim, request: Requested, site: string | null, at_ms: number): Promise<Admission>;
  /**
   * Takes one use of the grant and makes the node, both or neither; a node that returns gets its new leaf. The same claim and request again gives the
   * same node and takes nothing.
   * @throws token_… for tokens, proof_… for the other kinds; name_taken, csr_invalid (the key is somebody else's), limit_reached
   */
  enroll(claim: Claim, node: NewNode, at_ms: number): Promise<NodeRow>;
}
