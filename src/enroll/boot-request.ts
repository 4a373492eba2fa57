/**
 * What brings a node back after a restart comes with its first certificate (spec 2.1): a boot identity, whose key the node makes beside its own, and its site's
 * tokens, in boxes for the node's own key. So whatever ends TLS on the way reads none of it; and since the request is signed by the node's key and the
 * answer by the cluster's, it can neither ask for an identity of its own nor lay another token under the node.
 */
import { createHash, createPublicKey, sign } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { verifyAside } from '../identity/aside.ts';
import { fromBase64, toBase64 } from '../identity/base64.ts';
import { fingerprint } from '../identity/fingerprint.ts';
import { importPrivateKey } from '../identity/keys.ts';
import { openBox } from '../identity/sealed-box.ts';
import { openDocument } from '../identity/signed-document.ts';
import type { SiteToken } from '../identity/unseal/site.ts';
import { verifyBoot } from '../identity/verify-boot.ts';
import type { Credentials } from '../transport/session.ts';
import type { PendingRequest } from './pending.ts';
import { boxPurposes, checkFirstSite } from './unseal-wire.ts';
import { type BootRequest, bytesOf, type Envelope, readJson } from './wire.ts';

/** What a node has from its first moment. */
export interface FirstSite {
  /** Newest first. */
  readonly tokens: readonly SiteToken[];
  readonly boot: Credentials;
}

/** `isSealed`: the node's store will be sealed with the site's token. */
export function bootRequest(own: PendingRequest, boot: PendingRequest, isSealed: boolean): BootRequest {
  const { key } = importPrivateKey(own.key);
  const signature = sign('sha256', signedBytes(own.csr, boot.csr, isSealed), { key, dsaEncoding: 'der' });
  return { csr: toBase64(boot.csr), sealed: isSealed, signature: toBase64(signature) };
}

/** `csr` and its public key: of the node's own request. @throws csr_invalid, request_invalid */
export async function checkBootRequest({ csr: text, sealed, signature: signed }: BootRequest, csr: Uint8Array, publicKey: Uint8Array): Promise<Uint8Array> {
  const boot = bytesOf(text, limits.csr_bytes_max, '/body/boot/csr');
  const signature = fromBase64(signed, SIGNATURE_BYTES_MAX);
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  if (signature === null || !(await verifyAside(signedBytes(csr, boot, sealed), key, signature)))
    throw new SelvedgeError('csr_invalid', { why: 'the request for a boot identity is not signed by the key of the node' });
  return boot;
}

export interface FirstSiteReader {
  readonly root: Uint8Array;
  readonly cluster: string;
  readonly site: string;
  readonly node: string;
  readonly now_ms: number;
}

/** Judged as if a stranger had sent it. @throws document_invalid, certificate_invalid, wrong_cluster, wrong_node, sealed_box_invalid, request_invalid */
export async function openFirstSite(envelope: Envelope, own: PendingRequest, boot: PendingRequest, reader: FirstSiteReader): Promise<FirstSite> {
  const { root, site, node, now_ms } = reader;
  const payload = openDocument('site', envelope, { roots: [root], now_ms, payload_bytes_max: limits.api_body_bytes_max });
  const said = readJson(payload, limits.api_body_bytes_max, checkFirstSite);
  if (said.node !== node) throw new SelvedgeError('wrong_node', { found: said.node, expected: node });
  const chain = said.boot.map((text, index) => bytesOf(text, limits.certificate_bytes_max, `/boot/${index}`));
  await checkBootChain(chain, boot, reader);
  const tokens = said.tokens.map(({ generation, box }) => ({
    generation,
    token: openBox(own.key, boxPurposes.siteToken(site, generation), bytesOf(box, limits.api_body_bytes_max, '/tokens')),
  }));
  return { tokens: tokens.sort((left, right) => right.generation - left.generation), boot: { key: boot.key, chain } };
}

async function checkBootChain(chain: readonly Uint8Array[], boot: PendingRequest, { root, cluster, site, node, now_ms }: FirstSiteReader): Promise<void> {
  const leaf = chain[0] ?? new Uint8Array();
  const { identity, publicKey } = await verifyBoot({ chain, roots: [root], cluster, now_ms, recordedBoot: () => [fingerprint(leaf)] });
  if (identity.node !== node || identity.site !== site) throw new SelvedgeError('wrong_node', { found: identity.node, expected: node });
  if (!equalBytes(publicKey, importPrivateKey(boot.key).publicKey))
    throw new SelvedgeError('certificate_invalid', { peer: 'the boot identity of this node', why: 'the tower issued it for another key' });
}

/** ECDSA of P-256, DER. */
const SIGNATURE_BYTES_MAX = 72;

function signedBytes(csr: Uint8Array, boot: Uint8Array, isSealed: boolean): Uint8Array {
  const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
  return Buffer.concat([Buffer.from(`selvedge boot request 1\n${isSealed ? 'sealed' : 'own'}\n`), hash(csr), hash(boot)]);
}
