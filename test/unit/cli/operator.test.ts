/** Operators from the command line: a bundle made at the tower, redeemed elsewhere, and the tower asked from afar over real TLS. */
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { operatorWorld, selvedge } from './operator-world.ts';

t.setTimeout(180_000);

t.test('a bundle made at the tower becomes an identity elsewhere, by which every command asks the tower from afar', async (t) => {
  const { folder, tower, at, place, bundle, redeem } = await operatorWorld(t);
  const [path, identity] = [await bundle('ada'), join(folder, 'ada.json')];
  t.match(await redeem(path, identity), { status: 0, stdout: /^this is operator ada \([0-9a-f]{12}\) of alpha/ });
  t.equal(statSync(identity).mode & 0o777, 0o600);
  const as = ['--identity', identity, ...place];
  t.match(await selvedge('session', 'show', ...as), { status: 0, stdout: /^operator:[0-9a-f]{12}, scopes management, client\n$/ });
  t.match(await selvedge('token', 'create', '--uses', '3', ...as), { status: 0, stdout: /^svt_/ });
  t.match(await selvedge('token', 'list', ...as), { status: 0, stdout: /0 of 3/ });
  t.match(await selvedge('app', 'create', 'shop', '--subnet', '10.9.0.0/24', ...as), { status: 0 });
  t.match(await selvedge('app', 'list', ...as), { status: 0, stdout: /^shop/m });
  const listed = JSON.parse((await selvedge('operator', 'list', '--json', ...as)).stdout) as { operators: { id: string; name: string }[] };
  t.match(listed, { operators: [{ name: 'ada', scopes: ['management', 'client'], revoked_ms: null }] });
  t.match(await selvedge('operator', 'list', ...at), { status: 0, stdout: /ada +management, client +valid for 36[45] days/ });
  const session = await selvedge('session', 'create', '--scope', 'client', ...as);
  t.match(session, { status: 0, stdout: /^svs_[A-Za-z0-9_-]{43}\n$/ });
  t.match(await selvedge('session', 'list', ...as), { status: 0, stdout: /operator:[0-9a-f]{12} +client/ });
  const [row] = (await tower.audit(0, 100)).filter(({ action }) => action === 'session.create');
  t.equal(row?.actor, `operator:${listed.operators[0]?.id}`);
  t.match(await selvedge('session', 'revoke', row?.subject ?? '', ...as), { status: 0, stdout: /has ended/ });
  t.match(await selvedge('operator', 'revoke', 'ada', ...at), { status: 0, stdout: /operator ada .* is revoked/ });
  t.match(await selvedge('token', 'list', ...as), { status: 1, stderr: /\[certificate_revoked\]/ });
  t.match(await selvedge('operator', 'list', ...at), { status: 0, stdout: /revoked/ });
});

t.test('an identity file that others may read, half a one, and an address of somebody else’s tower are refused before anything is asked', async (t) => {
  const { folder, at, place, bundle, redeem } = await operatorWorld(t);
  const [path, identity] = [await bundle('ada'), join(folder, 'ada.json')];
  await redeem(path, identity);
  t.match(await redeem(path, identity), { status: 1, stderr: /\[file_exists\]/ }, 'redeemed already');
  chmodSync(identity, 0o640);
  t.match(await selvedge('token', 'list', '--identity', identity, ...place), { status: 1, stderr: /mode is 0640.*\[identity_file_invalid\]/s });
  chmodSync(identity, 0o600);
  const other = await operatorWorld(t);
  t.match(await selvedge('token', 'list', '--identity', identity, ...other.place), { status: 1, stderr: /\[fingerprint_mismatch\]/ });
  t.match(await selvedge('token', 'list', '--identity', join(folder, 'none'), ...place), { status: 1, stderr: /\[not_found\]/ });
  writeFileSync(join(folder, 'noise'), '{"format":1}', { mode: 0o600 });
  t.match(await selvedge('token', 'list', '--identity', join(folder, 'noise'), ...place), { status: 1, stderr: /\[identity_file_invalid\]/ });
  t.match(await selvedge('token', 'list', ...place), { status: 2, stderr: /give --identity FILE/ });
  t.match(await selvedge('token', 'list', '--identity', identity, ...at), { status: 2 }, 'a socket and a tower elsewhere at once');
  t.match(await selvedge('token', 'list', '--identity', identity, '--tower', '127.0.0.1:1'), { status: 1, stderr: /\[network_unreachable\]/ });
});

t.test('redeeming goes on with the same key after it could reach nobody; a second redeemer is told that the bundle is gone', async (t) => {
  const { folder, bundle, redeem } = await operatorWorld(t);
  const [path, identity] = [await bundle('ada'), join(folder, 'ada.json')];
  const nobody = await selvedge('operator', 'redeem', '--bundle-file', path, '--identity', identity, '--tower', '127.0.0.1:1');
  t.match(nobody, { status: 1, stderr: /\[network_unreachable\]/ });
  t.ok(existsSync(identity));
  const { key } = JSON.parse(readFileSync(identity, 'utf8')) as { key: string };
  t.match(await redeem(path, identity), { status: 0 });
  t.equal((JSON.parse(readFileSync(identity, 'utf8')) as { key: string }).key, key);
  const thief = await redeem(path, join(folder, 'thief.json'));
  t.match(thief, { status: 1, stderr: /\[bundle_redeemed\]/ });
  t.notOk(existsSync(join(folder, 'thief.json')), 'a key that nothing will certify is not left behind');
  const { secret } = JSON.parse(readFileSync(path, 'utf8')) as { secret: string };
  t.notMatch(thief.stderr + thief.stdout, secret);
  writeFileSync(path, 'svb_noise');
  t.match(await redeem(path, join(folder, 'x.json')), { status: 1, stderr: /\[bundle_invalid\]/ });
});
