/**
 * Pre-flight, the installer's end (spec 2.3), and finishing it: a file that names the tower and holds a call-home certificate for one node to be. It is written
 * before the tower hears of it, so that a lost answer is mended by asking the same again; the daemon enrolls by it with a key that it makes itself, and the
 * file goes when the node has its identity.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { mkdir, unlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { toBase64 } from '../identity/base64.ts';
import { verifyCallHome } from '../identity/call-home-leaf.ts';
import { createCsr } from '../identity/csr.ts';
import { readFileBounded, writeFileAtomic } from '../identity/files.ts';
import { fingerprint, formatFingerprint, parseFingerprint } from '../identity/fingerprint.ts';
import { generateKeyPair } from '../identity/keys.ts';
import { mayBeUnverified } from '../identity/server-rule.ts';
import { trustBundleFromJson } from '../identity/trust-bundle.ts';
import type { Timers } from '../transport/system.ts';
import type { CallHomeRequest } from './call-home.ts';
import { post, type TlsTrust, type TowerAddress } from './https.ts';
import { x509Maker } from './proofs/x509.ts';
import { closed, Label, NodeId, Port } from './shapes.ts';
import { readToken } from './token.ts';
import { base64, bytesOf, checker, checkPreflightAnswer, type PreflightAnswer, readJson } from './wire.ts';

/** Where the daemon looks for it, in its state directory. */
export const CALL_HOME_FILE = 'call-home.json';

const Prepared = closed({
  node: NodeId,
  name: Label,
  site: Label,
  host: Type.String({ maxLength: 3 * 64 }),
  pool: Type.String({ maxLength: 2 * 64 }),
  chain: Type.Array(base64(2 * limits.certificate_bytes_max), { minItems: 1, maxItems: limits.certificate_chain_certs_max }),
  expires_ms: Type.Integer({ minimum: 0 }),
});

const FileSchema = closed({
  format: Type.Literal(1),
  cluster: Label,
  tower: closed({ host: Type.String({ maxLength: limits.endpoint_host_chars_max }), port: Port }),
  fingerprint: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
  /** How the end of the connection is known: as `formatTls` says it. */
  tls: Type.String({ pattern: '^(root|system|unverified|sha256:[0-9a-f]{64}|roots:/.+)$', maxLength: 4_096 }),
  /** Of the call-home certificate: PKCS#8. */
  key: base64(1_024),
  csr: base64(2 * limits.csr_bytes_max),
  /** Null until the tower has answered. */
  prepared: Type.Union([Prepared, Type.Null()]),
});
type CallHomeFile = Static<typeof FileSchema>;
const checkFile = checker(FileSchema);

export interface PreflightCall {
  /** The file to write. */
  readonly file: string;
  readonly tower: TowerAddress;
  readonly fingerprint: Uint8Array;
  readonly tls?: TlsTrust;
  readonly token: string;
  readonly name?: string;
  readonly site?: string;
  readonly timers: Timers;
}

/** @throws token_…, proof_…, source_denied, network_unreachable, fingerprint_mismatch, certificate_invalid, name_taken, file_exists, store_damaged, disk_full */
export async function callPreflight(call: PreflightCall): Promise<Static<typeof Prepared>> {
  const { file, tower, token, name, site, timers, tls = { kind: 'root' } } = call;
  const { cluster } = readToken(token);
  const begun = (await readCallHomeFile(file)) ?? begin(call, cluster);
  if (begun.prepared !== null) throw new SelvedgeError('file_exists', { path: file });
  await write(file, begun);
  const body = { token: token.trim(), csr: begun.csr, ...(name !== undefined && { name }), ...(site !== undefined && { site }) };
  const answer = await post(
    { ...tower, cluster, fingerprint: call.fingerprint, tls },
    {
      path: '/v1/preflight',
      body: Buffer.from(JSON.stringify(body)),
      answer_bytes_max: limits.call_home_file_bytes_max,
      now_ms: () => timers.clock.wall(),
      signal: AbortSignal.timeout(limits.api_request_ms_max),
    },
  );
  const prepared = believe(call, cluster, readJson(answer.body, limits.call_home_file_bytes_max, checkPreflightAnswer), timers.clock.wall());
  await write(file, { ...begun, prepared });
  return prepared;
}

