/** The directory in memory when changes of one node come to be known in another order than they were committed in: the newest counts. */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { fromHex, toHex } from '../../../src/base/ids.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { RecordedFingerprints } from '../../../src/tower/recorded.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { enrolledNode } from './api-world.ts';
import { makeTower, shiftedClock } from './support.ts';

const identityOf = (node: string) => ({ cluster: 'alpha', site: 'north', node });

/** A node that has been seen with its second leaf, and whose first one is accepted for a while. */
async function renewedNode(tower: Tower, name: string): Promise<string> {
  const { id, chain } = await enrolledNode(tower, name);
  const { privateKey } = generateKeyPair();
  const holding = toHex(fingerprint(chain[0] ?? new Uint8Array()));
  const [leaf] = await tower.renewals.renew(id, { csr: createCsr(privateKey), holding });
  await tower.renewals.seen(identityOf(id), fingerprint(leaf ?? new Uint8Array()));
  return id;
}

t.test('a node that is revoked while old leaves are retired stays revoked', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const ids: string[] = [];
  for (let index = 0; index < 6; index += 1) ids.push(await renewedNode(tower, `node-${index}`));
  const last = ids.toSorted().at(-1) ?? '';
  clock.offset_ms += limits.leaf_overlap_ms + 1;
  const retired = tower.renewals.retire();
  await setImmediate();
  await tower.revokeNode(last);
  await retired;
  t.equal(tower.recordedFingerprint(identityOf(last)), 'revoked');
  for (const id of ids.filter((other) => other !== last)) t.type(tower.recordedFingerprint(identityOf(id)), Uint8Array, 'one leaf, the new one');
});

t.test('every change of a node’s leaf moves its revision', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const { id, chain } = await enrolledNode(tower, 'one');
  const revisions = [(await tower.findNode(id)).revision];
  const step = async (change: Promise<unknown>) => {
    await change;
    revisions.push((await tower.findNode(id)).revision);
  };
  const [first = new Uint8Array()] = chain;
  const csr = createCsr(generateKeyPair().privateKey);
  await step(tower.renewals.renew(id, { csr, holding: toHex(fingerprint(first)) }));
  const offered = fromHex((await tower.findNode(id)).renewal?.next?.fingerprint ?? '') ?? new Uint8Array();
  await step(tower.renewals.seen(identityOf(id), offered));
  clock.offset_ms += limits.leaf_overlap_ms + 1;
  await step(tower.renewals.retire());
  await step(tower.recordLeaf(id, first));
  await step(tower.revokeNode(id));
  t.same(
    revisions,
    [...new Set(revisions)].toSorted((a, b) => a - b),
  );
});

t.test('an older row of a node changes nothing in the directory, whichever way it is told', async (t) => {
  const tower = await makeTower(t);
  const { id } = await enrolledNode(tower, 'one');
  const [live, revoked] = [await tower.findNode(id), await tower.revokeNode(id)];
  const recorded = new RecordedFingerprints('alpha', new Uint8Array());
  t.ok(recorded.set(revoked));
  t.notOk(recorded.set(live));
  t.equal(recorded.of(identityOf(id)), 'revoked');
});
