/** Files over a mesh in memory: what arrives is what was sent, once, whatever happens in between. */
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { isPartName, numberedName, partName, safeName } from '../../../src/services/file-names.ts';
import { type FileReceiver, serveFiles } from '../../../src/services/file-receive.ts';
import { type SendProgress, sendFile } from '../../../src/services/file-send.ts';
import { encodeWord } from '../../../src/services/file-wire.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { MemoryNet } from './memory-mesh.ts';

const SENDER = 'aaaaaaaaaaaa';
const RECEIVER = 'bbbbbbbbbbbb';
const MIB = 1024 * 1024;
const run = promisify(execFile);

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function setUp(t: Test, content: Uint8Array) {
  const folder = t.testdir();
  const path = join(folder, 'report.bin');
  writeFileSync(path, content);
  const net = new MemoryNet();
  const inboxPath = join(folder, 'inbox');
  const inbox: FileReceiver = await serveFiles(net.mesh(RECEIVER), { inbox: inboxPath, timers: systemTimers });
  t.teardown(() => inbox.close());
  return { net, path, inboxPath, inbox, mesh: net.mesh(SENDER) };
}

t.test('a file arrives byte for byte, and the sender hears its digest', async (t) => {
  const content = randomBytes(3 * MIB + 17);
  const { path, inboxPath, mesh, net } = await setUp(t, content);
  const progress: SendProgress[] = [];
  const result = await sendFile(mesh, systemTimers, { node: RECEIVER, path, onProgress: (one) => progress.push(one) });
  t.equal(result.sha256, sha256(content));
  t.equal(result.bytes, content.length);
  t.equal(result.sent_bytes, content.length);
  t.same(readdirSync(inboxPath), ['report.bin']);
  t.equal(sha256(readFileSync(join(inboxPath, 'report.bin'))), sha256(content));
  t.equal(statSync(join(inboxPath, 'report.bin')).mode & 0o777, 0o600);
  t.match(progress[0], { bytes: 0, total: content.length, transport: 'memory' });
  t.equal(net.flows.size, 0, 'no flow is left open');
});

t.test('an empty file arrives', async (t) => {
  const { path, inboxPath, mesh } = await setUp(t, new Uint8Array(0));
  t.equal((await sendFile(mesh, systemTimers, { node: RECEIVER, path })).bytes, 0);
  t.equal(statSync(join(inboxPath, 'report.bin')).size, 0);
});

t.test('a peer cannot take the last files of a disk, by empty ones or by transfers that never begin', async (t) => {
  if (process.getuid?.() !== 0) return t.fail('needs root, to mount a file system of its own that has few files');
  const { path, inboxPath, mesh } = await setUp(t, new Uint8Array(0));
  await run('mount', ['-t', 'tmpfs', '-o', `size=128m,nr_inodes=${limits.transfer_disk_reserve_files + 8}`, 'selvedge-test', inboxPath]);
  try {
    const free = () => statfsSync(inboxPath).ffree;
    await t.rejects(
      async () => {
        for (;;) await sendFile(mesh, systemTimers, { node: RECEIVER, path });
      },
      { code: 'disk_full' },
    );
    const left = free();
    t.ok(left >= limits.transfer_disk_reserve_files - 1, `${left} are left`);
    await t.rejects(sendFile(mesh, systemTimers, { node: RECEIVER, path }), { code: 'disk_full' });
    t.equal(free(), left, 'a refused transfer leaves no file behind');
    t.notOk(readdirSync(inboxPath).some(isPartName));
  } finally {
    await run('umount', [inboxPath]);
  }
});

t.test('a transfer goes on at the receiver’s offset after its flow is lost', async (t) => {
  const content = randomBytes(8 * MIB);
  const { path, inboxPath, mesh, net } = await setUp(t, content);
  net.cutAfter(5 * MIB);
  const result = await sendFile(mesh, systemTimers, { node: RECEIVER, path });
  t.equal(net.opened, 2);
  t.ok(net.carriedBytes < content.length + 3 * MIB, `sent again only what was on the way: ${net.carriedBytes - content.length}`);
  t.equal(sha256(readFileSync(join(inboxPath, result.name))), sha256(content));
  t.same(readdirSync(inboxPath), ['report.bin'], 'no part file is left');
});

