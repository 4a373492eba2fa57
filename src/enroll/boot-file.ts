/**
 * `STATE/boot.json`: all that a node can show and knows before its sealed store is open: its boot identity, the roots, and where tower and site were last. It is in
 * clear, for there is nothing yet to seal it with; what it is good for is asking for the store's key, until the node is revoked.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { SelvedgeError } from '../base/errors.ts';
import { toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { isIssuedBy } from '../identity/authority.ts';
import { toBase64 } from '../identity/base64.ts';
import { createCsr } from '../identity/csr.ts';
import { readFileBounded, writeFileAtomic } from '../identity/files.ts';
import { fingerprint } from '../identity/fingerprint.ts';
import { generateKeyPair } from '../identity/keys.ts';
import type { Credentials } from '../transport/session.ts';
import { closed, Label, NodeId } from './shapes.ts';
import { bytesOf, checker, EndpointsSchema, type Endpoint, readJson, type Snapshot } from './wire.ts';

const Base64 = Type.String({ maxLength: Math.ceil(limits.certificate_bytes_max / 3) * 4, pattern: '^[A-Za-z0-9+/]+={0,2}$' });

const BootFileSchema = closed({
  format: Type.Literal(1),
  cluster: Label,
  site: Label,
  node: NodeId,
  roots: Type.Array(Base64, { minItems: 1, maxItems: limits.trust_roots_max }),
  tower: EndpointsSchema,
  /** Nodes of the site that listen. */
  peers: Type.Array(closed({ id: NodeId, endpoints: EndpointsSchema }), { maxItems: limits.boot_peers_max }),
  /** Null until the first was issued. */
  identity: Type.Union([closed({ key: Base64, chain: Type.Array(Base64, { minItems: 2, maxItems: limits.certificate_chain_certs_max }) }), Type.Null()]),
  /** A key whose certificate has been asked for, so that a lost answer is answered again. */
  next: Type.Union([closed({ key: Base64, csr: Base64 }), Type.Null()]),
});
type BootContent = Static<typeof BootFileSchema>;
const checkBootFile = checker(BootFileSchema);

export const BOOT_FILE = 'boot.json';
/** Another boot leaf is asked for when a part of the old one's life is over, so that a host may be away for most of it. */
const RENEW_AT_PART = 1 / 6;

export class BootFile {
  readonly path: string;
  #content: BootContent;
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(path: string, content: BootContent) {
    this.path = path;
    this.#content = content;
  }

  /** Null if there is none. @throws store_damaged */
  static async read(state: string): Promise<BootFile | null> {
    const path = join(state, BOOT_FILE);
    const bytes = await readFileBounded(path, limits.boot_file_bytes_max);
    if (bytes === null) return null;
    try {
      return new BootFile(path, checkParts(readJson(bytes, limits.boot_file_bytes_max, checkBootFile)));
    } catch (error) {
      throw new SelvedgeError('store_damaged', { path, why: error instanceof Error ? error.message : String(error) }, { cause: error });
    }
  }

