/** `selvedge app …` at the tower: app networks are made, nodes put in and taken out, and what there is is told. */
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { type AppMember, type AppNetwork, listedNetwork, readAppEndpoint, readAppNetwork, readAppShown } from './answers.ts';
import { addNodeAppCommands } from './app-node.ts';
import { appName, integer, nodeWord, withTower } from './arguments.ts';
import { askTower, listTower, type TowerFlags } from './tower-call.ts';
import { printJson, printLine, printTable, printable } from './output.ts';

interface CreateFlags extends TowerFlags {
  readonly subnet?: string;
  readonly subnet6?: string;
  readonly mtu?: number;
  readonly learning?: boolean;
}

export function appCommand(): Command {
  const command = new Command('app')
    .description('app networks: private networks of applications, spread over some nodes')
    .addHelpText('after', '\nExamples:\n  selvedge app create shop --subnet 10.9.0.0/24\n  selvedge app add shop cashier-1\n  selvedge app show shop');
  withTower(command.command('create').description('make a network; it has no members yet').argument('<name>', 'lower-case letters, digits, hyphens', appName))
    .option('--subnet <cidr>', 'IPv4 subnet, such as 10.9.0.0/24; no other network may overlap it')
    .option('--subnet6 <cidr>', 'IPv6 subnet, such as fd12:3456::/64')
    .option(
      '--mtu <bytes>',
      'at most this inner MTU (default: what the paths of the members allow)',
      integer('mtu', limits.app_mtu_bytes_min, limits.app_mtu_bytes_max),
    )
    .option('--learning', 'let members have MAC addresses behind them that the tower did not give')
    .addHelpText(
      'after',
      '\nExamples:\n  selvedge app create shop --subnet 10.9.0.0/24\n  selvedge app create media --subnet 10.10.0.0/16 --subnet6 fd12:3456::/64 --mtu 1280',
    )
    .action(create);
  withTower(command.command('delete').description('remove a network from all its members').argument('<network>', 'its name', appName))
    .addHelpText('after', '\nExample:\n  selvedge app delete shop')
    .action(async (network: string, flags: TowerFlags) => {
      const gone = readAppNetwork(await askTower(flags, 'DELETE', pathOf(network)));
      if (flags.json) printJson(gone);
      else printLine(`app network ${gone.name} is deleted; its members are told`);
    });
  withTower(withMember(command.command('add').description('put a node into a network')))
    .addHelpText('after', '\nExample:\n  selvedge app add shop cashier-1')
    .action(async (network: string, node: string, flags: TowerFlags) => {
      const added = readAppEndpoint(await askTower(flags, 'PUT', pathOf(network, node)));
      if (flags.json) printJson(added);
      else printLine(`node ${node} is in app network ${network}: ${addressesOf(added)}`);
    });
  withTower(withMember(command.command('remove').description('take a node out of a network, its attachments with it')))
    .addHelpText('after', '\nExample:\n  selvedge app remove shop cashier-1')
    .action(async (network: string, node: string, flags: TowerFlags) => {
      const removed = readAppEndpoint(await askTower(flags, 'DELETE', pathOf(network, node)));
      if (flags.json) printJson(removed);
      else printLine(`node ${node} is no longer in app network ${network}; ${addressesOf(removed)} will be given out again`);
    });
  withTower(command.command('list').description('the networks there are'))
    .addHelpText('after', '\nExample:\n  selvedge app list --json')
    .action(async (flags: TowerFlags) => {
      const networks = await listTower(flags, '/v1/app/networks', listedNetwork);
      if (flags.json) printJson({ networks });
      else
        printTable(
          ['NAME', 'VNI', 'SUBNET', 'MEMBERS', 'ATTACHMENTS'],
          networks.map((one) => [one.name, String(one.vni), subnetsOf(one), String(one.members), String(one.attachments)]),
        );
    });
  withTower(command.command('show').description('a network, its members, and which address is whose').argument('<network>', 'its name', appName))
    .addHelpText('after', '\nExample:\n  selvedge app show shop')
    .action(show);
  addNodeAppCommands(command);
  return command;
}

function withMember(command: Command): Command {
  return command.argument('<network>', 'its name', appName).argument('<node>', "the node's name or id", nodeWord);
}

async function create(name: string, { subnet, subnet6, mtu, learning, ...flags }: CreateFlags): Promise<void> {
  if (subnet === undefined && subnet6 === undefined) throw new SelvedgeError('argument_invalid', { name: 'subnet', why: 'give --subnet, --subnet6, or both' });
  const body = {
    name,
    ...(subnet !== undefined && { subnet4: subnet }),
    ...(subnet6 !== undefined && { subnet6 }),
    ...(mtu !== undefined && { mtu }),
    ...(learning !== undefined && { learning }),
  };
  const made = readAppNetwork(await askTower(flags, 'POST', '/v1/app/networks', { body }));
  if (flags.json) printJson(made);
  else printLine(`app network ${made.name} is made: ${subnetsOf(made)}, VNI ${made.vni}\nput nodes into it with: selvedge app add ${made.name} NODE`);
}

async function show(network: string, flags: TowerFlags): Promise<void> {
  const shown = readAppShown(await askTower(flags, 'GET', pathOf(network)));
  if (flags.json) return printJson(shown);
  const { name, vni, mtu, learning, members } = shown;
  const mtuText = mtu === null ? 'as the paths allow' : `at most ${mtu}`;
  printLine(`${name}  ${subnetsOf(shown)}  VNI ${vni}  MTU ${mtuText}${learning ? '  learning' : ''}`);
  if (members.length === 0) return printLine(`no members; put nodes into it with: selvedge app add ${name} NODE`);
  printLine();
  printTable(['NODE', 'ATTACHMENT', 'ADDRESS', 'MAC', 'SITE', 'VTEP', 'WIREGUARD'], members.flatMap(memberRows));
}

/** The member itself, then its attachments, which share the rest. */
function memberRows(member: AppMember): string[][] {
  return member.endpoints.map((endpoint) => {
    const cells = [printable(member.name), endpoint.attachment || '-', addressesOf(endpoint), endpoint.mac];
    return endpoint.attachment === '' ? [...cells, member.site, member.vtep ?? '-', wireguardOf(member)] : [...cells, '', '', ''];
  });
}

function wireguardOf({ live, keys, endpoint }: AppMember): string {
  if (!live) return 'revoked or disabled: told to nobody';
  if (keys.length === 0) return 'no key yet';
  if (endpoint === null) return 'through channels';
  return endpoint.host.includes(':') ? `[${endpoint.host}]:${endpoint.port}` : `${endpoint.host}:${endpoint.port}`;
}

function addressesOf({ address4, address6 }: { readonly address4: string | null; readonly address6: string | null }): string {
  return [address4, address6].filter((one) => one !== null).join(' ');
}

function subnetsOf({ subnet4, subnet6 }: Pick<AppNetwork, 'subnet4' | 'subnet6'>): string {
  return [subnet4, subnet6].filter((one) => one !== null).join(' ');
}

function pathOf(network: string, node?: string): string {
  const path = `/v1/app/networks/${encodeURIComponent(network)}`;
  return node === undefined ? path : `${path}/members/${encodeURIComponent(node)}`;
}
