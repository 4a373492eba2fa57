/** `selvedge host …`: hosts that may enroll by their id; and this host's own id. */
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { list, maybe, number, shape, text, whole } from './answers.ts';
import { duration, withTower } from './arguments.ts';
import { printable, printJson, printLine, printTable } from './output.ts';
import { askTower, changeHost, listTower, type TowerFlags } from './tower-call.ts';

export const grant = shape({
  kind: text,
  id: text,
  tenant: maybe(text),
  site: maybe(text),
  name: maybe(text),
  node: maybe(text),
  uses: number,
  uses_max: number,
  sources: list(text),
  expires_ms: maybe(number),
  revoked_ms: maybe(number),
});
export type GrantShown = ReturnType<typeof grant>;
const readGrant = whole(grant);

interface AddFlags extends TowerFlags {
  readonly site?: string;
  readonly tenant?: string;
  readonly name?: string;
  readonly expires?: number;
  readonly from?: string[];
}

export function hostCommand(): Command {
  const command = new Command('host')
    .description('hosts that may enroll without a token (at the tower)')
    .addHelpText('after', '\nExamples:\n  selvedge host add SN-0042 --site harbor --name till-42\n  selvedge host list\n  selvedge host id');
  withTower(command.command('add').description('let a host enroll').argument('<id>', 'its id'))
    .option('--site <name>', 'the site that it joins (default: the one that it names)')
    .option('--tenant <name>', 'whose the node is (default: that of its site)')
    .option('--name <name>', 'the name of the node')
    .option('--expires <time>', 'how long it is valid: 90s, 15m, 1h, 7d (default: for ever)', duration('expires'))
    .option('--from <cidr...>', 'networks from which it may be used (default: everywhere)')
    .addHelpText('after', '\nExample:\n  selvedge host add SN-0042 --site harbor --name till-42 --from 192.0.2.0/24')
    .action(async (id: string, { site, tenant, name, expires, from, ...flags }: AddFlags) => {
      const bounds = { ...(site && { site }), ...(tenant && { tenant }), ...(name && { name }), ...(from && { sources: from }) };
      const added = readGrant(await askTower(flags, 'POST', '/v1/hosts', { body: { kind: 'host-id', id, ...bounds, ...(expires && { life_ms: expires }) } }));
      if (flags.json) printJson(added);
      else printLine(`host ${printable(added.id)} may enroll`);
    });
  withTower(command.command('list').description('the hosts that may enroll, and those that have'))
    .addHelpText('after', '\nExample:\n  selvedge host list --json')
    .action(async (flags: TowerFlags) => {
      const hosts = await listTower(flags, '/v1/hosts?kind=host-id', grant);
      if (flags.json) printJson({ hosts });
      else printTable(['ID', 'USED', 'SITE', 'NAME', 'STATE'], hosts.map(grantRow));
    });
  withTower(command.command('remove').description('end it, and let the id be added anew; a node that joined with it stays').argument('<id>', 'its id'))
    .addHelpText('after', '\nExample:\n  selvedge host remove SN-0042')
    .action(async (id: string, flags: TowerFlags) => {
      const removed = readGrant(await changeHost(flags, 'DELETE', `/v1/hosts/host-id/${encodeURIComponent(id)}`));
      if (flags.json) printJson(removed);
      else printLine(`host ${printable(removed.id)} is removed; it was used ${removed.uses} times`);
    });
  command
    .command('id')
    .description("print this host's own id: its board's, else its machine id")
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge host id')
    .action(async ({ json }: { readonly json?: boolean }) => {
      const { ownHostId } = await import('../../src/enroll/host-facts.ts');
      const id = await ownHostId();
      if (id === null) throw new SelvedgeError('not_found', { what: 'id of this host', name: '/etc/machine-id' });
      if (json) printJson({ id });
      else printLine(id);
    });
  return command;
}

export function grantRow({ id, uses, uses_max, site, name, expires_ms, revoked_ms }: GrantShown): string[] {
  const isOver = expires_ms !== null && expires_ms <= Date.now();
  const state =
    revoked_ms !== null
      ? 'revoked'
      : isOver
        ? 'expired'
        : uses >= uses_max
          ? 'used'
          : expires_ms === null
            ? 'valid'
            : `valid until ${new Date(expires_ms).toISOString()}`;
  return [printable(id), `${uses} of ${uses_max}`, site ?? 'any', name ?? '-', state];
}
