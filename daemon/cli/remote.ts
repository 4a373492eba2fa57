/** A tower elsewhere, asked as an operator: a TLS connection that shows the operator's certificate, to a tower known by the pinned root. Loaded only by who asks so. */
import type { TLSSocket } from 'node:tls';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { connectPinned, type TowerAddress } from '../../src/enroll/https.ts';
import { readOperatorIdentity } from '../../src/enroll/operator-identity.ts';
import { bytesOf } from '../../src/enroll/wire.ts';
import { certificateFacts, warningText } from '../../src/identity/expiry.ts';
import { parseFingerprint } from '../../src/identity/fingerprint.ts';

/** To standard error, so that what a command prints stays what it is. */
async function warnOfEnd(path: string, leaf: Uint8Array | undefined): Promise<void> {
  const facts = certificateFacts({ name: 'the certificate of this operator', der: leaf ?? new Uint8Array(), renews_ms: null }, Date.now());
  if (facts.warning_days !== null && facts.warning_days > 0)
    process.stderr.write(`warning: ${warningText(facts)}; renew it: selvedge operator renew --identity ${path}\n`);
}

const CONNECT_MS_MAX = 15_000;

/** `tower`: in the place of those that the file names. @throws identity_file_invalid, network_unreachable, fingerprint_mismatch, certificate_invalid */
export async function connectAs(path: string, tower: TowerAddress | undefined): Promise<TLSSocket> {
  const identity = await readOperatorIdentity(path);
  if (identity === null) throw new SelvedgeError('not_found', { what: 'identity file', name: path });
  if (identity.chain.length === 0)
    throw new SelvedgeError('identity_file_invalid', { path, why: 'its bundle was not redeemed yet: run `operator redeem` again' });
  const bytes = (text: string) => bytesOf(text, limits.certificate_bytes_max, '/');
  const credentials = { chain: identity.chain.map(bytes), key: bytes(identity.key) };
  await warnOfEnd(path, credentials.chain[0]);
  const { cluster } = identity;
  const fingerprint = parseFingerprint(identity.fingerprint);
  const also = (identity.roots ?? []).map(parseFingerprint);
  let unreachable: unknown = new SelvedgeError('network_unreachable', { peer: 'the tower', why: `${path} names no address; give one with --tower` });
  for (const { host, port } of tower === undefined ? identity.towers.map((one) => ({ host: one.host, port: one.tcp })) : [tower]) {
    try {
      return await connectPinned({ host, port, cluster, fingerprint, also }, { credentials, now_ms: Date.now, signal: AbortSignal.timeout(CONNECT_MS_MAX) });
    } catch (error) {
      if (!(error instanceof SelvedgeError) || error.code !== 'network_unreachable') throw error;
      unreachable = error;
    }
  }
  throw unreachable;
}
