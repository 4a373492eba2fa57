/** Another root whose keys are in a PKCS#11 token, with a real SoftHSM2: it takes the place of one there, leaves come from it, and it survives a restart and the token's absence. */
import { join } from 'node:path';
import t from 'tap';
import { isIssuedBy } from '../../../src/identity/authority.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { initTower, openTower } from '../../../src/tower/init.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { softHsm } from '../../fixtures/softhsm.ts';
import { enrolledNode } from './api-world.ts';
import { endpoints, random, unseal } from './support.ts';

// Each commit waits for the disk, and each signature for the token.
t.setTimeout(120_000);

const NOBODY = new Uint8Array();

t.test('a root in a token is followed by another in it, over restarts; where the token is away nothing begins', async (t) => {
  const hsm = softHsm(t);
  const state = join(freshDirectory(t), 'tower');
  const [rootSigner, signer] = [hsm.place('root-1'), hsm.place('intermediate-1')];
  await initTower({ state, cluster: 'alpha', unseal, endpoints, rootSigner, intermediateSigner: signer, clock: systemClock, random });
  let tower = await openTower({ state, unseal, clock: systemClock, random });
  t.teardown(() => tower.close());
  const restart = async () => {
    await tower.close();
    tower = await openTower({ state, unseal, clock: systemClock, random });
  };
  const { id } = await enrolledNode(tower, 'a');
  const refused = async (request: { root_signer?: string; signer?: string }, message: RegExp) =>
    t.match(await tower.trust.rotate(request, 'local').catch((error: Error) => error), { code: 'argument_invalid', message });
  await refused({}, /say where the next one is/);
  await refused({ root_signer: hsm.place('root-2') }, /signer.*say where the next one is/);
  await refused({ root_signer: rootSigner, signer: hsm.place('intermediate-2') }, /the one in use/);
  t.equal((await tower.trust.status()).phase, 'stable');

  hsm.unplug();
  const away = await tower.trust.rotate({ root_signer: hsm.place('root-3'), signer: hsm.place('intermediate-3') }, 'local').catch((error: Error) => error);
  t.match(away, { code: 'signer_unavailable' });
  t.match([(await tower.trust.status()).phase, tower.own.next], ['stable', null], 'nothing has begun');
  hsm.plug();
  await tower.trust.rotate({ root_signer: hsm.place('root-3'), signer: hsm.place('intermediate-3') }, 'local');
  await tower.trust.held(id, tower.trust.version);
  await restart();
  t.match(await tower.trust.status(), { phase: 'reissuing' });
  const next = tower.own.next?.root ?? NOBODY;
  const { fingerprint: holding } = await tower.findNode(id);
  const [leaf = NOBODY, intermediate = NOBODY] = await tower.renewals.renew(id, { csr: createCsr(generateKeyPair().privateKey), holding: holding ?? '' });
  t.ok(isIssuedBy(intermediate, next), 'the token signs under the new root');
  await tower.renewals.seen({ cluster: 'alpha', site: 'north', node: id }, fingerprint(leaf));
  t.match(await tower.trust.retire({}, 'local'), { phase: 'stable', version: 3 });
  await restart();
  t.strictSame(tower.rootFingerprint, fingerprint(next));
  const fresh = await enrolledNode(tower, 'b');
  t.ok(isIssuedBy(fresh.chain[1] ?? NOBODY, next));
});
