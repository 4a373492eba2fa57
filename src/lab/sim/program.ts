/** What runs on a simulated host until it crashes: the real dialer, channel table, decisions and degraded mode, over the simulated network and clock. */
import type { NodeIdentity } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import { trafficClassNames } from '../../channel/classes.ts';
import type { AdmissionRate } from '../../peering/admission.ts';
import type { Candidate } from '../../peering/mesh.ts';
import { PeerMesh } from '../../peering/peer-mesh.ts';
import { SnapshotExpiry } from '../../peering/snapshot-expiry.ts';
import { TowerAway } from '../../peering/tower-away.ts';
import { Judge } from '../../policy/judge.ts';
import { Dialer } from '../../transport/dialer.ts';
import type { Timers } from '../../transport/system.ts';
import type { Agenda } from './agenda.ts';
import { chainOf, type Directory, judgeChain, type Leaf, SNAPSHOT_TTL_MS, shortName, type Snapshot, TOWER, viewOf } from './directory.ts';
import type { SimNetwork } from './network.ts';
import { Hearer, Teller } from './telling.ts';
import { HostTrust } from './trust.ts';

export interface ProgramOptions {
  readonly identity: NodeIdentity;
  readonly agenda: Agenda;
  readonly network: SimNetwork;
  readonly timers: Timers;
  readonly admission?: AdmissionRate;
  readonly note: (who: string, what: string) => void;
  /** False once it has crashed: what it would still do does not happen. */
  readonly isAlive: () => boolean;
  readonly directory: Directory;
  readonly known: () => Snapshot;
  /** The leaf on its disk; another takes its place. */
  readonly leaf: () => Leaf;
  readonly keepLeaf: (leaf: Leaf) => void;
  readonly heard: (snapshot: Snapshot) => void;
  /** Its channels have changed; how it stands with its tower has. */
  readonly onChannels: () => void;
  readonly onStanding: () => void;
}

export interface Program {
  /** What it shows now. */
  readonly chain: readonly Uint8Array[];
  readonly trust: HostTrust;
  readonly mesh: PeerMesh;
  readonly policy: Judge;
  readonly away: TowerAway;
  readonly expiry: SnapshotExpiry;
  readonly hearer: Hearer;
  /** The tower's. */
  readonly teller: Teller | null;
}

export function makeProgram(options: ProgramOptions): Program {
  const { identity, agenda, network, timers, admission, note, isAlive, known, heard, onChannels, onStanding, directory, leaf, keepLeaf } = options;
  const { random } = agenda;
  const { node, site } = identity;
  const isTower = node === TOWER.node;
  let credentials = { chain: chainOf(identity, leaf()), key: new Uint8Array() };
  const transports = { quic: network.transport('quic', node, isAlive), tcp: network.transport('tcp', node, isAlive) };
  const dialer = new Dialer({ transports, timers, random });
  const destination = ({ identity, name, endpoints }: Candidate) => ({ key: identity.node, name, endpoints });
  const judge = (expected: string | null) => (session: { readonly peerChain: readonly Uint8Array[] }) =>
    judgeChain(session.peerChain, known(), expected, trust.roots);
  const log = (message: string, facts: Readonly<Record<string, string | number | boolean | null>>): void => {
    if (isAlive()) note(shortName(node), `${message} ${Object.values(facts).join(' ')}`);
  };
  const trust = new HostTrust({
    node,
    isTower,
    agenda,
    directory,
    timers,
    known,
    leaf,
    keepLeaf: (next) => {
      keepLeaf(next);
      credentials = { ...credentials, chain: chainOf(identity, next) };
      log('shows another leaf', { number: next.number, root: next.root });
    },
    reachesTower: () => mesh.reaches(TOWER.node),
  });
  const policy = new Judge(trafficClassNames, viewOf(known(), identity, { degraded: false }));
  const mesh: PeerMesh = new PeerMesh({
    self: identity,
    timers,
    random,
    dialer: {
      dial: (candidate, signal) => dialer.dial(destination(candidate), credentials, judge(candidate.identity.node), signal),
      probe: (candidate, signal) => dialer.probe(destination(candidate), credentials, judge(candidate.identity.node), signal),
      noteSilent: (candidate, transport) => dialer.noteSilent(destination(candidate), transport),
    },
    judge: judge(null),
    judgeAgain: (peer, peerChain) => void judgeChain(peerChain, known(), peer.node, trust.liveRoots),
    isOutdated: (_peer, peerChain) => trust.isOutdated(peerChain),
    mayBegin: (peer) => away.objection(peer) ?? policy.begin(peer),
    policy,
    versions: () => ({ directory: known().version, trust: known().roots.length + Math.max(...known().roots) }),
    nameOf: shortName,
    isGoverned: false,
    children: () => (isTower ? known().entries.length : 0),
    ...(admission === undefined ? {} : { admission }),
    log,
    onChange: onChannels,
  });
  const hearer = new Hearer(mesh, timers, heard);
  const away: TowerAway = new TowerAway({
    site,
    after_ms: limits.tower_away_ms,
    timers,
    isReached: () => mesh.reaches(TOWER.node),
    ask: () => hearer.ask(),
    onChange: onStanding,
    log,
  });
  const expiry = new SnapshotExpiry({ state: heldOf(known), timers, onChange: onStanding, log });
  return {
    get chain() {
      return credentials.chain;
    },
    trust,
    mesh,
    policy,
    away,
    expiry,
    hearer,
    teller: isTower ? new Teller(mesh, known) : null,
  };
}

function heldOf(known: () => Snapshot) {
  return {
    get snapshot() {
      return known();
    },
    get snapshotExpires_ms() {
      return known().issued_ms + SNAPSHOT_TTL_MS;
    },
  };
}
