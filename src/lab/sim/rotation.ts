/** A rotation of the root in a simulation, from the tower's side: a stand-in for the rows and signed bundles, which have tests of their own. */
import type { FaultWorld } from './faults.ts';

/** Between two looks of the tower at how far its nodes have come. */
const ROTATION_LOOK_MS = 1_000;

/** As an operator rotates: the new root beside the old one, leaves under it once everybody holds it, and the old one gone once everybody shows such a leaf. */
export function rotate({ agenda, directory, hosts, tower, note }: FaultWorld, until: number): void {
  if (directory.rotation !== null || !tower.isUp) return;
  note('tower', `brings root ${directory.beginRotation(agenda.now)} into the bundle`);
  tower.directoryChanged();
  const look = (): void => {
    const { rotation } = directory;
    if (rotation === null || agenda.now + ROTATION_LOOK_MS >= until) return;
    agenda.at(agenda.now + ROTATION_LOOK_MS, look);
    const nodes = hosts.filter(({ identity }) => directory.revokedAt(identity.node) === null);
    const isReady = nodes.every((host) => (rotation.phase === 'distributing' ? host.holdsRoot(rotation.root) : host.showsRoot(rotation.root)));
    if (!tower.isUp || !isReady) return;
    note('tower', rotation.phase === 'distributing' ? `issues under root ${rotation.root}` : `keeps root ${rotation.root} alone`);
    if (rotation.phase === 'distributing') directory.issueUnderNew();
    else directory.retireOld();
    tower.directoryChanged();
  };
  look();
}
