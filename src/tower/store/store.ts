/**
 * `Store`: the tower's state as rows. SQLite implements it (sqlite.ts), PostgreSQL can follow; `test/compliance/store.ts` is the
 * suite that each implementation passes.
 *
 * Every change is one transaction that also moves the version on and writes its audit row. A version is the cluster's; a *scope* is what a
 * snapshot is cut along (one site, one app network, one node, or everybody) and remembers the version of its last change, so that a node is told only of changes
 * that it may see. The store knows rows, not certificates: it keeps what it is given and never holds a secret, only hashes.
 * Times are milliseconds since the epoch and come from the caller.
 */
import type { Endpoint } from '../../enroll/wire.ts';
import type { AccessStore } from '../access/access-store.ts';
import type { AppStore } from './app-store.ts';
import type { NodeView, RuleSet, Seen, Selectable } from '../rules-snapshot.ts';
import type { UnsealStore } from '../unseal/unseal-store.ts';
import type { ProofStore } from './proof-store.ts';
import type { LeafRow, Renewal } from '../renewing/renewal.ts';
import type { TrustStore } from '../trust/trust-store.ts';
import type { By, Match, PageRequest, ResourceStores } from '../resources/resource-store.ts';

/** What the tower says of itself: made once, endpoints and leaf change. */
export interface ClusterRow {
  readonly cluster: string;
  /** SHA-256 of the root's DER, hex. */
  readonly rootFingerprint: string;
  /** SHA-256 of the tower's own leaf, hex. */
  readonly towerFingerprint: string;
  readonly endpoints: readonly Endpoint[];
  readonly created_ms: number;
  /** Where hosts of app networks have their VTEPs: a canonical IPv4 subnet. */
  readonly vtepRange: string;
}

export interface NodeRow {
  readonly id: string;
  readonly name: string;
  readonly site: string;
  /** SHA-256 of the leaf that is the node's now, hex; null once revoked. */
  readonly fingerprint: string | null;
  /** That leaf, DER in base64; null once revoked. */
  readonly leaf: string | null;
  /** SHA-256 of the certificate request and of the public key, hex. */
  readonly csrHash: string;
  readonly spkiHash: string;
  /** Leaves that are accepted beside that one; null: none. */
  readonly renewal: Renewal | null;
  readonly endpoints: readonly Endpoint[];
  readonly disabled: boolean;
  /** When it is to be revoked, milliseconds since the epoch; null: it is not. */
  readonly leaving_ms: number | null;
  readonly created_ms: number;
  readonly seen_ms: number | null;
  /** Null: the platform's own. */
  readonly tenant: string | null;
  readonly roles: readonly string[];
  /** The store's version of the last change that an operator can make. */
  readonly revision: number;
}

/** What an operator says of a node. */
export type NodeSettings = Pick<NodeRow, 'disabled' | 'tenant' | 'roles'>;

export interface AuditRow {
  readonly seq: number;
  readonly version: number;
  readonly at_ms: number;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  /** JSON, safe to show. */
  readonly detail: string;
  /** SHA-256 over this row and `previous`, the hash of the row before: hex. */
  readonly previous: string;
  readonly hash: string;
}

export interface StoreEvent {
  readonly action: string;
  readonly subject: string;
  readonly detail: Readonly<Record<string, unknown>>;
  readonly version_min?: number;
}

/** Of one site, or one tenant, or all. */
export interface NodePageRequest extends PageRequest {
  readonly site?: string;
  readonly tenant?: string;
}

export interface Store {
  readonly path: string;
  readonly app: AppStore;
  readonly unseal: UnsealStore;
  readonly access: AccessStore;
  /** Enrolling: grants, their uses, and nodes as they come to be. */
  readonly proofs: ProofStore;
  readonly resources: ResourceStores;
  readonly trust: TrustStore;

  /** Null until `setCluster`. */
  cluster(): Promise<ClusterRow | null>;
  /** Makes or changes the row; a change reaches every node's snapshot. */
  setCluster(row: ClusterRow, at_ms: number): Promise<void>;

  /** Version of the last change of anything. */
  version(): Promise<number>;
  /** What this node's snapshot is cut from. */
  view(node: Selectable): Promise<NodeView>;
  /** Version of the last change that this node may see, and of which sites that may be. */
  seenBy(node: Selectable): Promise<Seen>;
  /** Of the whole cluster. */
  rules(): Promise<RuleSet>;

  node(id: string): Promise<NodeRow | null>;
  nodeNamed(name: string): Promise<NodeRow | null>;
  nodes(filter?: { site: string }): Promise<readonly NodeRow[]>;
  /** In the order of their ids. */
  nodePage(request: NodePageRequest): Promise<readonly NodeRow[]>;
  counts(): Promise<{ readonly nodes: number; readonly tokens: number }>;
  /** Nothing happens, no version moves, where they are the same. @throws not_found */
  setEndpoints(id: string, endpoints: readonly Endpoint[], at_ms: number): Promise<boolean>;
  /**
   * Records the successor of the leaf `holding` beside it. @throws not_found, certificate_revoked (the node's leaf is another), csr_invalid (the key is known already)
   */
  offerLeaf(id: string, next: LeafRow, holding: string, at_ms: number): Promise<NodeRow>;
  /** The node was seen with that successor. Nothing happens, no version moves, where it is no such. @throws not_found */
  useLeaf(id: string, fingerprint: string, at_ms: number): Promise<NodeRow>;
  /** Takes away old leaves whose time is over; the rows that changed. */
  retireLeaves(at_ms: number): Promise<readonly NodeRow[]>;
  /** Records another leaf, or none: with none the node is revoked. @throws not_found */
  setLeaf(id: string, leaf: { fingerprint: string; leaf: string } | null, at_ms: number, actor?: string): Promise<NodeRow>;
  /** It is to be revoked then; an earlier time that was said before stays. @throws not_found */
  setLeaving(id: string, leaving_ms: number, by: By): Promise<NodeRow>;
  /** What is not said stays. @throws not_found (also of a role or tenant), changed_meanwhile */
  setNode(id: string, settings: Partial<NodeSettings>, match: Match, by: By): Promise<NodeRow>;
  /** An observation, not a change: no version, no audit row. */
  seen(id: string, at_ms: number): Promise<void>;

  /** What happened to the store as a whole. With `version_min` versions go on from there, for everybody. @returns the version that it made */
  note(event: StoreEvent, by: By): Promise<number>;
  /** A copy of all of it in a file that is there and empty, while it is in use; what changes meanwhile waits. @throws unsupported where the engine has its own way, disk_full */
  copyTo(file: string): Promise<void>;

  /** Its last row. */
  head(): Promise<AuditRow | null>;
  audit(after_seq: number, count_max: number): Promise<readonly AuditRow[]>;
  /** Walks the whole chain. @throws store_damaged */
  verifyAudit(): Promise<void>;

  /** Idempotent. Afterwards every call throws `handle_closed`. */
  close(): Promise<void>;
}
