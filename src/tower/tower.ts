/**
 * The tower: one cluster's authority, its nodes and tokens, and what each node is told. It puts store, authority and directory together; how
 * it is reached (api.ts, fabric.ts) and how its state comes to be (init.ts) is elsewhere. Everything that changes goes through the store
 * first, then into the directory in memory, then to whoever listens.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { checkLabel, fromHex, isNodeId, TOWER_SITE, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Clock, Random } from '../base/seam.ts';
import { makeToken, readToken } from '../enroll/token.ts';
import { packSnapshot } from '../enroll/snapshot.ts';
import { bytesOf, checkEndpointsSize, type Endpoint, type EnrollAnswer, type EnrollRequest, type Envelope, type Snapshot } from '../enroll/wire.ts';
import { issueChain } from '../identity/authority.ts';
import { toBase64 } from '../identity/base64.ts';
import { parseCsr } from '../identity/csr.ts';
import { fingerprint } from '../identity/fingerprint.ts';
import { signDocument } from '../identity/signed-document.ts';
import { trustBundleToJson } from '../identity/trust-bundle.ts';
import type { Credentials } from '../transport/session.ts';
import { AppNetworks } from './app-networks.ts';
import { appPart } from './app-snapshot.ts';
import { checkLive } from './live.ts';
import type { OwnCertificates } from './own-certificates.ts';
import { RecordedFingerprints } from './recorded.ts';
import { buildSnapshot } from './snapshot.ts';
import { LeafRenewals } from './leaf-renewals.ts';
import type { Match, PageRequest } from './resources/resource-store.ts';
import { Resources } from './resources/resources.ts';
import type { ClusterRow, NodeRow, NodeSettings, Store, TokenRow } from './store.ts';

/** Site of a node that names none, with a token that names none. */
const DEFAULT_SITE = 'default';

const NODE_ID_BYTES = 6;
/** Grows when roots can be rotated. */
const TRUST_VERSION = 1;

export interface TowerParts {
  readonly store: Store;
  /** What it shows and signs with. */
  readonly own: OwnCertificates;
  readonly row: ClusterRow;
  readonly clock: Clock;
  readonly random: Random;
}

export interface TokenRequest {
  readonly uses: number;
  readonly life_ms: number;
  readonly site?: string;
}

/** A token as it may be shown. */
export type TokenView = Omit<TokenRow, 'hash'>;

export interface TowerStatus {
  readonly cluster: string;
  readonly fingerprint: string;
  readonly version: number;
  readonly endpoints: readonly Endpoint[];
  readonly nodes: number;
  readonly tokens: number;
  readonly certificate_not_after_ms: number;
}

/** Whose snapshots may differ now: those of a site's nodes (null: of none), and of further nodes, wherever they are; or everybody's. */
export interface Touched {
  readonly everybody?: boolean;
  readonly site: string | null;
  readonly nodes: readonly string[];
}

export type ChangeListener = (touched: Touched) => void;

export class Tower {
  readonly cluster: string;
  /** SHA-256 of the root. */
  readonly rootFingerprint: Uint8Array;
  readonly own: OwnCertificates;
  readonly app: AppNetworks;
  /** Of nodes' leaves. */
  readonly renewals: LeafRenewals;
  readonly resources: Resources;
  #row: ClusterRow;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #recorded: RecordedFingerprints;
  readonly #trust: Snapshot['trust'];
  readonly #listeners = new Set<ChangeListener>();

