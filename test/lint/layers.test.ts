/**
 * Reads every source file and holds the layers: imports go down only, modules of one row do not import each other, the pure
 * folders know neither node nor packages nor a clock, and one file alone loads the native addon.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** From the bottom up; a module may import from rows below its own, and from itself. */
const rows: readonly (readonly string[])[] = [
  ['base'],
  ['config', 'policy'],
  ['channel'],
  ['native.ts'],
  ['native-tls.ts'],
  ['identity'],
  ['transport', 'api'],
  ['overlay', 'services', 'relay', 'enroll', 'peering'],
  ['observe'],
  ['node', 'tower', 'lab'],
  ['daemon'],
];
const pure = new Set(['base', 'policy', 'channel']);

interface Import {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
}

/** Module of a path from the root, as named in `rows`: `src/identity/verify.ts` → `identity`. */
function moduleOf(path: string): string | null {
  const [top, second] = path.split('/');
  if (top === 'daemon') return 'daemon';
  return top === 'src' ? (second ?? null) : null;
}

function rowOf(module: string): number {
  return rows.findIndex((row) => row.includes(module));
}

/** The text with comments blanked (line numbers stay), so that neither prose nor examples count. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' ')).replace(/(^|[^:'"`])\/\/.*$/gm, '$1');
}

function importsOf(file: string): Import[] {
  const text = withoutComments(readFileSync(join(root, file), 'utf8'));
  const found: Import[] = [];
  const pattern = /(?:^|[\s;}])(?:import|export)\s(?:[^'";]*?\sfrom\s*)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;
  for (const match of text.matchAll(pattern)) {
    const specifier = match[1] ?? match[2];
    if (specifier !== undefined) found.push({ file, line: text.slice(0, match.index + 1).split('\n').length, specifier });
  }
  return found;
}

const files = globSync('{src,daemon}/**/*.ts', { cwd: root }).sort();
const imports = files.flatMap(importsOf);

t.test('every folder of src has its row', async (t) => {
  const unplaced = new Set(files.map(moduleOf).filter((module) => module === null || rowOf(module) < 0));
  t.same([...unplaced], []);
});

t.test('imports go down only, and modules of one row do not import each other', async (t) => {
  const wrong: string[] = [];
  for (const { file, line, specifier } of imports) {
    if (!specifier.startsWith('.')) continue;
    const from = moduleOf(file);
    const to = moduleOf(normalize(join(dirname(file), specifier)));
    if (from === null) continue;
    if (to === null) wrong.push(`${file}:${line}: '${specifier}' leads out of src and daemon`);
    else if (to !== from && rowOf(to) >= rowOf(from)) wrong.push(`${file}:${line}: ${from} may not import ${to}`);
  }
  t.same(wrong, []);
});

t.test('base, policy and channel import no package and no node: module', async (t) => {
  const wrong = imports.filter(({ file, specifier }) => pure.has(moduleOf(file) ?? '') && !specifier.startsWith('.'));
  t.same(wrong, []);
});

t.test('base, policy and channel have no clock, timer, randomness or process', async (t) => {
  const wrong: string[] = [];
  for (const file of files.filter((path) => pure.has(moduleOf(path) ?? ''))) {
    // What stands in string literals is prose for people.
    const text = withoutComments(readFileSync(join(root, file), 'utf8')).replace(/'(?:[^'\\\n]|\\.)*'/g, "''");
    for (const [index, line] of text.split('\n').entries()) {
      const match =
        /\bMath\.random\b|\bDate\b|\bperformance\b|\bset(Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bprocess\.|\bBuffer\b|\bglobalThis\b/.exec(line);
      if (match !== null) wrong.push(`${file}:${index + 1}: ${match[0]}`);
    }
  }
  t.same(wrong, []);
});

t.test('only src/native.ts loads a native addon', async (t) => {
  const wrong = files.filter(
    (file) => file !== 'src/native.ts' && /\bprocess\.dlopen\b|\.node['"`]|\bcreateRequire\b/.test(withoutComments(readFileSync(join(root, file), 'utf8'))),
  );
  t.same(wrong, []);
});
