/**
 * How a tower's state comes to be and is opened: `STATE/tower.json` (what it is), `sealed.bin` (its keys), `tower.db` (its rows), `inbox/`.
 * A cluster is made beside its place and moved there in one rename, so that a kill leaves either nothing or all of it.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { checkLabel, fromHex, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Clock, Random } from '../base/seam.ts';
import type { Proof } from '../enroll/proof.ts';
import type { Endpoint } from '../enroll/wire.ts';
import { type Authority, createAuthority, openAuthority } from '../identity/authority.ts';
import { fromBase64 } from '../identity/base64.ts';
import { fingerprint, formatFingerprint } from '../identity/fingerprint.ts';
import { SealedStore } from '../identity/sealed-store.ts';
import type { UnsealKey } from '../identity/unseal.ts';
import { headObjection, openHead, readHeadFile } from './audit/head.ts';
import { OwnCertificates } from './renewing/own-certificates.ts';
import type { ClusterRow, Store } from './store/store.ts';
import { stateFiles } from './backup/state-files.ts';
import { openSqliteStore } from './store/sqlite.ts';
import { checkAppSubnet } from './app/subnet.ts';
import { readTowerFile, type TowerFile, writeTowerFile } from './tower-file.ts';
import { settleNext } from './trust/next-authority.ts';
import type { TrustRow } from './trust/phases.ts';
import { Tower } from './tower.ts';

export interface InitRequest {
  /** Directory; made, and may exist only if it is empty. */
  readonly state: string;
  readonly cluster: string;
  readonly unseal: UnsealKey;
  /** Where nodes are to find the tower. */
  readonly endpoints: readonly Endpoint[];
  /** Where the keys of root and intermediate are: `sealed` unless told (identity/signer-place.ts). */
  readonly rootSigner?: string;
  readonly intermediateSigner?: string;
  /** Where hosts of app networks get their addresses on the outer network; absent: `DEFAULT_VTEP_RANGE`. */
  readonly vtepRange?: string;
  readonly clock: Clock;
  readonly random: Random;
}

/** In the shared address space (RFC 6598), where neither sites nor applications have networks of their own. */
export const DEFAULT_VTEP_RANGE = '100.96.0.0/12';

export interface Made {
  readonly cluster: string;
  /** Of the root: `sha256:HEX`, to be pinned by who calls home. */
  readonly fingerprint: string;
}

export interface OpenRequest {
  readonly state: string;
  readonly unseal: UnsealKey;
  /** Absent: as they were. */
  readonly endpoints?: readonly Endpoint[];
  /** Kinds of proof beside the tower's own. */
  readonly proofs?: readonly Proof[];
  readonly clock: Clock;
  readonly random: Random;
}

/** Makes a cluster: authority, the tower's own leaf, rows. @throws file_exists, argument_invalid, disk_full, permission_denied */
export async function initTower(request: InitRequest): Promise<Made> {
  const state = resolve(request.state);
  checkLabel('cluster', request.cluster);
  checkAppSubnet('vtep-range', request.vtepRange ?? DEFAULT_VTEP_RANGE, 4);
  await checkEmpty(state);
  const making = await makeBeside(state);
  try {
    const made = await makeIn(making, request);
    await syncDirectory(making);
    await moveTo(making, state);
    return made;
  } catch (error) {
    await rm(making, { recursive: true, force: true });
    throw error;
  }
}

/** Opens what `initTower` made; the tower's own leaf is renewed when two thirds of its life are over. @throws not_found, store_damaged, store_locked, state_in_use */
export async function openTower({ state, unseal, endpoints, proofs = [], clock, random }: OpenRequest): Promise<Tower> {
  const file = await readTowerFile(state);
  const sealed = await SealedStore.open(join(state, stateFiles.sealed), unseal);
  const store = await openSqliteStore({ path: join(state, stateFiles.database) });
  let authority: Authority | null = null;
  let own: OwnCertificates | null = null;
  try {
    await store.verifyAudit();
    const row = await store.cluster();
    checkSame(state, 'cluster', row?.cluster ?? 'none', file.cluster);
    if (row === null) throw new SelvedgeError('store_damaged', { path: state, why: 'its database holds no cluster' });
    const trust = await store.trust.get();
    await settleRoot({ state, file, sealed, row, trust });
    authority = openAuthority(sealed);
    own = await OwnCertificates.open({ sealed, authority, cluster: row.cluster, clock, random });
    const now = { ...row, towerFingerprint: toHex(fingerprint(own.credentials.chain[0] ?? new Uint8Array())), endpoints: endpoints ?? row.endpoints };
    // Also what a kill between sealing a renewed leaf and recording it left behind.
    if (JSON.stringify(now) !== JSON.stringify(row)) await store.setCluster(now, clock.wall());
    const siteTokenKey = await ownSiteTokenKey(sealed);
    const headFile = join(state, stateFiles.head);
    const roots = [authority.root, ...(trust?.previous == null ? [] : [rootOf(trust.previous)])];
    await checkAuditHead({ store, headFile, roots, cluster: row.cluster, now_ms: clock.wall() });
    return await Tower.start({ store, own, row: now, trust, siteTokenKey, clock, random, state, proofs });
  } catch (error) {
    await (own ?? authority?.signer)?.close();
    await store.close();
    throw error;
  }
}

