/** `selvedge host …`: hosts that may enroll by their id, or by what a platform says of them; and this host's own id. */
import { Command, Option } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { list, maybe, number, shape, text, whole } from './answers.ts';
import { duration, integer, withTower } from './arguments.ts';
import { printable, printJson, printLine, printTable } from './output.ts';
import { askTower, listTower, type TowerFlags } from './tower-call.ts';

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

interface HostFlags extends TowerFlags {
  readonly kind: string;
}

interface AddFlags extends HostFlags {
  readonly site?: string;
  readonly tenant?: string;
  readonly name?: string;
  readonly uses?: number;
  readonly expires?: number;
  readonly from?: string[];
}

export function hostCommand(): Command {
  const command = new Command('host')
    .description('hosts that may enroll without a token (at the tower)')
    .addHelpText('after', '\nExamples:\n  selvedge host add SN-0042 --site harbor --name till-42\n  selvedge host list\n  selvedge host id');
  withKind(withTower(command.command('add').description('let a host enroll').argument('<id>', 'its id')))
    .option('--site <name>', 'the site that it joins (default: the one that it names)')
    .option('--tenant <name>', 'whose the node is (default: that of its site)')
    .option('--name <name>', 'the name of the node')
    .option('--uses <n>', 'how many nodes, for an identity at a platform that several have', integer('uses', 1, limits.token_uses_max))
    .option('--expires <time>', 'how long it is valid: 90s, 15m, 1h, 7d (default: for ever)', duration('expires'))
    .option('--from <cidr...>', 'networks from which it may be used (default: everywhere)')
    .addHelpText('after', '\nExample:\n  selvedge host add SN-0042 --site harbor --name till-42 --from 192.0.2.0/24')
    .action(async (id: string, { kind, site, tenant, name, uses, expires, from, ...flags }: AddFlags) => {
      const bounds = { ...(site && { site }), ...(tenant && { tenant }), ...(name && { name }), ...(uses && { uses }), ...(from && { sources: from }) };
      const added = readGrant(await askTower(flags, 'POST', '/v1/hosts', { body: { id, kind, ...bounds, ...(expires && { life_ms: expires }) } }));
      if (flags.json) printJson(added);
      else printLine(`${added.kind} ${printable(added.id)} may enroll ${added.uses_max === 1 ? 'one node' : `${added.uses_max} nodes`}`);
    });
  withKind(withTower(command.command('list').description('the hosts that may enroll, and those that have')))
    .addHelpText('after', '\nExample:\n  selvedge host list --kind aws --json')
    .action(async ({ kind, ...flags }: HostFlags) => {
      const hosts = await listTower(flags, `/v1/hosts?${new URLSearchParams({ kind })}`, grant);
      if (flags.json) printJson({ hosts });
      else printTable(['ID', 'USED', 'SITE', 'NAME', 'STATE'], hosts.map(grantRow));
    });
  withKind(
    withTower(command.command('remove').description('end it, and let the id be added anew; a node that joined with it stays').argument('<id>', 'its id')),
  )
    .addHelpText('after', '\nExample:\n  selvedge host remove SN-0042')
    .action(async (id: string, { kind, ...flags }: HostFlags) => {
      const removed = readGrant(await askTower(flags, 'DELETE', `/v1/hosts?${new URLSearchParams({ id, kind })}`));
      if (flags.json) printJson(removed);
      else printLine(`${removed.kind} ${printable(removed.id)} is removed; it was used ${removed.uses} times`);
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

function withKind(command: Command): Command {
  return command.addOption(
    new Option('--kind <kind>', 'a host id, or an identity at a platform').choices(['host-id', 'aws', 'google', 'kubernetes']).default('host-id'),
  );
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
