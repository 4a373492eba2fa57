/** What brings a node back after a restart, in the answer of its enrollment: whole, the same when asked again, and worth nothing to whoever is on the way. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { bootRequest, openFirstSite } from '../../../src/enroll/boot-request.ts';
import { BootFile } from '../../../src/enroll/boot-file.ts';
import { callHome } from '../../../src/enroll/call-home.ts';
import type { PendingRequest } from '../../../src/enroll/pending.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { SiteTokenShelf } from '../../../src/enroll/site-shelf.ts';
import type { EnrollAnswer, EnrollRequest, Envelope } from '../../../src/enroll/wire.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { toBase64 } from '../../../src/identity/base64.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { siteUnsealKey } from '../../../src/identity/unseal/site.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, random, serve, unseal } from '../tower/support.ts';

t.setTimeout(120_000);

const PEER = '192.0.2.1';
const SITE = 'north';

function pending(): PendingRequest {
  const { privateKey } = generateKeyPair();
  return { key: privateKey, csr: createCsr(privateKey) };
}

interface Host {
  readonly own: PendingRequest;
  readonly boot: PendingRequest;
  readonly request: EnrollRequest;
}

async function host(tower: Tower, name: string, isSealed = false): Promise<Host> {
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const [own, boot] = [pending(), pending()];
  const proof = { kind: 'token' as const, token };
  return { own, boot, request: { proof, csr: toBase64(own.csr), name, site: SITE, listen: [], boot: bootRequest(own, boot, isSealed) } };
}

function open(tower: Tower, { own, boot }: Host, answer: EnrollAnswer, envelope: Envelope | undefined = answer.site_secrets) {
  if (envelope === undefined) throw new Error('the answer has none');
  const reader = { root: tower.own.root, cluster: tower.cluster, site: answer.site, node: answer.node, now_ms: systemClock.wall() };
  return openFirstSite(envelope, own, boot, reader);
}

t.test('token and boot identity come with the certificate, and are the same when the same is asked again', async (t) => {
  const tower = await makeTower(t);
  const one = await host(tower, 'one');
  const first = await tower.enroll(one.request, PEER);
  const again = await tower.enroll(one.request, PEER);
  const [before, after] = [await open(tower, one, first), await open(tower, one, again)];
  t.equal(before.tokens.length, 1);
  t.strictSame(after, before);
  const [token] = await tower.unsealing.tokens.current(SITE);
  t.strictSame(before.tokens[0], token);
  const rows = (await tower.audit(0, 1_000)).filter(({ subject }) => subject === first.node);
  t.strictSame(
    rows.map(({ action }) => action),
    ['node.enroll'],
    'one change made all of it',
  );
  t.notOk(JSON.stringify(first).includes(toBase64(token?.token ?? new Uint8Array()).slice(0, 20)));
  const { boot: _boot, ...without } = (await host(tower, 'two')).request;
  t.equal((await tower.enroll(without, PEER)).site_secrets, undefined, 'a node that does not ask gets it over its channel, as before');
});

t.test('a generation that a store is about to be sealed with is kept, also if the node is not heard of for long', async (t) => {
  const tower = await makeTower(t);
  await tower.enroll((await host(tower, 'one', true)).request, PEER);
  for (let times = 0; times < 4; times++) await tower.unsealing.tokens.rotate(SITE);
  t.ok(await tower.unsealing.tokens.of(SITE, 1));
  await tower.enroll((await host(tower, 'two', false)).request, PEER);
  t.equal((await tower.unsealing.tokens.current(SITE))[0]?.generation, 5);
});

t.test('a node that is revoked while it is answered never hears of the token that was made because of it', async (t) => {
  const tower = await makeTower(t);
  // Wherever between the steps of the answer the revocation falls.
  for (let turns = 0; turns < 24; turns += 2) {
    const one = await host(tower, `node-${turns}`, true);
    const { node } = await tower.enroll(one.request, PEER);
    const [before] = await tower.unsealing.tokens.current(SITE);
    const answering = tower.enroll(one.request, PEER).catch((error: unknown) => error);
    for (let turn = 0; turn < turns; turn += 1) await setImmediate();
    await tower.revokeNode(node);
    const answer = await answering;
    if (answer instanceof SelvedgeError) t.match(answer.code, /^(certificate_revoked|token_invalid)$/);
    else t.equal((await open(tower, one, answer as EnrollAnswer)).tokens[0]?.generation, before?.generation, `revoked ${turns} turns later`);
  }
});

t.test('a request of before is not answered once its node has renewed its key away: neither leaf, nor token, nor boot identity', async (t) => {
  const tower = await makeTower(t);
  const one = await host(tower, 'one');
  const { node } = await tower.enroll(one.request, PEER);
  const { fingerprint: holding } = await tower.findNode(node);
  const [leaf] = await tower.renewals.renew(node, { csr: createCsr(generateKeyPair().privateKey), holding: holding ?? '' });
  t.ok((await tower.enroll(one.request, PEER)).site_secrets, 'until it has been seen with the new one');
  await tower.renewals.seen({ cluster: tower.cluster, site: SITE, node }, fingerprint(leaf ?? new Uint8Array()));
  const before = (await tower.audit(0, 1_000)).length;
  await rejectsWith(t, tower.enroll(one.request, PEER), 'token_invalid');
  t.equal((await tower.audit(0, 1_000)).length, before);
});

t.test('whoever passes a request on cannot ask for a boot identity of his own', async (t) => {
  const tower = await makeTower(t);
  const one = await host(tower, 'one');
  const thief = await host(tower, 'thief');
  const given = one.request.boot;
  if (given === undefined) throw new Error('it asks');
  const forged: Record<string, EnrollRequest['boot']> = {
    'his own, signed by himself': thief.request.boot,
    'his own under the signature of the node': { ...given, csr: toBase64(thief.boot.csr) },
    'another way of sealing': { ...given, sealed: true },
    'no signature': { ...given, signature: 'AAAA' },
    'no request': { ...given, csr: 'AAAA' },
  };
  for (let time = 0; time < 2; time++) {
    for (const boot of Object.values(forged)) {
      if (boot === undefined) throw new Error('it asks');
      await rejectsWith(t, tower.enroll({ ...one.request, boot }, PEER), 'csr_invalid');
    }
    await tower.enroll(one.request, PEER);
  }
  t.equal((await tower.nodes()).length, 1);
});

t.test('whoever passes an answer on cannot lay another token or identity under it', async (t) => {
  const tower = await makeTower(t);
  const other = await makeTower(t);
  const [one, two] = [await host(tower, 'one'), await host(tower, 'two')];
  const [first, second] = [await tower.enroll(one.request, PEER), await tower.enroll(two.request, PEER)];
  const foreign = await other.enroll((await host(other, 'one')).request, PEER);
  const { payload = '', ...rest } = first.site_secrets ?? {};
  const flipped = Buffer.from(payload, 'base64');
  flipped[20] = (flipped[20] ?? 0) ^ 1;
  await rejectsWith(t, open(tower, one, first, { ...(rest as Envelope), payload: flipped.toString('base64') }), 'document_invalid');
  await rejectsWith(t, open(tower, one, first, foreign.site_secrets), 'document_invalid');
  await rejectsWith(t, open(tower, one, first, second.site_secrets), 'wrong_node');
  await rejectsWith(t, open(tower, one, first, first.snapshot), 'document_invalid');
  await rejectsWith(t, open(tower, { ...two, boot: one.boot }, first), 'sealed_box_invalid');
  await rejectsWith(t, open(tower, { ...one, boot: two.boot }, first), 'certificate_invalid');
});

async function joinWith(t: Test, isSiteSealed: boolean) {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const state = join(freshDirectory(t), 'node');
  const given = { state, unseal, tower: served, fingerprint: tower.rootFingerprint, proof: tokenMaker(token), cluster: 'alpha', name: 'a', site: SITE };
  const node = await callHome({ ...given, listen: [], isSiteSealed, timers: systemTimers, random });
  await node.secrets.close();
  const { tokens } = tower.unsealing;
  return { state, node: node.identity.node, tokens };
}

t.test('what a node has after joining is all in its store, beside a boot identity that is good', async (t) => {
  const { state, node, tokens } = await joinWith(t, false);
  const store = await SealedStore.open(join(state, 'sealed.bin'), unseal);
  t.strictSame(store.keys().sort(), ['node/intermediate.crt', 'node/leaf.crt', 'node/leaf.key', 'node/trust-bundle', 'site/token.1']);
  t.strictSame(new SiteTokenShelf(store).get(1), (await tokens.current(SITE))[0]);
  const boot = await BootFile.read(state);
  t.match(boot?.who, { site: SITE, node });
  t.equal(boot?.credentials?.chain.length, 2);
  t.equal(await boot?.request(systemClock.wall()), null, 'and no other is due');
});

t.test('a store that the site seals opens with what the site derives, and with nothing that was on the host', async (t) => {
  const { state, node, tokens } = await joinWith(t, true);
  const path = join(state, 'sealed.bin');
  await rejectsWith(t, SealedStore.open(path, unseal), 'store_locked');
  const [token] = await tokens.current(SITE);
  if (token === undefined) throw new Error('the site has one');
  t.equal((await SealedStore.open(path, siteUnsealKey(token, node))).mode.kind, 'site');
  await rejectsWith(t, SealedStore.open(path, siteUnsealKey(token, 'ffffffffffff')), 'store_locked');
});
