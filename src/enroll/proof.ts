/**
 * `Proof`: how a host shows that it may become a node (spec 2.2). One implementation per kind judges evidence and says what it claims; what
 * follows is the same for all and elsewhere: the site's switches, the grant's limits, one transaction that counts the use and makes the node.
 * `test/compliance/proof.ts` is the suite that each implementation passes.
 *
 * Every kind but token and host id is *bound*: its evidence covers `challengeDigest`, made of a nonce of the tower and of the certificate
 * request, so that whoever records it can use it neither again nor for a key of his own.
 */
import { createHash } from 'node:crypto';
import type { Static, TSchema } from 'typebox';

export const proofKinds = ['token', 'host-id', 'x509', 'fingerprint', 'aws', 'google', 'kubernetes'] as const;
export type ProofKind = (typeof proofKinds)[number];

/** What a site takes for a proof, from its settings. */
export interface SiteProofs {
  readonly allowed: readonly ProofKind[];
  /** The widest binding of a call-home certificate that is taken. */
  readonly binding: 'host-id' | 'site' | 'system-ca';
  /** Whether a returning node that is known by its fingerprint alone may bring a key that the tower has not seen. */
  readonly newKeys: boolean;
}

/**
 * What an operator gave out or recorded, by which hosts may enroll: a token, a host's id, a call-home certificate, an identity at a platform. Kind and id
 * together name it. A grant's limits are checked for all kinds in the same place, so that no implementation can forget one.
 */
export interface Grant {
  readonly kind: ProofKind;
  /** Printable ASCII, 1 to `limits.grant_id_chars_max`. What it means is the kind's matter. */
  readonly id: string;
  /** SHA-256 of a secret that the host must know, hex; null where the kind has none. */
  readonly hash: string | null;
  /** Null: that of the site. */
  readonly tenant: string | null;
  /** The site that it enrolls into; null: the node chooses. */
  readonly site: string | null;
  /** Name and id of the one node that it is for, where that is settled. */
  readonly name: string | null;
  readonly node: string | null;
  readonly purpose: 'enroll' | 'preflight';
  readonly uses: number;
  readonly usesMax: number;
  /** Networks (CIDR) from which it may be used; none: from everywhere. */
  readonly sources: readonly string[];
  /** What else the kind must know of it: text by name, safe to show. */
  readonly detail: Readonly<Record<string, string>>;
  /** Null: never. */
  readonly expires_ms: number | null;
  readonly revoked_ms: number | null;
  readonly created_ms: number;
}

/** A node as a host that returns is compared with it. */
export interface KnownNode {
  readonly id: string;
  readonly tenant: string | null;
  readonly site: string;
  /** SHA-256 of its public keys, hex: of the one in use, and of the one that a renewal gave a certificate and nobody has seen yet. */
  readonly spkiHashes: readonly string[];
  readonly isRevoked: boolean;
  readonly facts: HostFacts;
  /** From which it enrolled. */
  readonly peer: string;
}

/** What a host says of itself; hashes are hex. */
export interface HostFacts {
  readonly machine: string;
  readonly macs: string;
  readonly addresses: readonly string[];
}

/** What an implementation may look up. */
export interface ProofRecords {
  grant(kind: ProofKind, id: string): Promise<Grant | null>;
  /** All of a kind, at most `limits.grants_max`: for kinds whose grants are patterns. */
  grants(kind: ProofKind): Promise<readonly Grant[]>;
  /** Of kind `x509`, those for certificates of an authority, not revoked; at most `limits.x509_authorities_max`. */
  authorities(): Promise<readonly Grant[]>;
  /** The nodes with this hash of a machine id, at most `limits.fingerprint_matches_max`. */
  nodesOfMachine(machine: string): Promise<readonly KnownNode[]>;
  siteProofs(site: string): Promise<SiteProofs>;
}

export interface ProofContext {
  readonly cluster: string;
  /** The tower's nonce, found fresh; null for kinds that are not bound. */
  readonly nonce: string | null;
  /** What bound evidence must cover: `challengeDigest` of kind, cluster, nonce and request. Empty for kinds that are not bound. */
  readonly challenge: string;
  /** SHA-256 of the request's DER. */
  readonly csrHash: Uint8Array;
  /** Of the request, whose sender has shown that he holds its private key: SubjectPublicKeyInfo DER. */
  readonly publicKey: Uint8Array;
  /** IP address from which it came: of a proxy, where one stands before the tower. */
  readonly peer: string;
  /** The site that was asked for. */
  readonly site: string | null;
  readonly now_ms: number;
  /** DER of the cluster's roots. */
  readonly roots: readonly Uint8Array[];
  readonly records: ProofRecords;
}

/** What good evidence amounts to: one use of a grant, or a node that is known already and comes back. */
export type Claim =
  | {
      readonly grant: Grant;
      /** Who it is within the grant, where a grant is for several: the same may enroll only once. */
      readonly subject: string | null;
    }
  | { readonly returning: KnownNode };

/** The tower's side of a kind. It holds no state of requests, and changes nothing. */
export interface Proof<Evidence extends TSchema = TSchema> {
  readonly kind: ProofKind;
  readonly isBound: boolean;
  /** What stands beside `kind` (and `nonce`, where it is bound) in the request: a closed object, every text and list with its bound. */
  readonly evidence: Evidence;
  /** @throws proof_invalid, or a code of the kind's own. What it says tells a stranger no more than that he was refused. */
  judge(evidence: Static<Evidence>, context: ProofContext): Promise<Claim>;
  /** Idempotent; absent where nothing is held. */
  close?(): Promise<void>;
}

/** What a node must answer for. */
export interface Challenge {
  readonly nonce: string;
  readonly csrHash: Uint8Array;
  /** `challengeDigest` of it. */
  readonly digest: string;
  /** By the key of the request: ECDSA with SHA-256, DER. */
  sign(data: Uint8Array): Uint8Array;
}

/** The node's side of a kind. */
export interface ProofMaker {
  readonly kind: ProofKind;
  readonly isBound: boolean;
  /** The evidence for this challenge; null where the kind is not bound. Asked for anew with each attempt. */
  make(challenge: Challenge | null): Promise<Readonly<Record<string, unknown>>>;
  /** Called once, when the node has its identity on disk: what is not needed any more can go. */
  done?(): Promise<void>;
}

/** In hex, 64 digits: fits a JWT's audience, an HTTP header, and what is to be signed. */
export function challengeDigest(kind: ProofKind, cluster: string, nonce: string, csrHash: Uint8Array): string {
  return createHash('sha256').update(`selvedge enroll 1\n${kind}\n${cluster}\n${nonce}\n`).update(csrHash).digest('hex');
}