  private constructor(parts: TowerParts) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#row = parts.row;
    this.cluster = parts.row.cluster;
    this.own = parts.own;
    this.rootFingerprint = fingerprint(parts.own.root);
    const { version, roots } = trustBundleToJson({ version: TRUST_VERSION, roots: [parts.own.root] });
    this.#trust = { version, roots: [...roots] };
    this.app = new AppNetworks({ store: parts.store, clock: parts.clock, tell: (nodes) => this.#tell({ site: null, nodes }) });
    this.renewals = new LeafRenewals({
      cluster: this.cluster,
      store: parts.store,
      authority: parts.own,
      clock: parts.clock,
      random: parts.random,
      isNext: (identity, leaf) => this.#recorded.isNext(identity, leaf),
      changed: (row) => this.#changed(row),
    });
    this.resources = new Resources({ stores: parts.store.resources, clock: parts.clock, tell: (told) => this.#tell({ site: null, ...told }) });
    this.#recorded = new RecordedFingerprints(this.cluster, fromHex(parts.row.towerFingerprint) ?? new Uint8Array());
  }

  /** Owns what it is given from now on, also when it throws. */
  static async start(parts: TowerParts): Promise<Tower> {
    const tower = new Tower(parts);
    try {
      for (const row of await parts.store.nodes()) tower.#recorded.set(row);
      return tower;
    } catch (error) {
      await tower.close();
      throw error;
    }
  }

  /** DER, for the trust bundle of `verifyPeer`. */
  get roots(): readonly Uint8Array[] {
    return [this.own.root];
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
    this.#tell({ everybody: true, site: null, nodes: [] });
  }

  /** For `verifyPeer`; always the state of now. */
  get recordedFingerprint(): RecordedFingerprints['of'] {
    return this.#recorded.of;
  }

  /** Told after a change is on disk and in the directory. The returned function ends it. */
  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The text is nowhere but in the answer. @throws limit_reached, argument_invalid */
  async createToken({ uses, life_ms, site }: TokenRequest): Promise<{ text: string; token: TokenView }> {
    if (!(life_ms > 0 && life_ms <= limits.token_life_ms_max))
      throw new SelvedgeError('argument_invalid', { name: 'expires', why: 'between now and a year from now' });
    if (!(Number.isInteger(uses) && uses >= 1 && uses <= limits.token_uses_max))
      throw new SelvedgeError('argument_invalid', { name: 'uses', why: `1 to ${limits.token_uses_max}` });
    if (site !== undefined) checkLabel('site', site);
    if (site === TOWER_SITE) throw new SelvedgeError('argument_invalid', { name: 'site', why: `'${TOWER_SITE}' is the tower's own` });
    const { id, hash, text } = makeToken(this.cluster, this.#random);
    const now = this.#clock.wall();
    const row = await this.#store.createToken({ id, hash, usesMax: uses, site: site ?? null, expires_ms: Math.floor(now + life_ms) }, now);
    return { text, token: tokenView(row) };
  }

  async tokens(): Promise<readonly TokenView[]> {
    return (await this.#store.tokens()).map(tokenView);
  }

  async tokenPage(request: PageRequest): Promise<readonly TokenView[]> {
    return (await this.#store.tokenPage(request)).map(tokenView);
  }

  /** @throws not_found */
  async revokeToken(id: string): Promise<TokenView> {
    return tokenView(await this.#store.revokeToken(id, this.#clock.wall()));
  }

  /**
   * Call-home, the tower's end: a certificate for the request's key, and one use of the token, both or neither. The leaf is made before the
   * use is taken, so that no kill can leave a use without a node; a leaf whose use was refused never leaves this function.
   * @throws token_…, wrong_cluster, csr_invalid, name_taken, request_invalid, limit_reached
   */
  async enroll(request: EnrollRequest): Promise<EnrollAnswer> {
    const token = readToken(request.token);
    if (token.cluster !== this.cluster) throw new SelvedgeError('wrong_cluster', { found: token.cluster, expected: this.cluster });
    if (request.site === TOWER_SITE) throw new SelvedgeError('request_invalid', { path: '/site', why: `'${TOWER_SITE}' is the tower's own` });
    checkEndpointsSize(request.listen);
    const csr = bytesOf(request.csr, limits.csr_bytes_max, '/csr');
    const csrHash = sha256(csr);
    const admission = await this.#store.admit(token, csrHash, request.site ?? null, this.#clock.wall());
    const node = admission.answered ?? (await this.#make(token, request, csr, admission.site ?? DEFAULT_SITE));
    return await this.#answer(node);
  }

  async #make(token: { id: string; hash: string }, { name, listen }: EnrollRequest, csr: Uint8Array, site: string): Promise<NodeRow> {
    const { publicKey } = parseCsr(csr);
    const id = toHex(this.#random.bytes(NODE_ID_BYTES));
    const now_ms = this.#clock.wall();
    const identity = { cluster: this.cluster, site, node: id };
    const [leaf] = await issueChain(this.own, { identity, publicKey, now_ms, random: this.#random });
    if (leaf === undefined) throw new Error('an issued chain begins with its leaf');
    const made = {
      id,
      name,
      site,
      fingerprint: toHex(fingerprint(leaf)),
      leaf: toBase64(leaf),
      csrHash: sha256(csr),
      spkiHash: sha256(publicKey),
      endpoints: listen,
    };
    return await this.#changed(await this.#store.enroll(token, made, now_ms));
  }

  async #answer(node: NodeRow): Promise<EnrollAnswer> {
    if (node.leaf === null) throw new SelvedgeError('token_invalid', { why: `the node ${node.name} that it made was revoked` });
    const { envelope } = await this.snapshot(node.id);
    const chain = [node.leaf, toBase64(this.own.intermediate)];
    return { node: node.id, name: node.name, site: node.site, cluster: this.cluster, chain, trust: this.#trust, snapshot: envelope };
  }

  /** A node's site, and the version of what it may know. @throws not_found */
  async scopeOf(id: string): Promise<{ site: string; version: number }> {
    const node = await this.#mustFind(id);
    return { site: node.site, version: await this.#store.scopeVersion(node) };
  }

  /** What this node may know now, signed. @throws not_found, certificate_revoked */
  async snapshot(id: string): Promise<{ version: number; envelope: Envelope }> {
    const node = await this.#mustFind(id);
    checkLive(node);
    // The version first: what changes in between is then told again, never missed.
    const version = await this.#store.scopeVersion(node);
    const siteNodes = await this.#store.nodes({ site: node.site });
    const view = await this.#store.app.view(id);
    const tower = { fingerprint: this.#row.towerFingerprint, endpoints: this.#row.endpoints };
    const issued_ms = Math.floor(this.#clock.wall());
    const app = view === null ? null : appPart(id, view);
    const snapshot = buildSnapshot({ version, issued_ms, cluster: this.cluster, node, tower, siteNodes, trust: this.#trust, app });
    const { payload, signature, chain } = await signDocument('snapshot', await packSnapshot(snapshot), this.own);
    return { version, envelope: { payload, signature, chain: [...chain] } };
  }

  async nodes(): Promise<readonly NodeRow[]> {
    return await this.#store.nodes();
  }

  nodePage(request: PageRequest & { readonly site?: string }): Promise<readonly NodeRow[]> {
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
  async revokeNode(id: string): Promise<NodeRow> {
    return await this.#changed(await this.#store.setLeaf(id, null, this.#clock.wall()));
  }

  /** Records another leaf (DER) in the place of the node's. @throws not_found */
  async recordLeaf(id: string, leaf: Uint8Array): Promise<NodeRow> {
    return await this.#changed(await this.#store.setLeaf(id, { fingerprint: toHex(fingerprint(leaf)), leaf: toBase64(leaf) }, this.#clock.wall()));
  }

  /** @throws not_found */
  async setDisabled(id: string, disabled: boolean): Promise<NodeRow> {
    return await this.setNode(id, { disabled }, null, 'admin');
  }

  async status(): Promise<TowerStatus> {
    const [version, { nodes, tokens }] = await Promise.all([this.#store.version(), this.#store.counts()]);
    const certificate_not_after_ms = new X509Certificate(this.credentials.chain[0] ?? '').validToDate.getTime();
    const root = `sha256:${toHex(this.rootFingerprint)}`;
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
    await this.own.signer.close();
    await this.#store.close();
  }

  /** Puts a committed row into the directory, then tells its site and whoever shares an app network with the node. */
  async #changed(row: NodeRow): Promise<NodeRow> {
    this.#recorded.set(row);
    this.#tell({ site: row.site, nodes: await this.#store.app.sharers(row.id) });
    return row;
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

function tokenView({ hash: _hash, ...shown }: TokenRow): TokenView {
  return shown;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