t.test('another run resumes what an interrupted one began', async (t) => {
  const content = randomBytes(8 * MIB);
  const { path, inboxPath, mesh, net } = await setUp(t, content);
  const interruption = new AbortController();
  net.cutAfter(5 * MIB);
  const open: typeof mesh.open = (...args) => {
    if (net.opened > 0) interruption.abort();
    return mesh.open(...args);
  };
  await t.rejects(sendFile({ ...mesh, open }, systemTimers, { node: RECEIVER, path, signal: interruption.signal }), { code: 'shutting_down' });
  t.ok(readdirSync(inboxPath).every(isPartName));
  const result = await sendFile(mesh, systemTimers, { node: RECEIVER, path });
  t.ok(result.sent_bytes < content.length, `only ${result.sent_bytes} bytes were sent by the second run`);
  t.equal(sha256(readFileSync(join(inboxPath, result.name))), sha256(content));
});

t.test('a file that is there already is never replaced', async (t) => {
  const { path, inboxPath, mesh } = await setUp(t, Buffer.from('new'));
  writeFileSync(join(inboxPath, 'report.bin'), 'old');
  symlinkSync('/etc/hostname', join(inboxPath, 'report-1.bin'));
  const { name } = await sendFile(mesh, systemTimers, { node: RECEIVER, path });
  t.equal(name, 'report-2.bin');
  t.equal(readFileSync(join(inboxPath, 'report.bin'), 'utf8'), 'old');
});

t.test('a file that changes while it is read is refused with file_changed', async (t) => {
  const { path, mesh } = await setUp(t, randomBytes(4 * MIB));
  const open: typeof mesh.open = (...args) => {
    appendFileSync(path, 'more');
    return mesh.open(...args);
  };
  await t.rejects(sendFile({ ...mesh, open }, systemTimers, { node: RECEIVER, path }), { code: 'file_changed' });
});

t.test('what was kept is read again only for as long as somebody waits for it', async (t) => {
  const { inboxPath, mesh, inbox } = await setUp(t, new Uint8Array(0));
  const transfer = 'ab'.repeat(16);
  const part = join(inboxPath, partName('large', SENDER, transfer));
  writeFileSync(part, '');
  truncateSync(part, 512 * 1024 * MIB);
  const flow = mesh.open(RECEIVER, 'file_transfer', 'stream', 'files');
  flow.write(encodeWord({ v: 1, transfer, name: 'large', size: 1024 * 1024 * MIB, again: true }));
  await new Promise((resolve) => setImmediate(resolve));
  flow.reset('flow_reset', 'given up');
  await inbox.close();
  t.ok(existsSync(part), 'it took no hour, and the part is still there');
});

t.test('damage in what the receiver kept is found by the digest, and not kept', async (t) => {
  const content = randomBytes(2 * MIB);
  const { path, inboxPath, mesh, net } = await setUp(t, content);
  net.cutAfter(MIB);
  const interruption = new AbortController();
  const open: typeof mesh.open = (...args) => {
    if (net.opened > 0) interruption.abort();
    return mesh.open(...args);
  };
  await t.rejects(sendFile({ ...mesh, open }, systemTimers, { node: RECEIVER, path, signal: interruption.signal }), { code: 'shutting_down' });
  const [part] = readdirSync(inboxPath);
  t.ok(part !== undefined && isPartName(part));
  const kept = readFileSync(join(inboxPath, part ?? ''));
  if (kept.length === 0) appendFileSync(join(inboxPath, part ?? ''), 'x');
  else writeFileSync(join(inboxPath, part ?? ''), Buffer.concat([Buffer.from([(kept[0] ?? 0) ^ 1]), kept.subarray(1)]));
  await t.rejects(sendFile(mesh, systemTimers, { node: RECEIVER, path }), { code: 'digest_mismatch' });
  t.same(readdirSync(inboxPath), []);
});

t.test('without a channel the sender waits for its patience and then says why', async (t) => {
  const { path, mesh, net } = await setUp(t, Buffer.from('content'));
  net.isConnected = false;
  await t.rejects(sendFile(mesh, systemTimers, { node: RECEIVER, path, patience_ms: 250 }), { code: 'not_connected' });
});

t.test('a missing file, a directory and a missing service are named', async (t) => {
  const { path, mesh } = await setUp(t, Buffer.from('content'));
  await t.rejects(sendFile(mesh, systemTimers, { node: RECEIVER, path: `${path}.none` }), { code: 'not_found' });
  await t.rejects(sendFile(mesh, systemTimers, { node: RECEIVER, path: t.testdirName }), { code: 'argument_invalid' });
  await t.rejects(sendFile(mesh, systemTimers, { node: 'cccccccccccc', path }), { code: 'flow_refused' });
});

