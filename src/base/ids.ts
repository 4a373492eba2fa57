/** Ids and names: their shapes, and the one URI form that binds them into a certificate (spec 1.3). */
import { SelvedgeError } from './errors.ts';

/** Cluster, site and node names: DNS labels (RFC 1123, section 2.1), lower case. */
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** Node ids: 6 random octets, in hex (spec 2.3). The tower's own id is `tower`. */
const NODE_ID = /^([0-9a-f]{12}|tower)$/;

export const TOWER_ID = 'tower';
export const TOWER_SITE = 'tower';

export interface NodeIdentity {
  readonly cluster: string;
  readonly site: string;
  readonly node: string;
}

export function isLabel(text: string): boolean {
  return LABEL.test(text);
}

export function isNodeId(text: string): boolean {
  return NODE_ID.test(text);
}

/** @throws argument_invalid */
export function checkLabel(name: string, text: string): string {
  if (!isLabel(text))
    throw new SelvedgeError('argument_invalid', { name, why: `'${text}' is not a name: lower-case letters, digits and inner hyphens, 1 to 63` });
  return text;
}

/** SPIFFE form: `spiffe://CLUSTER/site/SITE/node/NODE`. */
export function spiffeUri(id: NodeIdentity): string {
  return `spiffe://${id.cluster}/site/${id.site}/node/${id.node}`;
}

/** The identity in a URI SAN, or null if the URI is anything but exactly that form. */
export function parseSpiffeUri(uri: string): NodeIdentity | null {
  const match = /^spiffe:\/\/([^/]+)\/site\/([^/]+)\/node\/([^/]+)$/.exec(uri);
  if (!match) return null;
  const [, cluster, site, node] = match as unknown as [string, string, string, string];
  return isLabel(cluster) && isLabel(site) && isNodeId(node) ? { cluster, site, node } : null;
}

/** Operators are people or programs, not hosts: their certificates have a name of another form, which no channel accepts. */
export interface OperatorIdentity {
  readonly cluster: string;
  /** As `NODE_ID`, but never the tower's. */
  readonly operator: string;
}

const OPERATOR_ID = /^[0-9a-f]{12}$/;

export function isOperatorId(text: string): boolean {
  return OPERATOR_ID.test(text);
}

/** `spiffe://CLUSTER/operator/ID`. */
export function operatorUri({ cluster, operator }: OperatorIdentity): string {
  return `spiffe://${cluster}/operator/${operator}`;
}

/** The operator in a URI SAN, or null if the URI is anything but exactly that form. */
export function parseOperatorUri(uri: string): OperatorIdentity | null {
  const match = /^spiffe:\/\/([^/]+)\/operator\/([^/]+)$/.exec(uri);
  if (!match) return null;
  const [, cluster, operator] = match as unknown as [string, string, string];
  return isLabel(cluster) && isOperatorId(operator) ? { cluster, operator } : null;
}

/** Call-home certificates are good for one signature when enrolling; the name in one is its grant at the tower. */
export interface CallHomeName {
  readonly cluster: string;
  /** 12 hex digits. */
  readonly grant: string;
}

const CALL_HOME_GRANT = /^[0-9a-f]{12}$/;

/** `spiffe://CLUSTER/call-home/GRANT`. */
export function callHomeUri({ cluster, grant }: CallHomeName): string {
  return `spiffe://${cluster}/call-home/${grant}`;
}

/** Null if the URI is anything but exactly that form. */
export function parseCallHomeUri(uri: string): CallHomeName | null {
  const match = /^spiffe:\/\/([^/]+)\/call-home\/([^/]+)$/.exec(uri);
  if (!match) return null;
  const [, cluster, grant] = match as unknown as [string, string, string];
  return isLabel(cluster) && CALL_HOME_GRANT.test(grant) ? { cluster, grant } : null;
}

/** What a node's boot identity is called (identity/verify-boot.ts): `spiffe://CLUSTER/site/SITE/boot/NODE`, a form that is nobody's else. */
export function bootUri({ cluster, site, node }: NodeIdentity): string {
  return `spiffe://${cluster}/site/${site}/boot/${node}`;
}

/** The node in a URI SAN, or null if the URI is anything but exactly that form. The tower has no boot identity. */
export function parseBootUri(uri: string): NodeIdentity | null {
  const match = /^spiffe:\/\/([^/]+)\/site\/([^/]+)\/boot\/([^/]+)$/.exec(uri);
  if (!match) return null;
  const [, cluster, site, node] = match as unknown as [string, string, string, string];
  return isLabel(cluster) && isLabel(site) && isNodeId(node) && node !== TOWER_ID && site !== TOWER_SITE ? { cluster, site, node } : null;
}

const HEX = Array.from({ length: 256 }, (_, octet) => octet.toString(16).padStart(2, '0'));

export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const octet of bytes) text += HEX[octet];
  return text;
}

/** Null unless `text` is an even number of hex digits. */
export function fromHex(text: string): Uint8Array | null {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return null;
  return Uint8Array.from({ length: text.length / 2 }, (_, index) => Number.parseInt(text.slice(index * 2, index * 2 + 2), 16));
}

/** Same time for equal and unequal contents of one length (spec 12.4): for secrets and fingerprints. */
export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  let difference = 0;
  for (let index = 0; index < left.length; index++) difference |= (left[index] as number) ^ (right[index] as number);
  return difference === 0;
}
