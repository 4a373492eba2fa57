/**
 * The tower: one cluster's authority, its nodes and tokens, and what each node is told. It puts store, authority and directory together; how
 * it is reached (api.ts, fabric.ts) and how its state comes to be (init.ts) is elsewhere. Everything that changes goes through the store
 * first, then into the directory in memory, then to whoever listens.
 */
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { assert, asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { fromHex, isNodeId, type NodeIdentity, toHex } from '../base/ids.ts';
import type { Clock, Random } from '../base/seam.ts';
import type { Proof } from '../enroll/proof.ts';
import { ownProofs } from '../enroll/proofs/own.ts';
import { packSnapshot } from '../enroll/snapshot.ts';
import {
  checkEndpointsSize,
  type Endpoint,
  type EnrollAnswer,
  type EnrollRequest,
  type Envelope,
  type PreflightAnswer,
  type PreflightRequest,
  type Snapshot,
} from '../enroll/wire.ts';
import { toBase64 } from '../identity/base64.ts';
import { fingerprint, formatFingerprint } from '../identity/fingerprint.ts';
import { signDocument } from '../identity/signed-document.ts';
import type { End } from '../policy/authorize.ts';
import type { Credentials } from '../transport/session.ts';
import { TowerAccess } from './access/tower-access.ts';
import { AppNetworks } from './app/networks.ts';
import { type AuditHead, openHead, readHeadFile, signHead, writeHeadFile } from './audit/head.ts';
import { type BackupFacts, writeBackup } from './backup/backup.ts';
import { appPart } from './app/snapshot.ts';
import { Enrollment } from './enrolling/enrollment.ts';
import { type GrantView, grantView, newToken, type TokenRequest } from './enrolling/granting.ts';
import { Grants, type GrantsParts } from './enrolling/grants.ts';
import { checkLive } from './live.ts';
import type { OwnCertificates } from './renewing/own-certificates.ts';
import { Nonces } from './enrolling/nonces.ts';
import { preflight } from './enrolling/preflight.ts';
import { Hosts } from './enrolling/hosts.ts';
import { RecordedFingerprints } from './recorded.ts';
import type { RuleSet, Seen } from './rules-snapshot.ts';
import { buildSnapshot } from './snapshot.ts';
import { Leaving } from './leaving.ts';
import { LeafRenewals } from './renewing/leaf-renewals.ts';
import { Unsealing } from './unseal/unsealing.ts';
import type { Match, PageRequest } from './resources/resource-store.ts';
import { stateFiles } from './backup/state-files.ts';
import { writeTowerFile } from './tower-file.ts';
import type { TrustRow } from './trust/phases.ts';
import { TrustRotation } from './trust/rotation.ts';
import { Resources } from './resources/resources.ts';
import { ViewAudit } from './audit/view-audit.ts';
import type { AuditRow, ClusterRow, NodePageRequest, NodeRow, NodeSettings, Store } from './store/store.ts';

export interface TowerParts {
  readonly store: Store;
  /** What it shows and signs with. */
  readonly own: OwnCertificates;
  readonly row: ClusterRow;
  /** Null: no root was ever rotated. */
  readonly trust: TrustRow | null;
  /** Where its files are. */
  readonly state: string;
  /** Under which the tokens of sites are sealed in the store: 32 octets. */
  readonly siteTokenKey: Uint8Array;
  readonly clock: Clock;
  readonly random: Random;
  /** Further kinds of proof than those that need nothing but the tower. */
  readonly proofs?: readonly Proof[];
}

export interface TowerStatus {
  readonly cluster: string;
  readonly fingerprint: string;
  readonly version: number;
  readonly endpoints: readonly Endpoint[];
  readonly nodes: number;
  readonly tokens: number;
  readonly certificate_not_after_ms: number;
}

/** Whose snapshots may differ now: those of whoever may hear of a site's nodes (null: of none), or of those of further sites, and of further nodes, wherever they are; or everybody's. */
export interface Touched {
  readonly everybody?: boolean;
  readonly site: string | null;
  readonly sites?: readonly string[];
  readonly nodes: readonly string[];
  /** Somebody was revoked: nobody is to hear of it later than can be. */
  readonly isUrgent?: boolean;
}

/** A node that may have no channel from now on. */
export type RevocationListener = (node: string) => void;

export type ChangeListener = (touched: Touched) => void;

export class Tower {
  readonly cluster: string;
  /** Which roots count. */
  readonly trust: TrustRotation;
  readonly own: OwnCertificates;
  readonly app: AppNetworks;
  /** Hosts, call-home certificates and authorities, as an operator makes them. */
  readonly grants: Grants;
  /** Of nodes' leaves. */
  readonly renewals: LeafRenewals;
  readonly unsealing: Unsealing;
  /** Nodes that are being revoked. */
  readonly leaving = new Leaving();
  readonly access: TowerAccess;
  readonly hosts: Hosts;
  readonly resources: Resources;
  readonly views: ViewAudit;
  #row: ClusterRow;
  readonly #state: string;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #granting: GrantsParts;
  readonly #enrollment: Enrollment;
  readonly #recorded: RecordedFingerprints;
  readonly #listeners = new Set<ChangeListener>();
  readonly #revocationListeners = new Set<RevocationListener>();
  readonly #retirementListeners = new Set<() => void>();

  private constructor(parts: TowerParts) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#row = parts.row;
    this.#state = parts.state;
    this.cluster = parts.row.cluster;
    this.own = parts.own;
    this.trust = new TrustRotation({
      ...parts,
      row: parts.trust,
      changed: () => this.#tellEverybody(),
      onRetired: (leaf) => this.#retired(leaf),
      keep: () => this.#keepRoot(),
    });
    this.unsealing = new Unsealing({
      cluster: this.cluster,
      store: parts.store,
      authority: parts.own,
      authorityOf: (node) => this.trust.leavesOf(node),
      key: parts.siteTokenKey,
      clock: parts.clock,
      random: parts.random,
      roots: () => this.roots,
      onBoot: (site) => this.#tell({ site, nodes: [] }),
    });
    this.app = new AppNetworks({ store: parts.store, clock: parts.clock, tell: (nodes) => this.#tell({ site: null, nodes }) });
    this.renewals = new LeafRenewals({
      cluster: this.cluster,
      store: parts.store,
      authorityOf: (node) => this.trust.leavesOf(node),
      clock: parts.clock,
      random: parts.random,
      isNext: (identity, leaf) => this.#recorded.isNext(identity, leaf),
      changed: (rows) => this.#allChanged(rows),
    });
    this.hosts = new Hosts({ store: parts.store.proofs, clock: parts.clock, random: parts.random });
    this.views = new ViewAudit(parts);
    this.resources = new Resources({ stores: parts.store.resources, clock: parts.clock, tell: (told) => this.#tell({ site: null, ...told }) });
    const { clock, random } = parts;
    this.#granting = { cluster: this.cluster, store: parts.store.proofs, authority: () => this.own, clock, random };
    this.grants = new Grants(this.#granting);
    this.access = new TowerAccess({
      ...parts,
      authority: parts.own,
      trust: this.trust,
      store: parts.store.access,
      cluster: this.cluster,
      endpoints: parts.row.endpoints,
    });
    this.#enrollment = new Enrollment({
      ...this.#granting,
      roots: () => this.roots,
      nonces: new Nonces({ clock }),
      proofs: [...ownProofs, ...(parts.proofs ?? [])],
      newBoot: (node, csr) => this.unsealing.newBoot(node, csr),
    });
    this.#recorded = new RecordedFingerprints(this.cluster, fromHex(parts.row.towerFingerprint) ?? new Uint8Array());
  }

  /** Owns what it is given from now on, also when it throws. */
  static async start(parts: TowerParts): Promise<Tower> {
    const tower = new Tower(parts);
    try {
      for (const row of await parts.store.nodes()) {
        tower.#recorded.set(row);
        tower.leaving.set(row);
      }
      return tower;
    } catch (error) {
      await tower.close();
      throw error;
    }
  }

  /** DER, for the trust bundle of `verifyPeer`. */
  get roots(): readonly Uint8Array[] {
    return this.trust.roots;
  }

  /** SHA-256 of the root that the tower is known by. */
  get rootFingerprint(): Uint8Array {
    return fingerprint(this.own.root);
  }

  /** Leaf, intermediate, root, and the leaf's key, as they are now. */
  get credentials(): Credentials {
    return this.own.credentials;
  }

  /** The tower's own leaf, followed by another; every snapshot says so. @throws signer_unavailable, disk_full */
  async renewLeaf(): Promise<void> {
    await this.own.renewLeaf();
    await this.#recordOwn();
  }

  /** The intermediate, and the tower's leaf with it. @throws not_found where the root's key was taken offline, signer_unavailable, disk_full */
  async renewIntermediate(): Promise<void> {
    await this.own.renewIntermediate();
    await this.#recordOwn();
  }

  async #recordOwn(): Promise<void> {
    const leaf = fingerprint(this.credentials.chain[0] ?? new Uint8Array());
    const row = { ...this.#row, towerFingerprint: toHex(leaf) };
    await this.#store.setCluster(row, this.#clock.wall());
    this.#row = row;
    this.#recorded.setTower(leaf);
    this.#tellEverybody();
  }

  /** The rows say so already. */
  #retired(leaf: Uint8Array): void {
    this.#row = { ...this.#row, rootFingerprint: toHex(this.rootFingerprint), towerFingerprint: toHex(leaf) };
    this.#recorded.setTower(leaf);
    for (const listener of this.#retirementListeners) listener();
  }

  async #keepRoot(): Promise<void> {
    await writeTowerFile(this.#state, { cluster: this.cluster, fingerprint: formatFingerprint(this.rootFingerprint) });
    await this.keepAuditHead();
  }

  /** For `verifyPeer`; always the state of now. */
  get recordedFingerprint(): RecordedFingerprints['of'] {
    return this.#recorded.of;
  }

  /** Told before anybody else, once the directory refuses the node: its live channels are to end. The returned function ends it. */
  onRevoked(listener: RevocationListener): () => void {
    this.#revocationListeners.add(listener);
    return () => this.#revocationListeners.delete(listener);
  }

  /** Told once a root is retired: the tower shows another leaf from now on, and channels have a while to move over. The returned function ends it. */
  onRetired(listener: () => void): () => void {
    this.#retirementListeners.add(listener);
    return () => this.#retirementListeners.delete(listener);
  }

  /** Told after a change is on disk and in the directory. The returned function ends it. */
  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The text is nowhere but in the answer. @throws limit_reached, argument_invalid */
  async createToken(request: TokenRequest, actor = 'local'): Promise<{ text: string; token: GrantView }> {
    const now_ms = this.#clock.wall();
    const { text, grant } = newToken(this.cluster, request, { now_ms, random: this.#random });
    return { text, token: grantView(await this.#store.proofs.createGrant(grant, { actor, at_ms: now_ms })) };
  }

  async tokens(): Promise<readonly GrantView[]> {
    return (await this.#store.proofs.grants('token')).map(grantView);
  }

  async tokenPage(request: PageRequest): Promise<readonly GrantView[]> {
    return (await this.#store.proofs.grantPage('token', request)).map(grantView);
  }

  /** @throws not_found */
  async revokeToken(id: string, actor = 'local'): Promise<GrantView> {
    return grantView(await this.#store.proofs.revokeGrant('token', id, { actor, at_ms: this.#clock.wall() }));
  }

  /** Of the challenge that bound proofs answer. */
  challenge(): { nonce: string; expires_ms: number } {
    return this.#enrollment.nonces.issue();
  }

  /** For installers (preflight.ts). @throws as `preflight` */
  async preflight(request: PreflightRequest, peer: string): Promise<PreflightAnswer> {
    return await preflight({ ...this.#granting, trust: this.trust.bundle }, request, peer);
  }

  /** Call-home, the tower's end (enrollment.ts). `peer`: the IP address of whoever asks. @throws as `Enrollment.enroll` */
  async enroll(request: EnrollRequest, peer: string): Promise<EnrollAnswer> {
    const { node, publicKey, isNew } = await this.#enrollment.enroll(request, peer);
    return await this.#answer(isNew ? await this.#changed(node) : node, publicKey, request.boot);
  }

  async #answer(node: NodeRow, publicKey: Uint8Array, boot: EnrollRequest['boot']): Promise<EnrollAnswer> {
    if (node.leaf === null) throw new SelvedgeError('certificate_revoked', { peer: node.id, why: 'the node was revoked' });
    const { envelope } = await this.#signed(await this.#known(node));
    const chain = [node.leaf, toBase64(this.own.intermediate)];
    const { id, name, site, tenant } = node;
    const secrets = boot === undefined ? {} : { site_secrets: await this.unsealing.first(node, publicKey, boot) };
    return { node: id, name, site, tenant, cluster: this.cluster, chain, trust: this.trust.bundle, snapshot: envelope, ...secrets };
  }

  /** Which sites a node may hear of, and the version of what it may know. @throws not_found */
  async seenBy(id: string): Promise<Seen> {
    return await this.#store.seenBy(await this.#mustFind(id));
  }

  /** What this node may know now, signed. @throws not_found, certificate_revoked */
  async snapshot(id: string): Promise<{ version: number; envelope: Envelope }> {
    return await this.#signed(await this.known(id));
  }

  async #signed(snapshot: Snapshot): Promise<{ version: number; envelope: Envelope }> {
    const { payload, signature, chain } = await signDocument('snapshot', await packSnapshot(snapshot), this.own);
    return { version: snapshot.version, envelope: { payload, signature, chain: [...chain] } };
  }

  /** The same for whoever asks over the API. @throws not_found, certificate_revoked */
  async known(id: string): Promise<Snapshot> {
    return await this.#known(await this.#mustFind(id));
  }

  async #known(node: NodeRow): Promise<Snapshot> {
    checkLive(node);
    // The version first: what changes in between is then told again, never missed.
    const { version, nodes, rules, epochOf } = await this.#store.view(node);
    const boots = await this.#store.unseal.boots(node.site);
    const view = await this.#store.app.view(node.id);
    const tower = { fingerprint: this.#row.towerFingerprint, endpoints: this.#row.endpoints };
    const issued_ms = Math.floor(this.#clock.wall());
    const app = view === null ? null : appPart(node.id, view);
    const reissue = this.trust.reissue(this.#recorded.count);
    return buildSnapshot({ version, issued_ms, cluster: this.cluster, node, tower, nodes, boots, trust: this.trust.bundle, reissue, app, rules, epochOf });
  }

  /** A node of the cluster as rules see it; null for whoever is none. Always the state of now. */
  endOf(identity: NodeIdentity): End | null {
    return this.#recorded.endOf(identity);
  }

  /** All rules of the cluster. */
  rules(): Promise<RuleSet> {
    return this.#store.rules();
  }

  async nodes(): Promise<readonly NodeRow[]> {
    return await this.#store.nodes();
  }

  nodePage(request: NodePageRequest): Promise<readonly NodeRow[]> {
    return this.#store.nodePage(request);
  }

  /** By its id, or its name. @throws not_found */
  async findNode(idOrName: string): Promise<NodeRow> {
    const row = (isNodeId(idOrName) ? await this.#store.node(idOrName) : null) ?? (await this.#store.nodeNamed(idOrName));
    if (row === null) throw new SelvedgeError('not_found', { what: 'node', name: idOrName });
    return row;
  }

  /** What is not said stays. @throws not_found, changed_meanwhile */
  async setNode(id: string, settings: Partial<NodeSettings>, match: Match, actor: string): Promise<NodeRow> {
    return await this.#changed(await this.#store.setNode(id, settings, match, { actor, at_ms: this.#clock.wall() }));
  }

  /** A node says where it can be dialed now. @throws not_found, certificate_revoked, argument_invalid */
  async setEndpoints(id: string, endpoints: readonly Endpoint[]): Promise<void> {
    checkEndpointsSize(endpoints);
    checkLive(await this.#mustFind(id));
    if (await this.#store.setEndpoints(id, endpoints, this.#clock.wall())) await this.#changed(await this.#mustFind(id));
  }

  async seen(id: string): Promise<void> {
    await this.#store.seen(id, this.#clock.wall());
  }

  /** Takes the recorded fingerprint away: the node's next handshake fails, here and, with their next snapshot, at its peers. @throws not_found */
  async revokeNode(id: string, actor = 'admin'): Promise<NodeRow> {
    const row = await this.#changed(await this.#store.setLeaf(id, null, this.#clock.wall(), actor));
    // The node knew the token; what it knew is to open nothing for ever.
    await this.unsealing.renewToken(row.site);
    return row;
  }

  /** The same in so many milliseconds: until then what is there drains, and nothing begins (leaving.ts). @throws not_found */
  async drainNode(id: string, drain_ms: number, actor = 'admin'): Promise<NodeRow> {
    const at_ms = this.#clock.wall();
    return await this.#changed(await this.#store.setLeaving(id, Math.round(at_ms + drain_ms), { actor, at_ms }));
  }

  /** Records another leaf (DER) in the place of the node's. @throws not_found */
  async recordLeaf(id: string, leaf: Uint8Array): Promise<NodeRow> {
    return await this.#changed(await this.#store.setLeaf(id, { fingerprint: toHex(fingerprint(leaf)), leaf: toBase64(leaf) }, this.#clock.wall()));
  }

  /** @throws not_found */
  async setDisabled(id: string, disabled: boolean): Promise<NodeRow> {
    return await this.setNode(id, { disabled }, null, 'admin');
  }

  /** At most so many rows of the audit log, after this one. */
  audit(after_seq: number, count_max: number): Promise<readonly AuditRow[]> {
    return this.#store.audit(after_seq, count_max);
  }

  /** Where the audit log ends now, signed, and what is kept of where it ended. */
  async auditHead(): Promise<AuditHead & { signed: Envelope; kept: AuditHead | null }> {
    const row = await this.#store.head();
    assert(row !== null, 'a cluster was made, and so has an audit row');
    const now_ms = this.#clock.wall();
    const signed = await signHead(row, this.cluster, this.own, now_ms);
    const kept = await readHeadFile(this.#headFile);
    const given = { roots: this.trust.keptRoots, cluster: this.cluster, now_ms };
    return { ...openHead(signed, given), signed, kept: kept === null ? null : openHead(kept, given) };
  }

  /** Signs where the audit log ends now, and keeps it beside the database. */
  async keepAuditHead(): Promise<void> {
    const { signed, kept, hash } = await this.auditHead();
    if (kept?.hash !== hash) await writeHeadFile(this.#headFile, signed);
  }

  /** @throws file_exists, disk_full, permission_denied */
  backup(file: string, actor: string): Promise<BackupFacts> {
    // Rows, keys and `tower.json` are of one moment then.
    return this.trust.alone(() => writeBackup({ store: this.#store, state: this.#state, file, cluster: this.cluster, clock: this.#clock, actor }));
  }

  get #headFile(): string {
    return join(this.#state, stateFiles.head);
  }

  async status(): Promise<TowerStatus> {
    const [version, { nodes, tokens }] = await Promise.all([this.#store.version(), this.#store.counts()]);
    const certificate_not_after_ms = new X509Certificate(this.credentials.chain[0] ?? '').validToDate.getTime();
    const root = formatFingerprint(this.rootFingerprint);
    return {
      cluster: this.cluster,
      fingerprint: root,
      version,
      endpoints: this.#row.endpoints,
      nodes,
      tokens,
      certificate_not_after_ms,
    };
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#listeners.clear();
    this.#revocationListeners.clear();
    this.#retirementListeners.clear();
    await this.#enrollment.close();
    await this.own.close();
    await this.#store.close();
  }

  /** Puts a committed row into the directory, then tells its site and whoever shares an app network with the node. */
  async #changed(row: NodeRow): Promise<NodeRow> {
    await this.#allChanged([row]);
    return row;
  }

  /** The same for rows of one transaction. The directory follows all of them before anything is waited for: none is to be the older one by then. */
  async #allChanged(rows: readonly NodeRow[]): Promise<void> {
    const gone = new Set(rows.filter((row) => this.#record(row)).map(({ id }) => id));
    for (const { id, site } of rows) this.#tell({ site, nodes: await this.#store.app.sharers(id), isUrgent: gone.has(id) });
    // Of fewer nodes enough may be ready.
    await this.trust.settle().catch((error: unknown) => process.emitWarning(asSelvedgeError(error, 'internal_error', { what: 'rotating the root' })));
  }

  /** Whether it is news that the node may have no channel. */
  #record(row: NodeRow): boolean {
    if (!this.#recorded.set(row)) return false;
    this.leaving.set(row);
    if (row.fingerprint !== null && !row.disabled) return false;
    for (const listener of this.#revocationListeners) listener(row.id);
    this.access.live.cut([`node:${row.id}`]);
    return true;
  }

  #tellEverybody(): void {
    this.#tell({ everybody: true, site: null, nodes: [] });
  }

  /** A listener that throws is its owner's bug, and stops no other. */
  #tell(touched: Touched): void {
    for (const listener of this.#listeners) {
      try {
        listener(touched);
      } catch (error) {
        process.emitWarning(asSelvedgeError(error, 'internal_error', { what: 'a listener of the tower' }));
      }
    }
  }

  async #mustFind(id: string): Promise<NodeRow> {
    const row = await this.#store.node(id);
    if (row === null) throw new SelvedgeError('not_found', { what: 'node', name: id });
    return row;
  }
}