/** What of a call-home the file settles; what else it needs is the caller's. @throws not_found, store_damaged, proof_expired */
export async function callHomeBy(
  file: string,
  now_ms: number,
): Promise<Pick<CallHomeRequest, 'tower' | 'fingerprint' | 'tls' | 'cluster' | 'name' | 'site' | 'proof'>> {
  const found = await readCallHomeFile(file);
  if (found === null) throw new SelvedgeError('not_found', { what: 'call-home file', name: file });
  const { cluster, tower, prepared } = found;
  if (prepared === null) throw new SelvedgeError('store_damaged', { path: file, why: 'the tower has not answered yet: run `selvedge preflight` once more' });
  if (prepared.expires_ms <= now_ms) throw new SelvedgeError('proof_expired', { kind: 'x509', expires: new Date(prepared.expires_ms).toISOString() });
  const chain = prepared.chain.map((text, index) => bytesOf(text, limits.certificate_bytes_max, `/prepared/chain/${index}`));
  const key = readKey(file, found.key);
  return {
    cluster,
    tower,
    fingerprint: parseFingerprint(found.fingerprint),
    tls: parseTls(found.tls),
    name: prepared.name,
    site: prepared.site,
    proof: x509Maker({ chain, key }, { done: () => unlink(file) }),
  };
}

/** `root`, `system`, `roots:FILE`, or `sha256:HEX` of the certificate of whatever ends TLS. @throws argument_invalid */
export function parseTls(text: string): TlsTrust {
  if (text === 'root' || text === 'system' || text === 'unverified') return { kind: text };
  const [, file] = /^roots:(.+)$/.exec(text) ?? [];
  return file === undefined ? { kind: 'certificate', fingerprint: parseFingerprint(text) } : { kind: 'roots', file: resolve(file) };
}

function formatTls(tls: TlsTrust): string {
  if (tls.kind === 'certificate') return formatFingerprint(tls.fingerprint);
  return tls.kind === 'roots' ? `roots:${tls.file}` : tls.kind;
}

/** As the command line says it; under the development flag a name without a dot is not verified (spec 4.4). @throws argument_invalid */
export function trustOf({ host }: TowerAddress, text: string, insecureDevelopment = false): TlsTrust {
  if (insecureDevelopment && mayBeUnverified(host)) return { kind: 'unverified' };
  if (text === 'unverified') throw new SelvedgeError('argument_invalid', { name: 'tls', why: 'only --insecure-development leaves a server unverified' });
  return parseTls(text);
}

function begin({ tower, fingerprint: root, tls = { kind: 'root' } }: PreflightCall, cluster: string): CallHomeFile {
  const { privateKey } = generateKeyPair();
  const { host, port } = tower;
  const made = { key: toBase64(privateKey), csr: toBase64(createCsr(privateKey)), prepared: null };
  return { format: 1, cluster, tower: { host, port }, fingerprint: formatFingerprint(root), tls: formatTls(tls), ...made };
}

/** @throws store_damaged */
function readKey(path: string, text: string): KeyObject {
  try {
    return createPrivateKey({ key: Buffer.from(text, 'base64'), format: 'der', type: 'pkcs8' });
  } catch (error) {
    throw new SelvedgeError('store_damaged', { path, why: 'its key cannot be read' }, { cause: error });
  }
}

/** The connection may have ended at a proxy: what the answer says holds only if it leads to the pinned root. */
function believe({ fingerprint: root }: PreflightCall, cluster: string, answer: PreflightAnswer, now_ms: number): Static<typeof Prepared> {
  if (answer.cluster !== cluster) throw new SelvedgeError('wrong_cluster', { found: answer.cluster, expected: cluster });
  const pinned = trustBundleFromJson(answer.trust).roots.find((trusted) => equalBytes(fingerprint(trusted), root));
  if (pinned === undefined) throw new SelvedgeError('document_invalid', { what: 'trust bundle', why: 'it lacks the pinned root' });
  const chain = answer.chain.map((text, index) => bytesOf(text, limits.certificate_bytes_max, `/chain/${index}`));
  verifyCallHome({ chain, roots: [pinned], cluster, now_ms });
  const { node, name, site, host, pool, expires_ms } = answer;
  return { node, name, site, host, pool, chain: [...answer.chain], expires_ms };
}

async function readCallHomeFile(path: string): Promise<CallHomeFile | null> {
  const bytes = await readFileBounded(path, limits.call_home_file_bytes_max);
  if (bytes === null) return null;
  try {
    return readJson(bytes, limits.call_home_file_bytes_max, checkFile);
  } catch (error) {
    throw new SelvedgeError('store_damaged', { path, why: asSelvedgeError(error, 'store_damaged').message }, { cause: error });
  }
}

async function write(path: string, content: CallHomeFile): Promise<void> {
  // As a rule it is the state directory of a daemon that has not run yet.
  await mkdir(dirname(path), { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw asSelvedgeError(error, 'permission_denied', { what: `making directory ${dirname(path)}` });
  });
  await writeFileAtomic(path, Buffer.from(`${JSON.stringify(content, null, 2)}\n`), { mode: 0o600 });
}
