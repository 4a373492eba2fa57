/**
 * What the daemons say, as closed sets: every message of log and events with its kind and, for a failure, the stage at which it happened; and every field that
 * stands beside a message. docs/events.md is made of it (scripts/events-doc.ts), and test/lint/events.test.ts holds the code to it.
 */
export const eventKinds = ['channel', 'session', 'path', 'policy', 'drain', 'snapshot', 'certificate', 'app', 'store', 'health', 'daemon', 'other'] as const;
export type EventKind = (typeof eventKinds)[number];

/** Where something failed: what `selvedge_failures_total` counts by, beside the code. */
export const failureStages = ['dial', 'accept', 'session', 'channel', 'revalidation', 'drain', 'snapshot', 'certificate', 'app', 'store', 'other'] as const;
export type FailureStage = (typeof failureStages)[number];

interface MessageRow {
  readonly kind: EventKind;
  /** Of a message that may bear a code. */
  readonly stage?: FailureStage;
}

const row = (kind: EventKind, stage?: FailureStage): MessageRow => ({ kind, ...(stage !== undefined && { stage }) });

export const messages = {
  'channel state': row('channel'),
  'channel carried': row('path'),
  'channel accepted': row('path'),
  'channel ended': row('channel', 'channel'),
  'channel revalidation failed': row('policy', 'revalidation'),
  'dial failed': row('session', 'dial'),
  'backoff exhausted': row('session', 'dial'),
  'session refused': row('session', 'accept'),
  'peer held off': row('session', 'accept'),
  'session lost': row('session', 'session'),
  'session not refreshed': row('session'),
  'way back to QUIC failed': row('path'),
  'node revoked': row('policy'),
  'node revoked: its time to finish is over': row('policy'),
  'node not revoked': row('policy'),
  'degraded mode begins: the tower is away': row('policy'),
  'degraded mode ends: the tower has sent a snapshot': row('policy'),
  'rules could not be read': row('policy'),
  'drain begins': row('drain'),
  drained: row('drain'),
  'drain overdue': row('drain', 'drain'),
  'drain ends': row('drain'),
  'snapshot taken': row('snapshot'),
  'snapshot not kept': row('snapshot', 'snapshot'),
  'snapshot flow ended': row('snapshot', 'snapshot'),
  'snapshot expired: no channel with a peer until the tower is reached': row('snapshot'),
  'snapshot is fresh again': row('snapshot'),
  'boot file not kept': row('store', 'store'),
  'certificate renewed': row('certificate'),
  'certificate not renewed': row('certificate', 'certificate'),
  'certificate nears its end': row('certificate'),
  'renewed certificate not recorded': row('certificate'),
  'intermediate renewed': row('certificate'),
  'root retired: channels move over': row('certificate'),
  'server certificate changed': row('certificate'),
  'server certificate not taken; the one before stays': row('certificate', 'certificate'),
  'HTTPS shows a self-signed certificate, which proves nothing: for development alone': row('certificate'),
  'no app network any more: the tunnel was ended': row('app'),
  'no tunnel': row('app', 'app'),
  'tunnel found': row('app'),
  'tunnel runs again': row('app'),
  'tunnel lost': row('app', 'app'),
  'tunnel changed': row('app'),
  'tunnel could not': row('app', 'app'),
  'tunnel of another version is replaced': row('app'),
  'fault in the tunnel': row('app', 'app'),
  'tower was not told of WireGuard': row('app', 'app'),
  'WireGuard keys changed': row('app'),
  'key of the server certificate is open to others': row('certificate'),
  'request refused or failed': row('other', 'other'),
  'request of an app network failed': row('app', 'app'),
  'path of a peer changed': row('path'),
  'carried path open': row('path'),
  'carried path ended': row('path'),
  'carried path lost': row('path', 'app'),
  'carried path refused': row('path', 'app'),
  'carried flow refused': row('path', 'app'),
  'carried flows could not be judged again': row('policy'),
  'site token taken': row('store'),
  'site flow ended': row('store', 'store'),
  'boot identity taken': row('store'),
  'the store is sealed: asking tower and site for its key': row('store'),
  'still waiting for somebody who says the key of the store': row('store'),
  'no key for the store': row('store', 'store'),
  'the store is unsealed': row('store'),
  'node unsealed': row('store'),
  'node not unsealed': row('store', 'store'),
  'head of the audit log not signed': row('daemon'),
  'health report not taken': row('health', 'other'),
  'call-home fails': row('daemon', 'other'),
  'node runs': row('daemon'),
  'node stops': row('daemon'),
  'tower runs': row('daemon'),
  'tower stops': row('daemon'),
  'closing took too long': row('daemon'),
} as const satisfies Record<string, MessageRow>;

/** Fields, each with one meaning wherever it stands. Times end in `_ms`: milliseconds, since 1970 where a moment is meant. */
export const fields = {
  after_ms: 'for how long something had been awaited',
  again_in_ms: 'when it is tried again, from now',
  attempt: 'failed attempts in a row before this one',
  before: 'the state before',
  by: 'who was asked: tower, or the id of a node',
  cause: 'code of the failure behind it',
  certificate: 'which certificate: leaf, intermediate, root, or a file',
  changes: 'how many things changed',
  channels: 'how many channels there are',
  channels_moved: 'how many of them moved to another session',
  cluster: 'name of the cluster',
  code: 'code of the failure: [failure-reasons.md](failure-reasons.md)',
  days: 'whole days that are left',
  deadline_ms: 'what a drain gives to what is there',
  dropped: 'packets that found no room',
  expires: 'when it ends or ended (ISO 8601)',
  failures: 'failures in a row',
  fingerprint: 'SHA-256 of a certificate',
  first: 'the first of the changes',
  flows: 'flows that are not essential and still live',
  force: 'whether what is left at the deadline is ended',
  forced: 'flows that were ended by force',
  gap_ms: 'for how long nobody was there',
  generation: 'number of a version of keys or of a state; the newest is largest',
  helpers: 'how many hosts can be asked',
  keys: 'how many keys live',
  listen: 'address on which this host listens; null: nowhere',
  mode: 'how a session begins: new, resume, or migrate',
  name: 'name of this node',
  newest: 'the newest public key',
  node: 'id of a node',
  not_after_ms: 'when a certificate ends',
  opened_by: 'which end opened it',
  path: 'a file, or the path of packets: direct or carried',
  peer: 'name of the node at the other end; its id where no name is known',
  peers: 'how many peers a snapshot names',
  pid: 'number of a process',
  port: 'TCP port on which this host listens',
  program: 'program and version',
  reason: 'the failure in words',
  remote: 'address of the other end',
  resources: 'what a process still holds open',
  round: 'how often everybody was asked',
  route: 'by which host packets are carried',
  sealed: 'generation with which the store is sealed',
  side: 'whether this end dialed (dialer) or was dialed (acceptor)',
  signal: 'the signal that asked a program to end',
  since_ms: 'for how long it has lasted',
  site: 'name of a site',
  state: 'state of a channel now: [channel-life.md](channel-life.md)',
  store_mode: 'how the store is sealed',
  text: 'a warning in words',
  transport: 'quic, tcp, or none',
  unsealed_by: 'who said the key',
  trust: 'version of the trust bundle',
  version: 'version of the snapshot',
  what: 'what failed',
  why: 'why it is so, in words',
} as const;

export function rowOf(message: string): MessageRow {
  return Object.hasOwn(messages, message) ? messages[message as keyof typeof messages] : { kind: 'other', stage: 'other' };
}

export function isField(name: string): name is keyof typeof fields {
  return Object.hasOwn(fields, name);
}
