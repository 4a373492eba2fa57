/**
 * Builds the native parts: `node scripts/native.mjs`. Each is built only when its sources or the toolchain changed; where a
 * prebuilt package of exactly these sources is installed (see package-native.mjs) that is taken instead, and no toolchain is needed.
 */
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findProgram, Missing, reporter, run } from './terminal.mjs';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** What cargo makes of a part, and the name that the product loads it by. */
export const parts = [
  { name: 'session', made: 'libselvedge_session.so', file: 'selvedge-session.node' },
  { name: 'link', made: 'selvedge-link', file: 'selvedge-link' },
];

/** Name of the package with the prebuilt parts for this platform. */
export const prebuiltName = `@selvedge/session-${process.platform}-${process.arch}`;

const folderOf = (part) => join(root, 'native', part.name);
export const manifestOf = (part) => join(folderOf(part), 'Cargo.toml');
export const builtOf = (part) => join(folderOf(part), 'build', part.file);
export const targetOf = (part) => process.env.CARGO_TARGET_DIR ?? join(folderOf(part), 'target');
const stampOf = (part) => join(folderOf(part), 'build', 'stamp');

/** SHA-256 over names and contents of everything that goes into a part. */
export function sourcesHash(part) {
  const hash = createHash('sha256');
  const folder = folderOf(part);
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
  const toolchain = await toolchainVersion();
  const built = [];
  for (const part of parts) {
    if (!existsSync(manifestOf(part))) throw new Missing(`native/${part.name}/Cargo.toml is missing: the clone is not complete. Run \`git status\`.`);
    const sources = sourcesHash(part);
    if (isCurrent(part, sources, toolchain)) continue;
    built.push(part.name);
    const report = reporter(`native/${part.name}`);
    try {
      if (takePrebuilt(part, sources)) report.done('taken from the prebuilt package');
      else await build(part, sources, toolchain, report);
    } catch (error) {
      report.failed();
      throw error;
    }
  }
  return built;
}

function isCurrent(part, sources, toolchain) {
  if (!existsSync(builtOf(part)) || !existsSync(stampOf(part))) return false;
  const [stampSources, ...stampToolchain] = readFileSync(stampOf(part), 'utf8').trim().split(' ');
  // Without a toolchain, or made elsewhere, the sources decide alone.
  return stampSources === sources && (toolchain === null || stampToolchain.join(' ') === 'prebuilt' || stampToolchain.join(' ') === toolchain);
}

async function toolchainVersion() {
  const rustc = findProgram('rustc');
  if (rustc === null) return null;
  const text = await run(rustc, ['-vV'], { cwd: root });
  return text.replace(/\s+/g, ' ').trim();
}

function takePrebuilt(part, sources) {
  const folder = join(root, 'node_modules', prebuiltName);
  if (!existsSync(join(folder, 'package.json'))) return false;
  const { selvedge } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  if (selvedge?.sources?.[part.name] !== sources) return false;
  install(part, join(folder, part.file), `${sources} prebuilt`);
  return true;
}

async function build(part, sources, toolchain, report) {
  const cargo = findProgram('cargo');
  if (cargo === null || toolchain === null) {
    throw new Missing(
      `Rust is missing: native/${part.name} is built with cargo, and no prebuilt package ${prebuiltName} of this version is installed.\n` +
        "Get it:  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal\n" +
        'then run this again (a new shell is not needed). The Rust of Debian 12 is too old.',
    );
  }
  if (findProgram('cc') === null) {
    throw new Missing('A C compiler is missing: Rust links with `cc`.\nGet it:  apt-get install gcc libc6-dev   (or what your distribution calls them)');
  }
  const crates = readFileSync(join(folderOf(part), 'Cargo.lock'), 'utf8').split('[[package]]').length - 1;
  let compiled = 0;
  report.start(`building, up to ${crates} crates (minutes the first time)`);
  await run(cargo, ['build', '--release', '--locked', '--manifest-path', manifestOf(part), '--target-dir', targetOf(part)], {
    cwd: folderOf(part),
    onLine(line) {
      if (/^\s*(Compiling|Checking) /.test(line)) report.progress(`${++compiled} crates compiled, now${line.replace(/^\s*\w+/, '')}`);
    },
  });
  install(part, join(targetOf(part), 'release', part.made), `${sources} ${toolchain}`);
  report.done('built');
}

/** Puts the file in place by renaming: a process that has the old one loaded keeps it. */
function install(part, from, stamp) {
  const to = builtOf(part);
  mkdirSync(join(folderOf(part), 'build'), { recursive: true });
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
