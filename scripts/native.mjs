/**
 * Builds the native parts: `node scripts/native.mjs`. Each is built only when its sources or the toolchain changed; where a
 * prebuilt package of exactly these sources is installed (see package-native.mjs) that is taken instead, and no toolchain is needed.
 */
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Missing, reporter } from './terminal.mjs';
import { cargo, go } from './toolchains.mjs';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** What builds a part, what comes out, and the name that the product knows it by. */
export const parts = [
  { name: 'session', toolchain: cargo, made: 'libselvedge_session.so', file: 'selvedge-session.node' },
  { name: 'link', toolchain: cargo, made: 'selvedge-link', file: 'selvedge-link' },
  { name: 'signer', toolchain: cargo, made: 'selvedge-signer', file: 'selvedge-signer' },
  { name: 'tunnel', toolchain: go, made: 'selvedge-tunnel', file: 'selvedge-tunnel' },
].map((part) => ({ ...part, folder: join(root, 'native', part.name) }));

/** Name of the package with the prebuilt parts for this platform. */
export const prebuiltName = `@selvedge/session-${process.platform}-${process.arch}`;

export const builtOf = (part) => join(part.folder, 'build', part.file);
const stampOf = (part) => join(part.folder, 'build', 'stamp');

/** SHA-256 over names and contents of everything that goes into a part. */
export function sourcesHash(part) {
  const hash = createHash('sha256');
  const { folder } = part;
  const walk = (at) => {
    for (const entry of readdirSync(at, { withFileTypes: true }).sort((left, right) => (left.name < right.name ? -1 : 1))) {
      const path = join(at, entry.name);
      if (entry.isDirectory()) {
        if (entry.name !== 'target' && entry.name !== 'build') walk(path);
      } else if (entry.isFile() && !entry.name.endsWith('.md')) {
        const bytes = readFileSync(path);
        hash.update(`${relative(folder, path)}\0${bytes.length}\0`).update(bytes);
      }
    }
  };
  walk(folder);
  return hash.digest('hex');
}

/** Brings every part up to date. @returns the names of those that had to be built */
export async function buildNative() {
  const versions = new Map();
  const built = [];
  for (const part of parts) {
    const { folder, name, toolchain } = part;
    if (!existsSync(join(folder, toolchain.manifest))) {
      throw new Missing(`native/${name}/${toolchain.manifest} is missing: the clone is not complete. Run \`git status\`.`);
    }
    if (!versions.has(toolchain)) versions.set(toolchain, await toolchain.version(folder));
    const version = versions.get(toolchain);
    const sources = sourcesHash(part);
    if (isCurrent(part, sources, version)) continue;
    built.push(name);
    const report = reporter(`native/${name}`);
    try {
      if (takePrebuilt(part, sources)) report.done('taken from the prebuilt package');
      else {
        install(part, await toolchain.build(part, report, prebuiltName), `${sources} ${version}`);
        report.done('built');
      }
    } catch (error) {
      report.failed();
      throw error;
    }
  }
  return built;
}

function isCurrent(part, sources, version) {
  if (!existsSync(builtOf(part)) || !existsSync(stampOf(part))) return false;
  const [stampSources, ...stampToolchain] = readFileSync(stampOf(part), 'utf8').trim().split(' ');
  // Without a toolchain, or made elsewhere, the sources decide alone.
  return stampSources === sources && (version === null || stampToolchain.join(' ') === 'prebuilt' || stampToolchain.join(' ') === version);
}

function takePrebuilt(part, sources) {
  const folder = join(root, 'node_modules', prebuiltName);
  if (!existsSync(join(folder, 'package.json'))) return false;
  const { selvedge } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  if (selvedge?.sources?.[part.name] !== sources) return false;
  install(part, join(folder, part.file), `${sources} prebuilt`);
  return true;
}

/** Puts the file in place by renaming: a process that has the old one loaded keeps it. */
function install(part, from, stamp) {
  const to = builtOf(part);
  mkdirSync(join(part.folder, 'build'), { recursive: true });
  copyFileSync(from, `${to}.new`);
  chmodSync(`${to}.new`, 0o755);
  renameSync(`${to}.new`, to);
  writeFileSync(stampOf(part), `${stamp}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const built = await buildNative();
    process.stdout.write(built.length === 0 ? 'native parts: up to date\n' : `native parts: ${built.join(', ')} ready\n`);
  } catch (error) {
    process.stderr.write(`\n${error instanceof Missing ? error.message : (error.stack ?? error)}\n`);
    process.exitCode = 1;
  }
}
