/** `selvedge operator renew`: another year without a bundle, over real TLS. */
import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { apiWorld } from '../tower/api-world.ts';
import { operatorWorld, program, selvedge } from './operator-world.ts';

t.setTimeout(180_000);

t.test('an operator renews its certificate without a bundle, is warned before it ends, and goes on where it was interrupted', async (t) => {
  const { folder, tower, at, place, bundle, redeem } = await operatorWorld(t);
  const [path, identity] = [await bundle('ada'), join(folder, 'ada.json')];
  await redeem(path, identity);
  const as = ['--identity', identity, ...place];
  const before = JSON.parse(readFileSync(identity, 'utf8')) as { key: string; chain: string[] };
  t.match(await selvedge('operator', 'renew', '--identity', identity, '--tower', '127.0.0.1:1'), { status: 1, stderr: /\[network_unreachable\]/ });
  const begun = JSON.parse(readFileSync(identity, 'utf8')) as { key: string; renewal: { key: string } };
  t.equal(begun.key, before.key, 'what it has goes on');
  const renewed = await selvedge('operator', 'renew', ...as, '--json');
  t.match(renewed, { status: 0, stderr: '' });
  t.match(JSON.parse(renewed.stdout), { name: 'ada', cluster: 'alpha', identity, not_after_ms: Number });
  const now = JSON.parse(readFileSync(identity, 'utf8')) as { key: string; chain: string[]; renewal?: unknown };
  t.equal(now.key, begun.renewal.key, 'with the key that was made before');
  t.notOk('renewal' in now);
  t.equal(statSync(identity).mode & 0o777, 0o600);
  t.match(await selvedge('session', 'show', ...as), { status: 0, stderr: '' });
  const old = join(folder, 'old.json');
  writeFileSync(old, JSON.stringify({ ...now, key: before.key, chain: before.chain }), { mode: 0o600 });
  t.match(await selvedge('session', 'show', '--identity', old, ...place), { status: 1, stderr: /\[certificate_revoked\]/ });
  const later = `data:text/javascript,${encodeURIComponent('const now = Date.now; Date.now = () => now() + 350 * 86400000;')}`;
  const warned = spawn(process.execPath, ['--import', later, program, 'session', 'show', ...as], { stdio: ['ignore', 'ignore', 'pipe'] });
  t.match(await text(warned.stderr), /warning: the certificate of this operator ends at .*, in 1[45] days; renew it: selvedge operator renew/);
  const [ada] = await tower.access.operators.page({ after: null, limit: 2 });
  await selvedge('operator', 'revoke', ada?.id ?? '', ...at);
  t.match(await selvedge('operator', 'renew', ...as), { status: 1, stderr: /\[certificate_revoked\]/ });
});

t.test('while the root is rotated an operator gets a certificate under the next one, and knows the tower by either from then on', async (t) => {
  const { folder, tower, place, bundle, redeem } = await operatorWorld(t);
  const [ada, bob] = [join(folder, 'ada.json'), join(folder, 'bob.json')];
  await redeem(await bundle('ada'), ada);
  await redeem(await bundle('bob'), bob);
  t.match(await selvedge('trust', 'rotate', '--identity', ada, ...place), { status: 0, stdout: /reissuing since/ });
  t.match(await selvedge('operator', 'renew', '--identity', ada, ...place), { status: 0, stderr: '' });
  const renewed = JSON.parse(readFileSync(ada, 'utf8')) as { fingerprint: string; roots: string[] };
  const { roots } = await tower.trust.status();
  t.strictSame(
    [renewed.fingerprint, ...renewed.roots],
    roots.map(({ fingerprint }) => fingerprint),
  );
  t.match(await selvedge('trust', 'status', '--identity', ada, ...place), { status: 0, stdout: /MISSING.*bob/s });
  t.match(
    await selvedge('trust', 'retire', '--identity', ada, ...place),
    { status: 1, stderr: /1 of 2 operators have not renewed/ },
    'nobody is cut off unawares',
  );
  t.match(await selvedge('trust', 'retire', '--cut-off-operators', '--identity', ada, ...place), { status: 0, stdout: /CUT OFF.*bob/s });
  // The tower, as it shows itself now.
  const { port } = await apiWorld(t, tower);
  const now = ['--tower', `127.0.0.1:${port}`];
  t.match(await selvedge('trust', 'status', '--identity', ada, ...now, '--json'), { status: 0, stdout: /"phase":"stable"/ });
  t.match(await selvedge('trust', 'status', '--identity', bob, ...now), { status: 1, stderr: /\[fingerprint_mismatch\]/ });
  t.match(await selvedge('operator', 'renew', '--identity', ada, ...now), { status: 0, stderr: '' });
  const last = JSON.parse(readFileSync(ada, 'utf8')) as { fingerprint: string; roots?: string[] };
  t.strictSame([last.fingerprint, last.roots], [roots[1]?.fingerprint, undefined], 'the old one is forgotten');
});