  /** The one that is there, else one without an identity, which is on disk with the first change. A damaged one is made anew: nothing in it is lost for good. */
  static async open(state: string, known: Pick<BootContent, 'cluster' | 'site' | 'node'>): Promise<BootFile> {
    const found = await BootFile.read(state).catch(() => null);
    if (found !== null && found.#content.node === known.node && found.#content.cluster === known.cluster) return found;
    const { cluster, site, node } = known;
    return new BootFile(join(state, BOOT_FILE), { format: 1, cluster, site, node, roots: [], tower: [], peers: [], identity: null, next: null });
  }

  get who(): { readonly cluster: string; readonly site: string; readonly node: string } {
    const { cluster, site, node } = this.#content;
    return { cluster, site, node };
  }

  get roots(): readonly Uint8Array[] {
    return this.#content.roots.map((root) => bytesOf(root, limits.certificate_bytes_max, '/roots'));
  }

  get tower(): readonly Endpoint[] {
    return this.#content.tower;
  }

  get peers(): BootContent['peers'] {
    return this.#content.peers;
  }

  get credentials(): Credentials | null {
    const { identity } = this.#content;
    if (identity === null) return null;
    return {
      key: bytesOf(identity.key, KEY_BYTES_MAX, '/identity/key'),
      chain: identity.chain.map((one) => bytesOf(one, limits.certificate_bytes_max, '/identity/chain')),
    };
  }

  /** Of the leaf that would be shown now, in hex. */
  get fingerprint(): string | null {
    const leaf = this.credentials?.chain[0];
    return leaf === undefined ? null : toHex(fingerprint(leaf));
  }

  /** Keeps addresses and roots current: what a start without the tower will stand on. */
  follow(snapshot: Snapshot, joinedAt: Endpoint): Promise<void> {
    return this.#change(knownFrom(snapshot, joinedAt));
  }

  /** The first identity, as it came with the node's certificate, and whom to ask with it, in one step. @throws disk_full */
  join({ key, chain }: Credentials, snapshot: Snapshot, joinedAt: Endpoint): Promise<void> {
    return this.#change({ ...knownFrom(snapshot, joinedAt), identity: { key: toBase64(key), chain: chain.map(toBase64) }, next: null });
  }

  /** The request for another boot leaf, where one is due; the same until it is answered. `root`: under which it is to be, DER; null: it is all the same. */
  async request(now_ms: number, root: Uint8Array | null = null): Promise<Uint8Array | null> {
    if (!this.#isDue(now_ms) && this.isUnder(root)) return null;
    if (this.#content.next === null) {
      const { privateKey } = generateKeyPair();
      await this.#change({ next: { key: toBase64(privateKey), csr: toBase64(createCsr(privateKey, `boot ${this.#content.node}`)) } });
    }
    const { next } = this.#content;
    return next === null ? null : bytesOf(next.csr, limits.csr_bytes_max, '/next/csr');
  }

  /** The answer to `request`; an answer to nothing changes nothing, and is false. */
  async take(chain: readonly Uint8Array[]): Promise<boolean> {
    const { next } = this.#content;
    const [leaf] = chain;
    if (next === null || leaf === undefined) return false;
    const certificate = new X509Certificate(leaf);
    if (!certificate.checkPrivateKey(createPrivateKey({ key: Buffer.from(next.key, 'base64'), format: 'der', type: 'pkcs8' }))) return false;
    await this.#change({ identity: { key: next.key, chain: chain.map(toBase64) }, next: null });
    return true;
  }

  /** Whether the boot leaf leads to this root; to any, where it is null. */
  isUnder(root: Uint8Array | null): boolean {
    const intermediate = this.credentials?.chain[1];
    return root === null || (intermediate !== undefined && isIssuedBy(intermediate, root));
  }

  #isDue(now_ms: number): boolean {
    const leaf = this.credentials?.chain[0];
    if (leaf === undefined) return true;
    const { validFromDate, validToDate } = new X509Certificate(leaf);
    return now_ms >= validFromDate.getTime() + (validToDate.getTime() - validFromDate.getTime()) * RENEW_AT_PART;
  }

  #change(changes: Partial<BootContent>): Promise<void> {
    const done = this.#writing.then(async () => {
      const next = { ...this.#content, ...changes };
      if (JSON.stringify(next) === JSON.stringify(this.#content)) return;
      // Without roots it could not be read again, and helps nobody: it waits for the snapshot in memory.
      if (next.roots.length > 0) await writeFileAtomic(this.path, Buffer.from(`${JSON.stringify(next, null, 2)}\n`), { mode: 0o600 });
      this.#content = next;
    });
    this.#writing = done.catch(() => undefined);
    return done;
  }
}

const KEY_BYTES_MAX = 1_024;

/** Throws (a plain error) where what it holds are no certificates and keys, or do not belong together: so that nothing later does. */
function checkParts(content: BootContent): BootContent {
  const { roots, identity, next } = content;
  const keyOf = (text: string) => createPrivateKey({ key: Buffer.from(text, 'base64'), format: 'der', type: 'pkcs8' });
  const parse = (text: string) => new X509Certificate(bytesOf(text, limits.certificate_bytes_max, '/'));
  for (const root of roots) parse(root);
  if (next !== null) keyOf(next.key);
  const [leaf] = identity?.chain.map(parse) ?? [];
  if (identity !== null && leaf?.checkPrivateKey(keyOf(identity.key)) !== true) throw new Error('its key is not that of its certificate');
  return content;
}

/** What of a snapshot helps a node that has nothing else. */
function knownFrom(snapshot: Snapshot, joinedAt: Endpoint): Pick<BootContent, 'roots' | 'tower' | 'peers'> {
  const peers = snapshot.peers.filter(({ endpoints }) => endpoints.length > 0).slice(0, limits.boot_peers_max);
  return {
    roots: snapshot.trust.roots,
    tower: snapshot.tower.endpoints.length > 0 ? snapshot.tower.endpoints : [joinedAt],
    peers: peers.map(({ id, endpoints }) => ({ id, endpoints })),
  };
}
