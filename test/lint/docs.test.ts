/** The documents say what the code does. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { failureReasonsPath, renderFailureReasons } from '../../scripts/failure-reasons.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

t.test('docs/failure-reasons.md is what the error table says (npx node scripts/failure-reasons.ts makes it)', async (t) => {
  t.equal(readFileSync(failureReasonsPath, 'utf8'), renderFailureReasons());
});

t.test('every link between the documents leads to a file', async (t) => {
  const broken: string[] = [];
  for (const file of globSync('{*.md,docs/*.md,{src,daemon,native,bench,configs,scripts}/**/README.md}', {
    cwd: root,
    exclude: ['**/node_modules/**', '**/target/**'],
  })) {
    const text = readFileSync(join(root, file), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (!/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(file), target))) broken.push(`${file}: ${target}`);
    }
  }
  t.same(broken, []);
});

t.test('docs/cli.md has every command and option of the command line', async (t) => {
  const text = readFileSync(join(root, 'docs/cli.md'), 'utf8');
  const missing: string[] = [];
  for (const file of globSync('daemon/{tower,selvedged}.ts', { cwd: root }).concat(globSync('daemon/cli/*.ts', { cwd: root }))) {
    const source = readFileSync(join(root, file), 'utf8');
    for (const [, flag = ''] of source.matchAll(/\.(?:option|requiredOption)\('(--[a-z-]+)/g))
      if (!text.includes(`\`${flag}`)) missing.push(`${file}: ${flag}`);
    for (const [, name = ''] of source.matchAll(/(?:new Command|\.command)\('([a-z]+)'\)/g))
      if (!new RegExp(`\`[^\`\\n]*\\b${name}\\b`).test(text)) missing.push(`${file}: ${name}`);
  }
  t.same(missing, []);
});