t.test('the receiver refuses garbage, an oversized word and an impossible size', async (t) => {
  const { mesh, inboxPath } = await setUp(t, new Uint8Array(0));
  const garbage = [
    Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 2, 3]),
    Buffer.concat([Buffer.from([0, 0, 0, 4]), Buffer.from('nope')]),
    encodeWord({ v: 1, transfer: 'x', name: 'n', size: 1, again: false }),
    encodeWord({ v: 1, transfer: '0'.repeat(32), name: 'n', size: -1, again: false }),
    encodeWord({ v: 1, transfer: '0'.repeat(32), name: 'n', size: 2 ** 60, again: false }),
    encodeWord({ v: 99, transfer: '0'.repeat(32), name: 'n', size: 1, again: false }),
  ];
  for (const bytes of garbage) {
    const flow = mesh.open(RECEIVER, 'file_transfer', 'stream', 'files');
    flow.write(bytes);
    await flow.readable();
    const answer = Buffer.from(flow.read() ?? new Uint8Array(0))
      .subarray(4)
      .toString();
    t.match(answer, /"error":\{"code":"(flow_violation|version_unsupported)"/);
    flow.end();
    await flow.closed;
  }
  t.same(readdirSync(inboxPath), []);
});

t.test('a sender cannot leave the inbox by a name', async (t) => {
  const { mesh, inboxPath } = await setUp(t, new Uint8Array(0));
  const flow = mesh.open(RECEIVER, 'file_transfer', 'stream', 'files');
  flow.write(encodeWord({ v: 1, transfer: '1'.repeat(32), name: '../../etc/cron.d/evil', size: 2, again: false }));
  flow.write(Buffer.from('hi'));
  flow.write(encodeWord({ sha256: sha256(Buffer.from('hi')) }));
  flow.end();
  while (await flow.readable()) flow.read();
  t.same(readdirSync(inboxPath), ['evil']);
});

t.test('the answer to a finished transfer that was lost is given again, without a second copy', async (t) => {
  const { mesh, inboxPath } = await setUp(t, new Uint8Array(0));
  const run = async (again: boolean) => {
    const flow = mesh.open(RECEIVER, 'file_transfer', 'stream', 'files');
    flow.write(encodeWord({ v: 1, transfer: '5'.repeat(32), name: 'once', size: 0, again }));
    flow.write(encodeWord({ sha256: sha256(new Uint8Array(0)) }));
    flow.end();
    while (await flow.readable()) flow.read();
  };
  await run(false);
  await run(true);
  t.same(readdirSync(inboxPath), ['once'], 'asked again');
  await run(false);
  t.same(readdirSync(inboxPath).sort(), ['once', 'once-1'], 'sent anew');
});

t.test('a second flow of a transfer takes over from the first', async (t) => {
  const { mesh, inboxPath } = await setUp(t, new Uint8Array(0));
  const header = encodeWord({ v: 1, transfer: '2'.repeat(32), name: 'taken', size: 4, again: false });
  const first = mesh.open(RECEIVER, 'file_transfer', 'stream', 'files');
  first.write(header);
  await first.readable();
  const second = mesh.open(RECEIVER, 'file_transfer', 'stream', 'files');
  second.write(header);
  t.match(await first.closed, { code: 'replaced' });
  await second.readable();
  t.match(Buffer.from(second.read() ?? new Uint8Array(0)).toString(), /"have":0/);
  second.reset('flow_reset', 'the test is over');
  t.ok(readdirSync(inboxPath).every(isPartName));
});

t.test('part files that nobody came back for are removed when the inbox opens', async (t) => {
  const folder = t.testdir();
  const inboxPath = join(folder, 'inbox');
  mkdirSync(inboxPath);
  const old = join(inboxPath, partName('old', SENDER, '3'.repeat(32)));
  const fresh = join(inboxPath, partName('fresh', SENDER, '4'.repeat(32)));
  for (const path of [old, fresh]) writeFileSync(path, 'x');
  utimesSync(old, 0, 0);
  const inbox = await serveFiles(new MemoryNet().mesh(RECEIVER), { inbox: inboxPath, timers: systemTimers });
  t.notOk(existsSync(old));
  t.ok(existsSync(fresh));
  await inbox.close();
});

t.test('whatever a sender calls a file, its name is plain, short and in the inbox', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), fc.nat(9_999), (wish, number) => {
      const name = safeName(wish);
      const numbered = numberedName(name, number);
      const part = partName(name, SENDER, '0'.repeat(32));
      for (const one of [name, numbered, part]) {
        if (one === '' || one === '.' || one === '..' || /[/\\\p{Cc}]/u.test(one)) return false;
        if (Buffer.byteLength(one) > 255) return false;
      }
      return !name.startsWith('.') && isPartName(part) && (number === 0 || numbered !== name);
    }),
  );
  t.equal(safeName('../../x'), 'x');
  t.equal(numberedName('a.tar.gz', 3), 'a.tar-3.gz');
});