/** The rows say which root is the cluster's: what a kill amid a rotation left behind in the other parts is brought up to them. @throws store_damaged */
async function settleRoot(given: { state: string; file: TowerFile; sealed: SealedStore; row: ClusterRow; trust: TrustRow | null }): Promise<void> {
  const { state, file, sealed, row, trust } = given;
  const hexOf = (root: string | null | undefined) => (root == null ? null : toHex(fingerprint(rootOf(root))));
  const [, next] = trust?.roots ?? [];
  const isSettled = await settleNext(sealed, { root: row.rootFingerprint, next: hexOf(next) });
  if (!isSettled) throw notTogether(state, 'its keys are of another root than its rows');
  const known = formatFingerprint(fromHex(row.rootFingerprint) ?? new Uint8Array());
  if (file.fingerprint === known) return;
  const before = hexOf(trust?.previous);
  if (file.fingerprint !== `sha256:${before}`) throw notTogether(state, `root is ${known}, expected ${file.fingerprint}`);
  await writeTowerFile(state, { cluster: row.cluster, fingerprint: known });
}

function rootOf(text: string): Uint8Array {
  return fromBase64(text, limits.certificate_bytes_max) ?? new Uint8Array();
}

/** Made at the first start that knows of it. */
async function ownSiteTokenKey(sealed: SealedStore): Promise<Uint8Array> {
  const found = sealed.get(SITE_TOKEN_KEY);
  if (found !== null) return found;
  const made = new Uint8Array(randomBytes(SITE_TOKEN_KEY_BYTES));
  await sealed.set(SITE_TOKEN_KEY, made);
  return made;
}

const SITE_TOKEN_KEY = 'tower/site-token.key';
const SITE_TOKEN_KEY_BYTES = 32;

/** Between the name of the state and random letters: where a cluster is while it is being made. */
const MAKING = '.making-';

/** The end of the audit log may have been cut off, or all of it put back to an earlier day: the head that was signed last tells. @throws store_damaged */
async function checkAuditHead(given: { store: Store; headFile: string; roots: readonly Uint8Array[]; cluster: string; now_ms: number }): Promise<void> {
  const { store, headFile, roots, cluster, now_ms } = given;
  const envelope = await readHeadFile(headFile);
  if (envelope === null) return;
  const why = await headObjection(store, openHead(envelope, { roots, cluster, now_ms }));
  if (why !== null) throw new SelvedgeError('store_damaged', { path: store.path, why });
}

async function makeIn(directory: string, request: InitRequest): Promise<Made> {
  const { cluster, unseal, endpoints, vtepRange = DEFAULT_VTEP_RANGE, rootSigner, intermediateSigner, clock, random } = request;
  const now_ms = clock.wall();
  const sealed = await SealedStore.create(join(directory, stateFiles.sealed), unseal);
  const authority = await createAuthority({
    cluster,
    store: sealed,
    now_ms,
    random,
    ...(rootSigner !== undefined && { rootSigner }),
    ...(intermediateSigner !== undefined && { intermediateSigner }),
  });
  try {
    const { chain } = (await OwnCertificates.open({ sealed, authority, cluster, clock, random })).credentials;
    const [root, leaf] = [fingerprint(authority.root), fingerprint(chain[0] ?? new Uint8Array())];
    const store = await openSqliteStore({ path: join(directory, stateFiles.database) });
    try {
      await store.setCluster({ cluster, rootFingerprint: toHex(root), towerFingerprint: toHex(leaf), endpoints, created_ms: now_ms, vtepRange }, now_ms);
    } finally {
      await store.close();
    }
    await mkdir(join(directory, stateFiles.inbox), { mode: 0o700 });
    const made = { cluster, fingerprint: formatFingerprint(root) };
    await writeTowerFile(directory, made);
    return made;
  } finally {
    await authority.signer.close();
  }
}

/** @throws not_found where `initTower` has made nothing */
export async function checkMade(state: string): Promise<void> {
  await readTowerFile(state);
}

function checkSame(path: string, what: string, found: string, expected: string): void {
  if (found !== expected) throw notTogether(path, `${what} is ${found}, expected ${expected}`);
}

function notTogether(path: string, why: string): SelvedgeError {
  return new SelvedgeError('store_damaged', { path, why: `its parts do not belong together: ${why}` });
}

export async function checkEmpty(state: string): Promise<void> {
  try {
    if ((await readdir(state)).length > 0) throw new SelvedgeError('file_exists', { path: state });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error instanceof SelvedgeError ? error : new SelvedgeError('permission_denied', { what: `reading directory ${state}` }, { cause: error });
  }
}

export async function makeBeside(state: string): Promise<string> {
  try {
    await mkdir(dirname(state), { recursive: true, mode: 0o700 });
    await removeHalfMade(state);
    return await mkdtemp(`${state}${MAKING}`);
  } catch (error) {
    if (errnoOf(error) === 'ENOSPC') throw new SelvedgeError('disk_full', { path: dirname(state) }, { cause: error });
    throw asSelvedgeError(error, 'permission_denied', { what: `making a directory in ${dirname(state)}` });
  }
}

/** What inits that were killed left beside the place: keys of clusters that never were. */
async function removeHalfMade(state: string): Promise<void> {
  for (const name of await readdir(dirname(state))) {
    if (name.startsWith(`${basename(state)}${MAKING}`)) await rm(join(dirname(state), name), { recursive: true, force: true });
  }
}

export async function moveTo(making: string, state: string): Promise<void> {
  try {
    await rename(making, state);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOTEMPTY' || errno === 'EEXIST') throw new SelvedgeError('file_exists', { path: state }, { cause: error });
    if (errno === 'EBUSY' || errno === 'EXDEV')
      throw new SelvedgeError('argument_invalid', { name: 'state', why: `${state} is a mount point; give a directory below it` }, { cause: error });
    throw error;
  }
  await syncDirectory(dirname(state));
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
