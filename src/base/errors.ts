/**
 * The one error table. Every refusal that a user, a peer or an operator can cause has a code here: its number on the wire, its
 * message with holes, and what to do. An error that only a bug can cause is an assertion (`assert`), not a row.
 *
 * Messages and facts are safe to log: no secret, key or token ever goes into them (spec 13.1).
 */

/** One row: the number that crosses the wire (never reused), the message, and the remedy for docs and CLI. */
export interface ErrorRow {
  readonly wire: number;
  /** `{name}` is filled from the error's facts. */
  readonly message: string;
  readonly remedy: string;
  /** A better one for a kind of thing, by how the fact `what` begins; the first that fits. */
  readonly remedies?: Readonly<Record<string, string>>;
}

export const errorTable = {
  // The failure reasons of spec 13.1.
  tls_handshake_failed: { wire: 1, message: 'TLS handshake with {peer} failed: {why}', remedy: 'Check that both ends run Selvedge and that nothing between them intercepts TLS.' },
  certificate_invalid: { wire: 2, message: 'certificate of {peer} refused: {why}', remedy: 'What is named is wrong with the certificate itself: let the node enroll again.',
    remedies: {
      'the clock of this host': 'Set the clock of this host (NTP; `timedatectl` shows it). Nothing has to be enrolled anew.',
      'one of two clocks': 'Compare the clocks (`selvedge netcheck`, `timedatectl`) and set the one that is wrong; nothing has to be enrolled anew.',
      expiry: 'Compare the clocks with `selvedge netcheck`. Where they agree it has ended: its holder renews it, or enrolls again (docs/certificates.md).',
    },
  },
  certificate_revoked: { wire: 3, message: 'certificate of {peer} is not the recorded one: {why}', remedy: 'The node was revoked or replaced; enroll it with a fresh token.' },
  wrong_cluster: { wire: 4, message: 'peer belongs to cluster {found}, expected {expected}', remedy: 'The address leads to a tower or node of another cluster; correct it.' },
  wrong_node: { wire: 5, message: 'peer is node {found}, expected {expected}', remedy: 'The address leads to another node; wait for a fresh snapshot or correct it.' },
  policy_denied: { wire: 6, message: 'policy does not allow this: {why}', remedy: 'Ask the cluster operator for a policy that allows it.' },
  channel_class_denied: { wire: 7, message: 'class {class} is not allowed here: {why}', remedy: 'Use an allowed class or have the policy changed.' },
  route_epoch_stale: { wire: 8, message: 'route epoch {found} is older than {expected}', remedy: 'The node catches up by itself; check its channel to the tower.' },
  heartbeat_timeout: { wire: 9, message: 'no sign of life from {peer} for {ms} ms', remedy: 'Check the network path; the node keeps retrying.' },
  peer_draining: { wire: 10, message: 'peer {peer} is draining', remedy: 'Wait, or use another node.' },
  peer_disabled: { wire: 11, message: 'peer {peer} is disabled', remedy: 'Enable the node at the tower.' },
  trust_bundle_stale: { wire: 12, message: 'trust bundle {found} is older than {expected}', remedy: 'The node fetches the new bundle by itself; check its channel to the tower.' },
  network_unreachable: { wire: 13, message: '{peer} cannot be reached: {why}', remedy: 'Check address, firewall and proxy; `selvedge netcheck` tells which transport passes.' },
  backoff_exhausted: { wire: 14, message: '{peer} was not reached in {attempts} attempts: {why}', remedy: 'Remove the cause named; it is tried on, every 15 s on average.' },

  // Channels and their wire.
  frame_invalid: { wire: 32, message: 'invalid frame: {why}', remedy: 'The peer is broken, hostile or of an incompatible version.' },
  frame_too_large: { wire: 33, message: 'frame of {found} bytes, at most {max} allowed', remedy: 'The peer is broken or hostile.' },
  version_unsupported: { wire: 34, message: 'protocol version {found} not supported, this end speaks {expected}', remedy: 'Upgrade the older end.' },
  handshake_timeout: { wire: 35, message: '{peer} did not finish the handshake within {ms} ms', remedy: 'Check the path for loss, and the peer for overload.' },
  session_closed: { wire: 36, message: 'session closed: {why}', remedy: 'The channel opens another by itself.' },
  channel_closed: { wire: 37, message: 'channel closed: {why}', remedy: 'See the reason; the node opens another where policy asks for it.' },
  channel_unknown: { wire: 38, message: 'the peer does not know this channel any more', remedy: 'The peer restarted; a new channel is opened by itself.' },
  flow_refused: { wire: 39, message: 'flow refused: {why}', remedy: 'Check that the peer offers this service.' },
  flow_reset: { wire: 40, message: 'flow ended by the peer: {why}', remedy: 'See the reason.' },
  flow_lost: { wire: 41, message: 'flow could not be resumed: {why}', remedy: 'Open it again; `send` does so from the last offset.' },
  flow_violation: { wire: 42, message: 'peer broke the rules of a flow: {why}', remedy: 'The peer is broken or hostile.' },
  limit_reached: { wire: 43, message: 'limit {limit} ({max}) reached', remedy: 'Close something, or spread the load.' },
  replaced: { wire: 44, message: 'replaced by a newer session', remedy: 'Nothing to do.' },
  shutting_down: { wire: 45, message: 'the peer is shutting down', remedy: 'The node reconnects by itself.' },
  peer_busy: { wire: 48, message: '{peer} admits no more channels now; it has a turn in {ms} ms', remedy: 'Nothing to do: the node comes back then by itself.' },
  not_connected: { wire: 46, message: 'no established channel to {peer}: {why}', remedy: '`selvedge status` tells the state and the reason.' },
  timeout: { wire: 47, message: '{what} took longer than {ms} ms', remedy: 'Try again; check the path with `selvedge status`.' },

  // Enrollment.
  token_invalid: { wire: 64, message: 'token refused: {why}', remedy: 'Create another with `selvedge token create`; for `selvedge preflight`, with `--purpose preflight`.' },
  token_expired: { wire: 65, message: 'token expired at {expires}', remedy: 'Create another with `selvedge token create`.' },
  token_exhausted: { wire: 66, message: 'token was already used {limit} times', remedy: 'Create another with `selvedge token create --uses N`.' },
  token_revoked: { wire: 67, message: 'token was revoked', remedy: 'Create another with `selvedge token create`.' },
  csr_invalid: { wire: 68, message: 'certificate request refused: {why}', remedy: 'Let the node make a new key: remove its state directory and join again.' },
  name_taken: { wire: 69, message: 'node name {name} is taken', remedy: 'Choose another with --name.' },
  fingerprint_mismatch: { wire: 70, message: 'root certificate has fingerprint {found}, expected {expected}', remedy: 'Compare with what `selvedge tower init` printed; if it differs, someone answers in the tower’s place.' },
  already_enrolled: { wire: 71, message: 'state directory {path} already holds the identity of node {node}', remedy: 'Use another --state directory, or remove this one.' },
  not_enrolled: { wire: 72, message: 'state directory {path} holds no identity', remedy: 'Run `selvedge join` first, or name the directory that it made with --state.' },

  // Proofs of identity.
  proof_disabled: { wire: 192, message: 'proof {kind} is switched off at {site}', remedy: 'Use another proof, or have it switched on in the settings of the site (`proofs`).' },
  proof_invalid: { wire: 193, message: 'proof {kind} refused: {why}', remedy: 'docs/enrollment/ says what each proof needs.' },
  proof_expired: { wire: 194, message: 'proof {kind} expired at {expires}', remedy: 'Have another issued at the tower.' },
  proof_exhausted: { wire: 195, message: 'proof {kind} was already used {limit} times', remedy: 'Have another issued at the tower; a node that was revoked needs one too.' },
  proof_revoked: { wire: 196, message: 'proof {kind} was revoked', remedy: 'Have another issued at the tower.' },
  proof_replayed: { wire: 197, message: 'this challenge was answered already', remedy: 'Fetch another challenge; a proof is good for one request.' },
  nonce_invalid: { wire: 198, message: 'challenge refused: {why}', remedy: 'Fetch another challenge and answer it at once; check the clock of the tower if it goes on.' },
  host_refused: { wire: 199, message: 'host id refused: it is not registered here, or in use', remedy: 'Register it at the tower: `selvedge host add ID`; after revoking its node, remove and add it again.' },
  source_denied: { wire: 200, message: 'proof {kind} may not be used from {peer}', remedy: 'Use it from a network that it was made for, or have another made.' },
  key_unseen: { wire: 201, message: 'this host is node {node} of tenant {tenant}, and its key is not the one known here', remedy: 'Enroll it with another proof, or have the site take new keys of returning hosts (`fingerprint_certifies`).' },
  host_unknown: { wire: 202, message: 'no node is known with the fingerprint of this host', remedy: 'Enroll it with another proof; only a node that was enrolled before returns by its fingerprint.' },
  grant_exists: { wire: 203, message: '{kind} {id} is there already', remedy: 'Remove the other first, or choose another id.' },

  document_invalid: { wire: 73, message: 'signed {what} refused: {why}', remedy: 'It was altered, is of another cluster or of another version; ask the tower again.' },

  // Input, configuration, machine.
  config_invalid: { wire: 96, message: '{file}:{line}: {key}: {found} is not allowed; allowed: {allowed}', remedy: 'Correct what is named.' },
  request_invalid: { wire: 97, message: 'request refused: {path}: {why}', remedy: 'See docs/cli.md for what is allowed.' },
  body_too_large: { wire: 98, message: 'body larger than {max} bytes', remedy: 'Send less.' },
  not_found: {
    wire: 99,
    message: '{what} {name} not found',
    remedy: 'Check the name or path.',
    remedies: {
      node: '`selvedge peers` tells the nodes that this host, or the tower, knows.',
      'token file': 'Check the path; `selvedge token create` at the tower prints a token.',
      token: '`selvedge token list` tells the tokens there are.',
      'app network': '`selvedge app list`, at the tower, tells the networks there are.',
      'member of app network': '`selvedge app show NETWORK`, at the tower, tells its members.',
      'on app network': '`selvedge app show NETWORK`, at the tower, tells its members, their places and addresses.',
      role: '`selvedge role list` tells the roles there are.',
      service: '`selvedge service list` tells the services there are.',
      operator: '`selvedge operator list` tells the operators there are.',
      session: '`selvedge session list` tells the sessions there are.',
      attachment: '`selvedge status` tells the places of this host; `selvedge app connect` makes one.',
      topology: '`selvedge lab list` tells those that come along; docs/lab.md says how to write one.',
      step: '`selvedge lab list` tells the steps of each topology.',
      'tower state': 'Make it with `selvedge tower init`, or name its directory with --state.',
      'configuration file': 'Check the path; docs/configuration.md says what may stand in it.',
      route: 'This program and the daemon may be of different versions: `selvedge version`, then restart the daemon.',
    },
  },
  unauthorized: { wire: 100, message: 'not authorized: {why}', remedy: 'Use the local socket, an operator’s certificate (`--identity`), or a session.' },
  rate_limited: { wire: 101, message: 'too many requests from {peer}; try again in {ms} ms', remedy: 'Wait.' },
  port_in_use: { wire: 102, message: '{proto} port {port} on {address} is in use', remedy: 'Stop what uses it, or choose another port.' },
  permission_denied: { wire: 103, message: 'not permitted: {what}', remedy: 'Run as root, or give the capability named.' },
  disk_full: { wire: 104, message: 'no space left writing {path}', remedy: 'Free space; the old content is intact.' },
  sealed_box_invalid: { wire: 260, message: 'sealed {what} does not open: {why}', remedy: 'It was sealed to another key or changed on its way; ask for it again.' },
  store_format_unknown: { wire: 261, message: '{path} has format {found}, this program knows up to {expected}', remedy: 'It was written by a newer program: run that one, or restore the state from before.' },
  unseal_generation_unknown: { wire: 262, message: 'token {generation} of site {site} is not held here', remedy: 'Other nodes hold the last two only; the tower holds all that are in use. Bring the tower back.' },
  boot_identity_missing: { wire: 263, message: '{path} holds no boot identity', remedy: 'Unseal the store in another way (`selvedge store reseal`), and start the node once while the tower can be reached.' },
  site_token_missing: { wire: 264, message: "the token of site {site} is not in this node's store", remedy: 'Start the node once while the tower can be reached; then seal the store anew.' },
  store_damaged: { wire: 105, message: '{path} is damaged: {why}', remedy: 'Restore it from a backup, or remove it and enroll again.' },
  store_locked: { wire: 106, message: '{path} cannot be unsealed: {why}', remedy: 'Give the right passphrase or key file; `selvedge store show` tells what it takes. docs/sealed-store.md.' },
  clock_skew: { wire: 107, message: '{what} is {by} {direction}: {why}',
    remedy: 'Set the clock (NTP) of the host that is wrong, then try again.',
    remedies: {
      'the clock of this host': 'Set the clock of this host (NTP; `timedatectl` shows it), then try again. Nothing has to be enrolled anew.',
      'the clock of the host': 'Set the clock of that host (NTP), then let it try again.',
      'one of two clocks': 'Set both clocks (NTP). Certificates that were issued while the tower’s was wrong are renewed with `selvedge renew`.',
    },
  },
  file_exists: { wire: 108, message: '{path} exists already', remedy: 'Choose another path.' },
  file_changed: { wire: 109, message: '{path} changed while it was read', remedy: 'Send it again when nobody writes to it.' },
  digest_mismatch: { wire: 110, message: '{what}: digest {found}, expected {expected}', remedy: 'Send it again.' },
  daemon_unreachable: { wire: 111, message: 'no daemon answers at {path}: {why}', remedy: 'Start `selvedged` (or `selvedge tower run`), or name its directory with --state.' },
  native_missing: { wire: 112, message: 'native part {what} cannot be loaded: {why}', remedy: 'Run `npm install` (it builds it), or `npm run setup` for details.' },
  native_failed: { wire: 113, message: 'native call {what} failed: {why}', remedy: 'Report it with the message.' },
  handle_closed: { wire: 114, message: '{what} is closed', remedy: 'Open another.' },
  argument_invalid: { wire: 115, message: 'argument {name}: {why}', remedy: 'See --help.' },
  lab_failed: { wire: 116, message: 'lab: {why}', remedy: 'See docs/lab.md for what the lab needs.' },
  state_in_use: { wire: 118, message: '{path} is in use by another process', remedy: 'Stop the other daemon, or use another --state directory.' },

  // App networks on a host.
  tunnel_unreachable: { wire: 128, message: 'selvedge-tunnel does not answer at {path}: {why}', remedy: 'See its log beside the socket (tunnel.log); the daemon starts it again by itself.' },
  tunnel_answer_invalid: { wire: 129, message: 'selvedge-tunnel said what it should not: {why}', remedy: 'Daemon and tunnel are of different versions, or something else answers on its socket; stop the tunnel, the daemon starts its own.' },
  tunnel_refused: { wire: 130, message: '{what}: {why}', remedy: 'See the reason; `selvedge status` tells when it is mended.' },
  tunnel_missing: { wire: 131, message: 'the program selvedge-tunnel cannot be started: {why}', remedy: 'Run `npm run setup` (it builds it), and start the daemon as root.' },
  mtu_too_small: { wire: 132, message: '{what}: {why}', remedy: 'Raise the MTU of the underlay that is named, or use IPv4 only.' },
  tunnel_outdated: { wire: 133, message: '{what}: {why}', remedy: 'Nothing is broken. At a good moment end that process (SIGTERM): the daemon starts its own, and flows pause for as long.' },
  not_member: { wire: 134, message: 'this node is not a member of app network {network}', remedy: 'Have it added at the tower: `selvedge app add NETWORK NODE`.' },
  device_foreign: { wire: 160, message: '{what}: {why}', remedy: 'Remove or rename that device if nobody needs it; Selvedge does not touch what it did not make.' },
  device_failed: { wire: 161, message: '{what}: {why}', remedy: 'See the reason; `ip -d link` shows the device.' },
  address_in_use: { wire: 162, message: '{what}: {why}', remedy: 'Give the app network another subnet, or remove the address from the other interface.' },
  namespace_missing: { wire: 163, message: 'network namespace {name} is not there: {why}', remedy: 'Start the container again, or disconnect it from the app network.' },
  app_network_exists: { wire: 140, message: 'app network {name} exists already', remedy: 'Choose another name, or see it with `selvedge app show`.' },
  address_pool_full: { wire: 141, message: 'no address is left in {pool}', remedy: 'Remove members or attachments that are not used any more, or make a network with a larger subnet.' },
  subnet_overlaps: { wire: 142, message: '{subnet} overlaps {other} of {owner}', remedy: 'Choose a subnet that nothing else in the cluster has; `selvedge app list` tells which are taken.' },
  // Identity told by others: JSON Web Tokens, and what a platform says of its machines.
  jwt_invalid: { wire: 210, message: 'JWT refused: {why}', remedy: 'Have its issuer give another, for this cluster and with what is named.' },
  jwt_expired: { wire: 211, message: 'JWT is not valid now: {why}', remedy: 'Get a fresh one; if it is fresh, compare the clocks of this tower and of the issuer.' },
  jwt_keys_unavailable: { wire: 212, message: 'keys of issuer {issuer} cannot be had: {why}', remedy: 'Check the key set of that issuer in the configuration, and that the tower reaches its address.' },
  outbound_refused: { wire: 213, message: 'no request is sent to {url}: {why}', remedy: 'Correct the address; what is allowed stands in the configuration (hosts, inside).' },
  platform_unmatched: { wire: 214, message: '{kind} identity {subject} is not among those recorded', remedy: 'Record it at the tower with `selvedge platform add`; docs/enrollment/ says which facts count.' },
  platform_unavailable: { wire: 215, message: 'the authority of {kind} cannot be asked: {why}', remedy: 'Try again; check its address in the configuration and the path to it.' },
  // Who may use the API.
  scope_denied: { wire: 220, message: '{actor} has scope {has}; this needs {scope}', remedy: 'Ask as somebody who has that scope; `selvedge session show` tells what you have.' },
  session_invalid: { wire: 221, message: 'API session refused: {why}', remedy: 'Log in again; a session ends by itself, by logging out, and with whoever began it.' },
  operator_exists: { wire: 222, message: 'there is an operator {name} already', remedy: 'Choose another name; `selvedge operator bundle` gives the one that there is another bundle.' },
  operator_revoked: { wire: 223, message: 'operator {name} is revoked', remedy: 'Make another with `selvedge operator create`; the name is free again.' },
  bundle_invalid: { wire: 224, message: 'bundle refused: {why}', remedy: 'Have another made with `selvedge operator create`, or `selvedge operator bundle` for an operator that there is.' },
  bundle_expired: { wire: 225, message: 'bundle expired at {expires}', remedy: 'Have another made with `selvedge operator bundle`.' },
  bundle_redeemed: { wire: 226, message: 'bundle was redeemed already', remedy: 'If it was not you, have the operator revoked at once; else have another made with `selvedge operator bundle`.' },
  identity_file_invalid: { wire: 227, message: 'identity file {path}: {why}', remedy: 'Give the file that `selvedge operator redeem` wrote, of mode 0600 and yours.' },
  service_tokens_invalid: { wire: 228, message: 'file of service tokens {path}: {why}', remedy: 'A line for each: NAME SCOPES TOKEN; mode 0600. See docs/access.md.' },
  // The tower's resources, its audit log, its backups.
  changed_meanwhile: { wire: 280, message: '{what} {name} was changed meanwhile: it is at {found}, the change was made for {expected}', remedy: 'Read it again, and change what is there now.' },
  resource_exists: { wire: 281, message: '{what} {name} exists already', remedy: 'Choose another name, or change the one that is there.' },
  resource_in_use: { wire: 282, message: '{what} {name} is still used by {by}', remedy: 'Change or delete what uses it first.' },
  backup_invalid: { wire: 283, message: 'backup {path} is not whole: {why}', remedy: 'Use another backup; make one with `selvedge tower backup`, which checks what it wrote.' },
  audit_broken: { wire: 284, message: 'audit log of {cluster}: {why}', remedy: 'Somebody changed the tower’s database past the tower: compare with a backup, and treat the tower’s host as taken over.' },
  internal_error: { wire: 150, message: 'internal error in {what}', remedy: 'Report it with the log line of the same time.' },
  unsupported: { wire: 117, message: '{what} is not supported here: {why}', remedy: 'See docs.' },
  wrong_daemon: { wire: 120, message: '{path} is the socket of a {found}; this is asked of a {expected}', remedy: 'Name the other with --state or --socket: a tower has STATE/tower.sock, a node STATE/selvedged.sock.' },
  unseal_key_invalid: { wire: 119, message: '{path} does not unseal anything: {why}', remedy: 'Give a key file of 32 random bytes in hex or base64, or a passphrase file, of mode 0600.' },

  // Keys and certificates over time.
  certificate_files_invalid: { wire: 241, message: 'server certificate {path} cannot be used: {why}', remedy: 'Give a certificate chain in PEM and its key, not encrypted; both are read again within ten seconds. docs/certificates.md.' },
  rotation_refused: { wire: 242, message: 'rotation of the root refused: {why}', remedy: '`selvedge trust status` tells the phase, and who is missing; docs/operations.md tells the steps.' },
  signer_unavailable: { wire: 240, message: 'the key that signs ({what}) cannot be used now: {why}', remedy: 'Look at the token or key service that holds the key; the tower tries again by itself. docs/certificates.md.' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

export const errorCodes = Object.keys(errorTable) as ErrorCode[];

/** The failure reasons of spec 13.1: what a channel may end with, in metrics and reports. */
export const failureReasons = [
  'tls_handshake_failed', 'certificate_invalid', 'certificate_revoked', 'wrong_cluster', 'wrong_node', 'policy_denied', 'channel_class_denied', 'route_epoch_stale',
  'heartbeat_timeout', 'peer_draining', 'peer_disabled', 'trust_bundle_stale', 'network_unreachable', 'backoff_exhausted',
] as const satisfies readonly ErrorCode[];

const byWire = new Map<number, ErrorCode>(Object.entries(errorTable).map(([code, row]) => [row.wire, code as ErrorCode]));

/** The code of a wire number; a number of a newer peer that this end does not know reads as `session_closed`. */
export function codeOfWire(wire: number): ErrorCode {
  return byWire.get(wire) ?? 'session_closed';
}

export type Facts = Readonly<Record<string, string | number | boolean | null>>;

/** Longest fact that is printed: what comes from outside must not flood a log. Unit: characters. */
const FACT_CHARS_MAX = 300;

/**
 * The only error class that leaves a module: a code of the table and the facts that fill its message. It has no stack trace: it tells
 * what happened, not where, and every session and flow ends with some. What a bug threw keeps its own, as the cause.
 */
export class SelvedgeError extends Error {
  readonly code: ErrorCode;
  readonly facts: Facts;
  /** What else was found wrong in the same look, so that all of it can be mended at once. */
  readonly also: readonly SelvedgeError[];

  constructor(code: ErrorCode, facts: Facts = {}, options?: { readonly cause?: unknown; readonly also?: readonly SelvedgeError[] }) {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(fillMessage(code, facts), options);
    Error.stackTraceLimit = stackTraceLimit;
    this.name = 'SelvedgeError';
    this.code = code;
    this.facts = facts;
    this.also = options?.also ?? [];
  }

  get remedy(): string {
    return remedyOf(this.code, this.facts.what);
  }

  toJSON(): { code: ErrorCode; message: string; remedy: string; facts: Facts; also?: object[] } {
    const { code, message, remedy, facts, also } = this;
    return { code, message, remedy, facts, ...(also.length > 0 && { also: also.map((one) => one.toJSON()) }) };
  }
}

/** What to do about it; `what` is the fact of that name. */
export function remedyOf(code: ErrorCode, what: Facts[string] | undefined): string {
  const { remedy, remedies = {} }: ErrorRow = errorTable[code];
  return Object.entries(remedies).find(([kind]) => String(what).startsWith(kind))?.[1] ?? remedy;
}

/** Messages cut at their holes: text, name, text, name, …, text. */
const cutMessages = new Map<ErrorCode, readonly string[]>();

function fillMessage(code: ErrorCode, facts: Facts): string {
  const parts = cutMessages.get(code) ?? errorTable[code].message.split(/\{(\w+)\}/);
  cutMessages.set(code, parts);
  return parts.map((part, index) => (index % 2 === 0 ? part : printable(facts[part]))).join('');
}

const ASCII = /^[\x20-\x7e]*$/;

/** Control characters of an outside string never reach a terminal or log. */
function printable(fact: Facts[string] | undefined): string {
  if (fact === undefined) return 'unknown';
  const plain = String(fact);
  // Nearly all facts are of ASCII, and need no look at what Unicode says of each character.
  const text = ASCII.test(plain) ? plain : plain.replace(/[\p{Cc}\p{Cf}]/gu, '?');
  return text.length > FACT_CHARS_MAX ? `${text.slice(0, FACT_CHARS_MAX)}…` : text;
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorTable, text);
}

/** Any thrown value as an error of the table: what is not one already becomes `fallback`, its message as the fact `why`. */
export function asSelvedgeError(error: unknown, fallback: ErrorCode, facts: Facts = {}): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new SelvedgeError(fallback, { why, ...facts }, { cause: error });
}

/** A condition that only a bug can break. Stays on in production. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
