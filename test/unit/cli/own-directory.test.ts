/** From which directory compiled code is loaded: one that nobody else can have put anything into. And what a disk that is full leaves in it. */
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { ownDirectory } from '../../../daemon/own-directory.ts';

const run = promisify(execFile);
const SOMEBODY = 54_321;

/** Packages, with what others have made of the two directories. */
function packages(t: Test): { readonly above: string; readonly path: string; readonly at: string } {
  const at = mkdtempSync(join(tmpdir(), 'selvedge-cache-'));
  t.teardown(() => rmSync(at, { recursive: true, force: true }));
  const above = join(at, '.cache');
  return { at, above, path: join(above, 'selvedge') };
}

t.test('it is made where it is not there, its owner’s alone, whatever modes are made here, and found again', async (t) => {
  const { path } = packages(t);
  const before = process.umask(0o002);
  t.teardown(() => process.umask(before));
  t.equal(ownDirectory(path), true);
  t.equal(statSync(path).mode & 0o777, 0o700);
  mkdirSync(join(path, 'v24'));
  t.equal(ownDirectory(path), true);
});

t.test('one that others may write to, or that is another’s, or a link, or a file, is refused, and so is one in such a directory', async (t) => {
  if (process.getuid?.() !== 0) return t.fail('needs root, to give a directory to somebody else');
  const cases: Readonly<Record<string, (place: ReturnType<typeof packages>) => void>> = {
    'the group may write': ({ path }) => chmodSync(path, 0o770),
    'everybody may write': ({ path }) => chmodSync(path, 0o1777),
    'it is another’s': ({ path }) => chownSync(path, SOMEBODY, SOMEBODY),
    'a directory in it is open': ({ path }) => {
      chmodSync(path, 0o755);
      mkdirSync(join(path, 'v24'));
      chmodSync(join(path, 'v24'), 0o777);
    },
    'a directory in it is another’s': ({ path }) => {
      chmodSync(path, 0o755);
      mkdirSync(join(path, 'v24'));
      chownSync(join(path, 'v24'), SOMEBODY, SOMEBODY);
    },
    'it is a link': ({ path, at }) => {
      rmSync(path, { recursive: true });
      mkdirSync(join(at, 'elsewhere'));
      symlinkSync(join(at, 'elsewhere'), path);
    },
    'it is a file': ({ path }) => {
      rmSync(path, { recursive: true });
      writeFileSync(path, '');
    },
    'everybody may write to the one above': ({ above }) => chmodSync(above, 0o1777),
    'the one above is another’s': ({ above }) => chownSync(above, SOMEBODY, SOMEBODY),
  };
  for (const [name, spoil] of Object.entries(cases)) {
    const place = packages(t);
    t.equal(ownDirectory(place.path), true);
    spoil(place);
    t.equal(ownDirectory(place.path), false, name);
  }
  const mine = packages(t);
  ownDirectory(mine.path);
  chmodSync(mine.path, 0o755);
  mkdirSync(join(mine.path, 'v24'));
  t.equal(ownDirectory(mine.path), true, 'one that others may only look into');
  t.equal(statSync(mine.path).mode & 0o777, 0o700, 'and may not any more');
});

t.test('on a full disk programs do without, and what was half written is not loaded', async (t) => {
  if (process.getuid?.() !== 0) return t.fail('needs root, to mount a file system of its own that can be full');
  const at = mkdtempSync(join(tmpdir(), 'selvedge-cache-'));
  t.teardown(() => rmSync(at, { recursive: true, force: true }));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'selvedge-test', at]);
  t.teardown(() => run('umount', [at]));
  const program = join(at, 'program.mjs');
  const path = join(at, '.cache', 'selvedge');
  const own = new URL('../../../daemon/own-directory.ts', import.meta.url).href;
  const answer = Array.from({ length: 200 }, (_, index) => `export function f${index}(x) { return x + ${index}; }`).join('\n');
  writeFileSync(join(at, 'part.mjs'), `${answer}\nconsole.log('answer', f7(35));`);
  writeFileSync(
    program,
    `import { enableCompileCache } from 'node:module';
import { ownDirectory } from ${JSON.stringify(own)};
if (ownDirectory(${JSON.stringify(path)})) enableCompileCache(${JSON.stringify(path)});
await import('./part.mjs');`,
  );
  const start = async () => t.match(await run(process.execPath, [program], { env: { PATH: process.env.PATH } }), { stdout: 'answer 42\n' });
  const ballast = join(at, 'ballast');
  await t.rejects(run('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4096']), 'it is full');
  await start();
  truncateSync(ballast, 0);
  await start();
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((found) => found.isFile());
  t.ok(files.length > 0, 'with room, it is kept');
  for (const { parentPath, name } of files) truncateSync(join(parentPath, name), Math.floor(statSync(join(parentPath, name)).size / 2));
  await start();
});
