/** What an attacker might hold: credentials that are not good enough, each in one respect. Made fresh for one run of the lab. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { NodeState } from '../../enroll/state.ts';
import { createAuthority, issueChain, openAuthority } from '../../identity/authority.ts';
import { LEAF_DAYS } from '../../identity/ca.ts';
import { generateKeyPair } from '../../identity/keys.ts';
import { SealedStore } from '../../identity/sealed-store.ts';
import { loadUnsealKey } from '../../identity/unseal.ts';
import type { Credentials } from '../../transport/session.ts';
import { systemRandom } from '../../transport/system.ts';
import type { Fleet } from '../fleet.ts';

const DAY_MS = 86_400_000;

export interface Material {
  /** A node whose certificate is good and recorded. */
  readonly honest: Credentials;
  readonly honestNode: string;
  /** The node that others would like to be. */
  readonly victimNode: string;
  readonly cluster: string;
  readonly otherCluster: Credentials;
  /** Of a root that calls itself the cluster's. */
  readonly forgedRoot: Credentials;
  readonly expired: Credentials;
  /** The victim's certificate, and a key that is not its key. */
  readonly stolen: Credentials;
}

/** Reads what only the operator of both ends can read: the nodes' states and the tower's authority. */
export async function gatherMaterial(fleet: Fleet, honest: string, victim: string): Promise<Material> {
  const now_ms = Date.now();
  const load = async (host: string) => NodeState.load(fleet.stateOf(host), await loadUnsealKey({ keyFile: fleet.keyFileOf(host) }), now_ms);
  const [honestState, victimState] = await Promise.all([load(honest), load(victim)]);
  const { cluster, site, node } = victimState.identity;
  const identity = { cluster, site, node };
  const rival = async (name: string): Promise<Credentials> => {
    const authority = await createAuthority({ cluster: name, now_ms, random: systemRandom });
    const { privateKey, publicKey } = generateKeyPair();
    const chain = await issueChain(authority, { identity: { ...identity, cluster: name }, publicKey, now_ms, random: systemRandom });
    await authority.signer.close();
    return { chain, key: privateKey };
  };
  return {
    honest: honestState.credentials,
    honestNode: honestState.identity.node,
    victimNode: node,
    cluster,
    otherCluster: await rival('rival'),
    forgedRoot: await rival(cluster),
    expired: await issueExpired(fleet, identity, now_ms),
    stolen: { chain: victimState.credentials.chain, key: disguisedKey(victimState.credentials.chain[0] ?? new Uint8Array()) },
  };
}

/** Signed by the cluster's own authority, and over since a month. */
async function issueExpired(fleet: Fleet, identity: { cluster: string; site: string; node: string }, now_ms: number): Promise<Credentials> {
  const tower = fleet.tower.name;
  const sealed = await SealedStore.open(join(fleet.stateOf(tower), 'sealed.bin'), await loadUnsealKey({ keyFile: fleet.keyFileOf(tower) }));
  const authority = openAuthority(sealed);
  const { privateKey, publicKey } = generateKeyPair();
  const chain = await issueChain(authority, { identity, publicKey, now_ms: now_ms - 2 * LEAF_DAYS * DAY_MS, random: systemRandom });
  await authority.signer.close();
  return { chain, key: privateKey };
}

/**
 * A private key of our own that claims the public key of `leaf`: OpenSSL compares only the public halves, so it signs the handshake with it, as
 * a thief's own TLS stack would.
 */
function disguisedKey(leaf: Uint8Array): Uint8Array {
  const own = createPrivateKey({ key: Buffer.from(generateKeyPair().privateKey), format: 'der', type: 'pkcs8' }).export({ format: 'jwk' });
  const claimed = new X509Certificate(leaf).publicKey.export({ format: 'jwk' });
  const scalar = Buffer.from(own.d ?? '', 'base64url');
  const point = Buffer.concat([Uint8Array.of(4), Buffer.from(claimed.x ?? '', 'base64url'), Buffer.from(claimed.y ?? '', 'base64url')]);
  // PKCS#8 around ECPrivateKey (RFC 5915), each length below 128 or in one octet.
  const der = (tag: number, ...parts: Uint8Array[]) => {
    const body = Buffer.concat(parts);
    return Buffer.concat([body.length < 128 ? Uint8Array.of(tag, body.length) : Uint8Array.of(tag, 0x81, body.length), body]);
  };
  const algorithm = Buffer.from('301306072a8648ce3d020106082a8648ce3d030107', 'hex');
  const ecPrivateKey = der(0x30, Uint8Array.of(2, 1, 1), der(0x04, scalar), der(0xa1, der(0x03, Uint8Array.of(0), point)));
  return new Uint8Array(der(0x30, Uint8Array.of(2, 1, 0), algorithm, der(0x04, ecPrivateKey)));
}
