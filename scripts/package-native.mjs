/**
 * Makes the package with this platform's prebuilt native parts: `node scripts/package-native.mjs [FOLDER]` (default dist/native).
 * It writes the package's directory and packs it into a .tgz; it publishes nothing. A set-up that finds the package installed and
 * its source hashes equal to the sources here takes the files from it and needs neither Rust nor Go.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { buildNative, builtOf, parts, prebuiltName, root, sourcesHash } from './native.mjs';
import { run } from './terminal.mjs';

await buildNative();
const out = resolve(process.argv[2] ?? join(root, 'dist/native'));
const folder = join(out, prebuiltName.replace('@selvedge/', ''));
mkdirSync(folder, { recursive: true });
for (const part of parts) copyFileSync(builtOf(part), join(folder, part.file));
copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
const { version, license } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const manifest = {
  name: prebuiltName,
  version,
  description: `Prebuilt native parts of Selvedge for ${process.platform} ${process.arch}`,
  license,
  os: [process.platform],
  cpu: [process.arch],
  libc: ['glibc'],
  files: parts.map((part) => part.file),
  selvedge: { sources: Object.fromEntries(parts.map((part) => [part.name, sourcesHash(part)])) },
};
writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
const packed = await run('npm', ['pack', folder, '--pack-destination', out], { cwd: root });
process.stdout.write(`${folder}\n${join(out, packed.trim().split('\n').at(-1) ?? '')}\n`);
