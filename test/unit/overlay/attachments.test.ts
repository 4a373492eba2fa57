/** Attachments and the namespaces behind them: remembered over a restart, and never given to another process of the same number. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Attachments, defaultAttachmentName } from '../../../src/overlay/attachments.ts';
import { findNamespace, isThere } from '../../../src/overlay/namespaces.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';

const web = { network: 'shop', name: 'web', netns: '/run/netns/web', birth: null, interface: 'shop0' };

t.test('attachments outlive a restart, and one name has one namespace', async (t) => {
  const path = join(freshDirectory(t), 'app-attachments.json');
  const attachments = await Attachments.load(path);
  t.same(attachments.list, []);
  await attachments.put(web);
  await attachments.put({ ...web, interface: 'eth0' });
  await attachments.put({ ...web, network: 'other' });
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.same((await Attachments.load(path)).list, [
    { ...web, interface: 'eth0' },
    { ...web, network: 'other' },
  ]);
  await attachments.remove('shop', 'web');
  t.equal(attachments.find('shop', 'web'), undefined);
  t.same((await Attachments.load(path)).list, [{ ...web, network: 'other' }]);
});

t.test('a list that is damaged is named, and not written over', async (t) => {
  const path = join(freshDirectory(t), 'app-attachments.json');
  for (const text of ['', 'x', '{}', '{"format":2,"attachments":[]}', JSON.stringify({ format: 1, attachments: [{ ...web, netns: 1 }] })]) {
    writeFileSync(path, text);
    await rejectsWith(t, Attachments.load(path), 'store_damaged');
    t.equal(readFileSync(path, 'utf8'), text);
  }
});

t.test('a namespace is found by a process in it, and gone with that process', async (t) => {
  const child = spawn('sleep', ['60']);
  await once(child, 'spawn');
  const found = await findNamespace(String(child.pid));
  t.match(found, { netns: `pid:${child.pid}`, birth: /^[0-9a-f-]{36}\/\d+$/ });
  t.equal(await isThere(found), true);
  t.same(await findNamespace(found.netns), found, 'as it is written in the state');
  t.equal(await isThere({ ...found, birth: 'another boot/1' }), false, 'the same number in another boot is another process');
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.equal(await isThere(found), false);
  await rejectsWith(t, findNamespace(String(child.pid)), 'namespace_missing');
});

t.test('a namespace is found by path; what cannot be one is refused', async (t) => {
  t.same(await findNamespace('/proc/self/ns/net'), { netns: '/proc/self/ns/net', birth: null });
  await rejectsWith(t, findNamespace('no-such-namespace'), 'namespace_missing');
  await rejectsWith(t, findNamespace('/no/such'), 'namespace_missing');
  await rejectsWith(t, findNamespace('0'), 'namespace_missing');
  for (const bad of ['../etc', 'a/b', '', 'a b', '-x', `/${'x'.repeat(2_000)}`, '/a\0b']) await rejectsWith(t, findNamespace(bad), 'argument_invalid');
});

t.test('an attachment is called after its namespace', async (t) => {
  const name = (netns: string) => defaultAttachmentName({ netns, birth: null });
  t.equal(name('/run/netns/web'), 'web');
  t.equal(name('pid:42'), 'pid-42');
  t.equal(name('/run/netns/-my web-'), 'my-web-');
  t.equal(name('/'), 'namespace');
});
