/**
 * `AccessStore`: rows of operators and of API sessions. Each change is one transaction with its audit row, as everywhere in the store; of bundles and
 * session tokens it knows SHA-256s, never the text.
 */
import type { Scope } from '../../api/access.ts';
import type { By, PageRequest } from '../resources/resource-store.ts';

export interface OperatorRow {
  readonly id: string;
  /** For people; unique among those who are not revoked. */
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** SHA-256 of the leaf that is the operator's now, hex; null before the first redeeming, and once revoked. */
  readonly fingerprint: string | null;
  /** That leaf, DER in base64. */
  readonly leaf: string | null;
  readonly notAfter_ms: number | null;
  /** What its holder renewed it to and has not shown yet: accepted beside it, and in its place from its first use on. */
  readonly next: NewLeaf | null;
  /** When the bundle that waits to be redeemed expires; null where none waits. */
  readonly bundleExpires_ms: number | null;
  readonly created_ms: number;
  readonly revoked_ms: number | null;
}

export interface NewBundle {
  readonly hash: string;
  readonly expires_ms: number;
}

/** What a bundle's text says: whose, and the hash of its secret. */
export interface BundleProof {
  readonly operator: string;
  readonly hash: string;
}

export interface NewLeaf {
  readonly fingerprint: string;
  readonly leaf: string;
  readonly spkiHash: string;
  readonly csrHash: string;
  readonly notAfter_ms: number;
}

export interface SessionRow {
  readonly id: string;
  readonly actor: string;
  readonly scopes: readonly Scope[];
  readonly operator: string | null;
  readonly node: string | null;
  /** Name of the configured issuer whose JWT it began with. */
  readonly issuer: string | null;
  readonly created_ms: number;
  readonly expires_ms: number;
}

export interface NewSession extends Omit<SessionRow, 'created_ms' | 'operator'> {
  readonly hash: string;
  /** With the leaf that was shown. */
  readonly operator: { readonly id: string; readonly fingerprint: string } | null;
}

/** The row as it is now, and the sessions that ended with the change. */
export interface CutOff {
  readonly row: OperatorRow;
  readonly ended: readonly string[];
}

export interface AccessStore {
  /** @throws name_taken, limit_reached */
  createOperator(operator: Pick<OperatorRow, 'id' | 'name' | 'scopes'>, bundle: NewBundle, by: By): Promise<OperatorRow>;
  /** Another bundle, in the place of one that was not redeemed. @throws not_found, operator_revoked */
  setBundle(id: string, bundle: NewBundle, by: By): Promise<OperatorRow>;
  /** In the order of their ids. */
  operators(page: PageRequest): Promise<readonly OperatorRow[]>;
  operator(id: string): Promise<OperatorRow | null>;
  /** What redeeming would do now, without doing it: the row, and whether this very request was answered before. @throws as `redeem` */
  admit(proof: BundleProof, csrHash: string, at_ms: number): Promise<{ readonly row: OperatorRow; readonly isAnswered: boolean }>;
  /**
   * Redeems a bundle, once: records the leaf, and ends what the one before it had begun. The same request again changes nothing.
   * @throws bundle_invalid, bundle_expired, bundle_redeemed, csr_invalid (the key is somebody else's)
   */
  redeem(proof: BundleProof, leaf: NewLeaf, at_ms: number): Promise<CutOff>;
  /**
   * Records the leaf that an operator is given beside its own. The same request again changes nothing; another one takes its place.
   * @throws operator_revoked, csr_invalid (the key is somebody else's)
   */
  renewOperator(id: string, leaf: NewLeaf, at_ms: number): Promise<OperatorRow>;
  /** The next leaf was shown: it is the operator's own from now on, and the one before is none. Where this is not the next one, nothing changes. */
  useNextLeaf(id: string, fingerprint: string, at_ms: number): Promise<void>;
  /** Leaf, sessions and bundle, in one step. Idempotent. @throws not_found */
  revokeOperator(id: string, by: By): Promise<CutOff>;

  /** The oldest of the same actor makes room for it; those that expired are forgotten. @throws limit_reached, certificate_revoked. @returns also the ids that ended */
  createSession(session: NewSession, by: By): Promise<{ readonly row: SessionRow; readonly ended: readonly string[] }>;
  /** The session of this token, if it is still one: neither expired, nor its operator or node cut off. */
  session(hash: string, at_ms: number): Promise<SessionRow | null>;
  /** Those that have not expired, in the order of their ids. */
  sessions(page: PageRequest, at_ms: number): Promise<readonly SessionRow[]>;
  /** @throws not_found */
  endSession(id: string, action: 'session.logout' | 'session.revoke', by: By): Promise<SessionRow>;
}
