/** The documents say what the code does. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import t from 'tap';
import { appCommand } from '../../daemon/cli/app.ts';
import { callHomeCertCommand } from '../../daemon/cli/call-home-cert.ts';
import { tokenCommand } from '../../daemon/cli/enroll.ts';
import { drainCommand, undrainCommand } from '../../daemon/cli/drain.ts';
import { hostCommand } from '../../daemon/cli/host.ts';
import { joinCommand, preflightCommand } from '../../daemon/cli/join.ts';
import { platformCommand } from '../../daemon/cli/platform.ts';
import { labCommand } from '../../daemon/cli/lab.ts';
import { peersCommand, pingCommand, sendCommand, statusCommand } from '../../daemon/cli/mesh.ts';
import { channelCommand, eventsCommand, metricsCommand } from '../../daemon/cli/observe.ts';
import { renewCommand } from '../../daemon/cli/renew.ts';
import { operatorCommand } from '../../daemon/cli/operator.ts';
import { sessionCommand } from '../../daemon/cli/session.ts';
import { trustCommand } from '../../daemon/cli/trust.ts';
import { netcheckCommand } from '../../daemon/cli/netcheck.ts';
import { towerCommand } from '../../daemon/programs/tower.ts';
import { channelStates } from '../../src/channel/states.ts';
import { classesPath, renderClasses } from '../../scripts/classes-docs.ts';
import { failureReasonsPath, renderFailureReasons } from '../../scripts/failure-reasons.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

t.test('docs/failure-reasons.md is what the error table says (npx node scripts/failure-reasons.ts makes it)', async (t) => {
  t.equal(readFileSync(failureReasonsPath, 'utf8'), renderFailureReasons());
});

t.test('docs/classes.md is what the table of classes says (npx node scripts/classes-docs.ts makes it)', async (t) => {
  t.equal(readFileSync(classesPath, 'utf8'), renderClasses());
});

t.test('every link between the documents leads to a file', async (t) => {
  const broken: string[] = [];
  for (const file of globSync('{*.md,docs/*.md,{src,daemon,native,bench,configs,contrib,scripts}/**/README.md}', {
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

t.test('docs/channel-life.md has a row for each state of a channel, and for no other', async (t) => {
  const rows = [...readFileSync(join(root, 'docs/channel-life.md'), 'utf8').matchAll(/^\| `([a-z]+)` \|/gm)].map(([, state]) => state);
  t.same(rows, [...channelStates]);
});

t.test('every test that a document names is there', async (t) => {
  const missing: string[] = [];
  let named = 0;
  for (const file of globSync('{*.md,docs/**/*.md}', { cwd: root })) {
    for (const [, name = ''] of readFileSync(join(root, file), 'utf8').matchAll(/`((?:unit|scenario|sim)\/[a-z0-9/-]+)`/g)) {
      named++;
      if (!existsSync(join(root, `test/${name}.test.ts`))) missing.push(`${file}: ${name}`);
    }
  }
  t.same(missing, []);
  t.ok(named > 30);
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

t.test('docs/cli.md tells, where it tells of a command, each of its options, and what --json prints', async (t) => {
  const sections = readFileSync(join(root, 'docs/cli.md'), 'utf8').split(/^## /m);
  const missing: string[] = [];
  for (const command of leaves(
    statusCommand(),
    peersCommand(),
    pingCommand(),
    sendCommand(),
    joinCommand(),
    preflightCommand(),
    hostCommand(),
    callHomeCertCommand(),
    tokenCommand(),
    platformCommand(),
    appCommand(),
    operatorCommand(),
    sessionCommand(),
    trustCommand(),
    labCommand(),
    towerCommand(),
    netcheckCommand(),
    renewCommand(),
    drainCommand(),
    channelCommand(),
    eventsCommand(),
    metricsCommand(),
    undrainCommand(),
  )) {
    const name = new RegExp(`\`selvedge ${nameOf(command)}[ \`]`);
    // The head of a section holds for all its commands; then each has what follows the paragraph that begins with it.
    const told = sections.flatMap((section) => {
      const [head = '', ...parts] = section.split(/^(?=`selvedged?[ `])/m);
      return parts.filter((part) => name.test(part.split('\n\n')[0] ?? '')).map((part) => head + part);
    });
    if (told.length === 0) missing.push(nameOf(command));
    for (const { long } of command.options) {
      const words = long === '--json' ? /`--json`(:| \|)|`--json FILE`/ : new RegExp(`\`${long}[ \`]`);
      if (long !== '--help' && !told.some((text) => words.test(text))) missing.push(`${nameOf(command)} ${long}`);
    }
  }
  t.same(missing, []);
});

function leaves(...commands: readonly Command[]): Command[] {
  return commands.flatMap((command) => (command.commands.length === 0 ? [command] : leaves(...command.commands)));
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}
