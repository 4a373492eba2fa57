/** `selvedge tenant|site|role|policy|route|service …`: the same five commands for every kind of resource (resource-kinds.ts). */
import { Command } from 'commander';
import { facts, number, shape, text, whole } from './answers.ts';
import { withTower } from './arguments.ts';
import { printJson, printLine, printTable } from './output.ts';
import { policyExplainCommand } from './policy-explain.ts';
import { cellOf, type ResourceKind, resourceKinds } from './resource-kinds.ts';
import { askTower, listTower, type TowerFlags } from './tower-call.ts';

type Given = Readonly<Record<string, string | readonly string[] | undefined>>;

const readRevision = whole(shape({ name: text, revision: number }));
const readFacts = whole(facts);
/** What the tower adds to a document, and does not take back. */
const added = new Set(['name', 'revision', 'created_ms', 'changed_ms']);

export function resourceCommands(): Command[] {
  return resourceKinds.map((kind) => (kind.name === 'policy' ? commandOf(kind).addCommand(policyExplainCommand()) : commandOf(kind)));
}

function commandOf(kind: ResourceKind): Command {
  const { name, plural, description, columns, examples } = kind;
  const article = `a ${name}`;
  const command = new Command(name)
    .description(description)
    .addHelpText('after', `\nExamples:\n  selvedge ${name} create ${examples[0]}\n  selvedge ${name} list`);
  withTower(command.command('list').description(`the ${plural} there are`))
    .addHelpText('after', `\nExample:\n  selvedge ${name} list --json`)
    .action(async (flags: TowerFlags) => {
      const items = await listTower(flags, `/v1/${plural}`, facts);
      if (flags.json) printJson({ [plural]: items });
      else
        printTable(
          ['NAME', ...columns.map(([head]) => head)],
          items.map((item) => [cellOf('name', item.name), ...columns.map(([, property]) => cellOf(property, item[property]))]),
        );
    });
  withTower(named(command.command('show').description(`all of ${article}`)))
    .addHelpText('after', `\nExample:\n  selvedge ${name} show ${examples[0].split(' ')[0]}`)
    .action(async (called: string, flags: TowerFlags) => print(flags, readFacts(await askTower(flags, 'GET', pathOf(kind, called)))));
  withOptions(withTower(named(command.command('create').description(`make ${article}`))), kind)
    .addHelpText('after', `\nExample:\n  selvedge ${name} create ${examples[0]}`)
    .action(async (called: string, given: Given & TowerFlags) => {
      const body = { name: called, ...(await documentOf(kind, given)) };
      print(given, readFacts(await askTower(given, 'POST', `/v1/${plural}`, { body })));
    });
  withOptions(withTower(named(command.command('set').description(`change what is named of ${article}; the rest stays`))), kind)
    .addHelpText(
      'after',
      `\nSomebody else's change in between is not lost: it is refused with changed_meanwhile.\n\nExample:\n  selvedge ${name} set ${examples[1]}`,
    )
    .action((called: string, given: Given & TowerFlags) => change(kind, called, given));
  withTower(named(command.command('delete').description(`remove ${article} that nothing uses any more`)))
    .addHelpText('after', `\nExample:\n  selvedge ${name} delete ${examples[0].split(' ')[0]}`)
    .action(async (called: string, flags: TowerFlags) => {
      const { revision } = readRevision(await askTower(flags, 'GET', pathOf(kind, called)));
      const gone = readFacts(await askTower(flags, 'DELETE', pathOf(kind, called), { revision }));
      if (flags.json) printJson(gone);
      else printLine(`${name} ${called} is deleted`);
    });
  return command;
}

async function change(kind: ResourceKind, called: string, given: Given & TowerFlags): Promise<void> {
  const path = pathOf(kind, called);
  const now = await askTower(given, 'GET', path);
  const kept = Object.entries(readFacts(now)).filter(([property]) => !added.has(property));
  const body = { ...Object.fromEntries(kept), ...(await documentOf(kind, given)) };
  print(given, readFacts(await askTower(given, 'PUT', path, { body, revision: readRevision(now).revision })));
}

function named(command: Command): Command {
  return command.argument('<name>', 'its name');
}

function withOptions(command: Command, { options }: ResourceKind): Command {
  for (const { flags, description } of options) command.option(flags, description);
  return command;
}

/** What was said of it, each option as its property. */
async function documentOf({ options }: ResourceKind, given: Given & TowerFlags): Promise<Record<string, unknown>> {
  const nodeId = async (name: string) => whole(shape({ id: text }))(await askTower(given, 'GET', `/v1/nodes/${encodeURIComponent(name)}`)).id;
  const said: Record<string, unknown> = {};
  for (const { flags, property, parse } of options) {
    const value = given[camel(flags)];
    if (value !== undefined) said[property] = await parse(typeof value === 'string' ? [value] : value, nodeId);
  }
  return said;
}

/** As commander names what `--x509-binding <binding>` was given. */
function camel(flags: string): string {
  return (flags.split(' ')[0] ?? '').slice(2).replace(/-(\w)/g, (_dash, letter: string) => letter.toUpperCase());
}

function pathOf({ plural }: ResourceKind, name: string): string {
  return `/v1/${plural}/${encodeURIComponent(name)}`;
}

function print(flags: TowerFlags, document: Readonly<Record<string, unknown>>): void {
  if (flags.json) return printJson(document);
  const rows = Object.entries(document).filter(([property]) => property === 'revision' || !added.has(property));
  printTable(
    ['name', cellOf('name', document.name)],
    rows.map(([property, value]) => [property, cellOf(property, value)]),
  );
}
