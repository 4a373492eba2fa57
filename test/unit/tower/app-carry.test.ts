/** Whose packets the tower passes on: those of members of one network, at whatever sites, unless a rule denies them class `vpn_packet`; asked again when that changes. */
import t, { type Test } from 'tap';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { serveCarry } from '../../../src/tower/app/carry.ts';
import { RulesFollower } from '../../../src/tower/rules-follower.ts';
import { TowerPolicy } from '../../../src/tower/tower-policy.ts';
import type { Touched } from '../../../src/tower/tower.ts';
import { CARRY_SERVICE, openCarry } from '../../../src/transport/carry/greeting.ts';
import type { FlowHandle } from '../../../src/transport/flow-handle.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { MemoryNet } from '../services/memory-mesh.ts';
import { HOUR_MS, makeTower, random } from './support.ts';

t.setTimeout(60_000);

/** Two members of one network at two sites, and a stranger. */
async function carrying(t: Test) {
  const tower = await makeTower(t);
  const policy = await TowerPolicy.open(tower);
  const net = new MemoryNet();
  const carry = serveCarry({
    mesh: net.mesh('tower'),
    timers: systemTimers,
    log: () => undefined,
    checkPartners: (from, to) => tower.app.checkPartners(from, to),
    checkRules: (from, to) => policy.checkCarried(from, to),
  });
  t.teardown(() => carry.close());
  const rules = new RulesFollower<Touched>({
    timers: systemTimers,
    random,
    refresh: () => policy.refresh(),
    onFresh: (changes) => carry.changed(changes),
    onFailure: (error) => t.fail('the rules are read', { error }),
  });
  t.teardown(() => rules.close());
  t.teardown(tower.onChange((change) => rules.changed(change)));
  const join = async (name: string, site: string): Promise<string> => {
    const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
    const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
    const { node } = await tower.enroll({ proof: { kind: 'token', token }, csr, name, site, listen: [] }, '192.0.2.1');
    net.mesh(node).handle(CARRY_SERVICE, () => wake());
    return node;
  };
  let wake = (): void => {};
  const [near, far, stranger] = [await join('near', 'north'), await join('far', 'south'), await join('stranger', 'north')];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  for (const node of [near, far]) await tower.app.add('shop', node, 'local');
  /** How it went, and this end of it. */
  const open = async (from = near, to = far): Promise<{ readonly near: FlowHandle; readonly outcome: string }> => {
    const { promise, resolve } = Promise.withResolvers<string>();
    wake = () => resolve('passed on');
    const flow = openCarry(net.mesh(from), 'tower', { from, to });
    return { near: flow, outcome: await Promise.race([promise, flow.closed.then((error) => `${error?.code}: ${error?.message}`)]) };
  };
  return { tower, near, far, stranger, open };
}

const between = { from: {}, to: {} };

t.test('members of one network are passed on, though no rule lets their sites talk; others are not', async (t) => {
  const { open, near, far, stranger } = await carrying(t);
  t.equal((await open()).outcome, 'passed on');
  t.equal((await open(far, near)).outcome, 'passed on');
  t.match((await open(stranger, far)).outcome, /policy_denied: .*no common app network/);
});

t.test('a policy that denies the class ends what is passed on, keeps it ended, and lets it be once it is gone', async (t) => {
  const { tower, open } = await carrying(t);
  const live = (await open()).near;
  await tower.resources.create('policy', 'no-packets', { ...between, effect: 'deny', classes: ['vpn_packet'] }, 'local');
  t.match(await live.closed, { code: 'channel_class_denied', message: /policy no-packets/ });
  t.match((await open()).outcome, /channel_class_denied: .*policy no-packets/);
  const fresh = new Promise<void>((resolve) => tower.onChange(() => setImmediate(resolve)));
  await tower.resources.delete('policy', 'no-packets', null, 'local');
  await fresh;
  let { outcome } = await open();
  while (outcome !== 'passed on') ({ outcome } = await open());
  t.pass('it is passed on again');
});

t.test('a policy about other classes changes nothing, and a role that does not use the class denies it', async (t) => {
  const { tower, near, open } = await carrying(t);
  const live = (await open()).near;
  await tower.resources.create('policy', 'no-input', { ...between, effect: 'deny', classes: ['input'] }, 'local');
  t.equal((await open()).outcome, 'passed on');
  t.match(await live.closed, { code: 'replaced' }, 'by that one alone');
  await tower.resources.create('role', 'till', { classes: ['input'] }, 'local');
  const last = (await open()).near;
  await tower.setNode(near, { roles: ['till'] }, null, 'local');
  t.match(await last.closed, { code: 'channel_class_denied', message: /role till/ });
});

t.test('who is revoked is passed on no more', async (t) => {
  const { tower, far, open } = await carrying(t);
  const live = (await open()).near;
  await tower.revokeNode(far);
  t.match(await live.closed, { code: 'policy_denied' });
});
