/** What the daemons say is in the vocabulary, and the vocabulary is what docs say. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { eventsPath, metricsPath, renderEvents, renderMetrics } from '../../scripts/observe-docs.ts';
import { fields, messages } from '../../src/observe/vocabulary.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Each call of a log: the messages that it may say, and the fields that it names. */
function* calls(): Generator<{ readonly where: string; readonly messages: readonly string[]; readonly fields: readonly string[] }> {
  for (const file of globSync('{src,daemon}/**/*.ts', { cwd: root, exclude: ['src/lab/**'] })) {
    const source = readFileSync(join(root, file), 'utf8');
    for (const match of source.matchAll(/(?<![\w.]Math\.)\blog\((?=[^)]*['"])/g)) {
      const [said = '', facts = ''] = argumentsOf(source, match.index + match[0].length);
      const told = [...said.replace(/^[^?]*\?/, '').matchAll(/'([^']*)'|"([^"]*)"/g)].map(([, single, double]) => single ?? double ?? '');
      if (told.length > 0) yield { where: `${file}:${source.slice(0, match.index).split('\n').length}`, messages: told, fields: keysOf(facts) };
    }
  }
}

/** The texts of the arguments from here on, by commas outside of brackets and quotes. */
function argumentsOf(source: string, from: number): string[] {
  const found = [''];
  let depth = 0;
  let quote = '';
  for (const char of source.slice(from)) {
    if (quote !== '') quote = char === quote ? '' : quote;
    else if (`'"\``.includes(char)) quote = char;
    else if ('([{'.includes(char)) depth++;
    else if (')]}'.includes(char) && depth-- === 0) break;
    if (char === ',' && depth === 0 && quote === '') found.push('');
    else found[found.length - 1] += char;
  }
  return found;
}

/** Keys of an object literal; what is spread into it is judged where it is made. */
function keysOf(text: string): string[] {
  const inner = /^\s*\{([\s\S]*)\}\s*$/.exec(text)?.[1];
  if (inner === undefined) return [];
  return argumentsOf(inner, 0).flatMap((entry) => /^\s*(\w+)\s*(?::|$)/.exec(entry)?.[1] ?? []);
}

t.test('every message and field of the log is in the vocabulary (src/observe/vocabulary.ts), and no message there is said by nobody', async (t) => {
  const said = new Set<string>(['channel state']);
  const unknown: string[] = [];
  for (const call of calls()) {
    for (const message of call.messages) {
      said.add(message);
      if (!Object.hasOwn(messages, message)) unknown.push(`${call.where}: message '${message}'`);
    }
    for (const field of call.fields) if (!Object.hasOwn(fields, field)) unknown.push(`${call.where}: field ${field}`);
  }
  t.same(unknown, []);
  t.same(
    Object.keys(messages).filter((message) => !said.has(message)),
    [],
  );
  t.ok(said.size > 40, 'it has found them');
});

t.test('docs/metrics.md and docs/events.md are what the tables say (npx node scripts/observe-docs.ts makes them)', async (t) => {
  t.equal(readFileSync(metricsPath, 'utf8'), renderMetrics());
  t.equal(readFileSync(eventsPath, 'utf8'), renderEvents());
});
