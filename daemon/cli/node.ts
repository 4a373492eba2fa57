/** `selvedge node …`: the nodes of the cluster, what an operator says of each, and revoking one. */
import { Command } from 'commander';
import { flag, list, maybe, number, shape, text, whole } from './answers.ts';
import { duration, nodeWord, withTower } from './arguments.ts';
import { healthInWords, readHealth } from './node-health.ts';
import { printable, printJson, printLine, printTable } from './output.ts';
import { askTower, listTower, type TowerFlags } from './tower-call.ts';

const node = shape({
  id: text,
  name: text,
  site: text,
  tenant: maybe(text),
  roles: list(text),
  fingerprint: maybe(text),
  endpoints: list(shape({ host: text, tcp: maybe(number), udp: maybe(number) })),
  disabled: flag,
  leaving_ms: maybe(number),
  revision: number,
  created_ms: number,
  seen_ms: maybe(number),
  connected: flag,
});
type Node = ReturnType<typeof node>;
const readNode = whole(node);

interface SetFlags extends TowerFlags {
  readonly roles?: string;
  readonly tenant?: string;
}

export function nodeCommand(): Command {
  const command = new Command('node')
    .description('the nodes of the cluster (at the tower)')
    .addHelpText('after', '\nExamples:\n  selvedge node list --site harbor\n  selvedge node set till-1 --roles till\n  selvedge node revoke till-1');
  withTower(command.command('list').description('the nodes there are'))
    .option('--site <name>', 'only of this site')
    .addHelpText('after', '\nExample:\n  selvedge node list --site harbor --json')
    .action(async (flags: TowerFlags & { readonly site?: string }) => {
      const query = flags.site === undefined ? '' : `?${new URLSearchParams({ site: flags.site })}`;
      const nodes = await listTower(flags, `/v1/nodes${query}`, node);
      if (flags.json) printJson({ nodes });
      else printTable(['NAME', 'SITE', 'ID', 'ROLES', 'TENANT', 'STATE'], nodes.map(rowOf));
    });
  withTower(one(command.command('show').description('all that the tower knows of a node')))
    .addHelpText('after', '\nExample:\n  selvedge node show till-1')
    .action(async (name: string, flags: TowerFlags) => {
      const shown = readNode(await askTower(flags, 'GET', pathOf(name)));
      const { health } = readHealth(await askTower(flags, 'GET', `${pathOf(name)}/health`));
      if (flags.json) return printJson({ ...shown, health });
      for (const line of inWords(shown)) printLine(line);
      for (const line of healthInWords(health)) printLine(printable(line));
    });
  withTower(one(command.command('set').description('what a node is for, and whose it is; what is not named stays')))
    .option('--roles <names>', 'its roles, with commas between; `none`: none')
    .option('--tenant <name>', 'its tenant; `none`: the platform’s own')
    .addHelpText('after', '\nExample:\n  selvedge node set till-1 --roles till,kiosk --tenant port')
    .action(async (name: string, { roles, tenant, ...flags }: SetFlags) => {
      const body = {
        ...(roles !== undefined && { roles: roles === 'none' ? [] : roles.split(',') }),
        ...(tenant !== undefined && { tenant: tenant === 'none' ? null : tenant }),
      };
      print(flags, await change(flags, name, body));
    });
  withTower(one(command.command('disable').description('close its channels and refuse it, until it is enabled')))
    .addHelpText('after', '\nExample:\n  selvedge node disable till-1')
    .action(async (name: string, flags: TowerFlags) => print(flags, await change(flags, name, { disabled: true })));
  withTower(one(command.command('enable').description('end `disable`')))
    .addHelpText('after', '\nExample:\n  selvedge node enable till-1')
    .action(async (name: string, flags: TowerFlags) => print(flags, await change(flags, name, { disabled: false })));
  withTower(one(command.command('revoke').description('cut a node off for good; it needs a fresh proof to come back')))
    .option('--drain <time>', 'let what is there finish until then, such as 30s; nothing begins meanwhile (default: at once)', duration('drain'))
    .addHelpText('after', '\nExamples:\n  selvedge node revoke till-1\n  selvedge node revoke till-1 --drain 30s')
    .action(async (name: string, flags: TowerFlags & { readonly drain?: number }) => {
      const query = flags.drain === undefined ? '' : `?drain_ms=${flags.drain}`;
      const revoked = readNode(await askTower(flags, 'DELETE', `${pathOf(name)}${query}`));
      if (flags.json) printJson(revoked);
      else if (revoked.leaving_ms !== null)
        printLine(`node ${printable(revoked.name)} (${revoked.id}) drains, and is revoked at ${timeOf(revoked.leaving_ms)}`);
      else printLine(`node ${printable(revoked.name)} (${revoked.id}) is revoked: its channels are closed, its certificate is refused`);
    });
  return command;
}

/** Read, then changed only if nobody else has meanwhile. */
async function change(flags: TowerFlags, name: string, body: Record<string, unknown>): Promise<Node> {
  const { revision } = readNode(await askTower(flags, 'GET', pathOf(name)));
  return readNode(await askTower(flags, 'PATCH', pathOf(name), { body, revision }));
}

function one(command: Command): Command {
  return command.argument('<node>', "the node's name or id", nodeWord);
}

function pathOf(name: string): string {
  return `/v1/nodes/${encodeURIComponent(name)}`;
}

function rowOf({ name, site, id, roles, tenant, ...state }: Node): string[] {
  return [printable(name), site, id, roles.join(' ') || '-', tenant ?? '-', stateOf(state)];
}

function stateOf({ fingerprint, disabled, leaving_ms, seen_ms, connected }: Omit<Node, 'name' | 'site' | 'id' | 'roles' | 'tenant'>): string {
  if (fingerprint === null) return 'revoked';
  if (disabled) return 'disabled';
  if (leaving_ms !== null) return `revoked at ${timeOf(leaving_ms)}`;
  if (connected) return 'up';
  return seen_ms === null ? 'never seen' : `away, seen ${timeOf(seen_ms)}`;
}

function* inWords(node: Node): Generator<string> {
  const { id, name, site, tenant, roles, fingerprint, endpoints, created_ms } = node;
  yield `${printable(name)} (${id}) of site ${site}: ${stateOf(node)}`;
  yield `  roles ${roles.join(', ') || 'none'}; tenant ${tenant ?? "the platform's own"}; there since ${timeOf(created_ms)}`;
  yield `  certificate ${fingerprint ?? 'none is recorded'}`;
  yield `  listens at ${endpoints.map(addressOf).join(', ') || 'no address'}`;
}

function addressOf({ host, tcp, udp }: Node['endpoints'][number]): string {
  const ports = [tcp !== null && `tcp ${tcp}`, udp !== null && `udp ${udp}`].filter((port) => port !== false);
  return `${printable(host)} (${ports.join(', ')})`;
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString();
}

function print(flags: TowerFlags, shown: Node): void {
  if (flags.json) printJson(shown);
  else printTable(['NAME', 'SITE', 'ID', 'ROLES', 'TENANT', 'STATE'], [rowOf(shown)]);
}
