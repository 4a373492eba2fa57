/** `selvedge platform …` at the tower: hosts at AWS, Google and Kubernetes that may enroll by what their platform says of them. */
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { type PlatformHost, platformHost, readPlatformHost } from './answers.ts';
import { duration, integer, tokenId, withTower } from './arguments.ts';
import { formatSeconds, printJson, printLine, printTable } from './output.ts';
import { askTower, changeHost, listTower, type TowerFlags } from './tower-call.ts';

const PLATFORMS = ['aws', 'google', 'kubernetes'] as const;

interface AddFlags extends TowerFlags {
  readonly fact: Readonly<Record<string, string>>;
  readonly site?: string;
  readonly name?: string;
  readonly uses: number;
  readonly expires?: number;
  readonly from?: string[];
}

export function platformCommand(): Command {
  const command = new Command('platform').description('hosts that may enroll by what AWS, Google or Kubernetes says of them (at the tower)');
  withTower(command.command('add').description('record hosts: every fact named must hold of one').argument('<platform>', PLATFORMS.join(', '), platformOf))
    .requiredOption('--fact <name=value>', 'what must hold; repeat it for more (docs/enrollment/ tells the names)', collectFact, {})
    .option('--site <name>', 'only for nodes of this site')
    .option('--name <name>', 'for the one node of this name')
    .option('--uses <n>', 'how many nodes may enroll by it', integer('uses', 1, limits.token_uses_max), 1)
    .option('--expires <time>', 'how long it holds: 15m, 1h, 7d (default: until it is removed)', duration('expires'))
    .option('--from <network...>', 'only from these networks')
    .addHelpText(
      'after',
      `
The site must take the proof: it stands in its setting \`proofs\`.

Examples:
  selvedge platform add aws --fact account=123456789012 --fact role='edge-*' --site harbor --uses 20
  selvedge platform add google --fact project=edge-prod --fact instance=4711 --name gate-1
  selvedge platform add kubernetes --fact issuer=https://k8s.example --fact namespace=edge --fact account=selvedge --uses 3`,
    )
    .action(add);
  withTower(command.command('list').description('what is recorded'))
    .addHelpText('after', '\nExample:\n  selvedge platform list --json')
    .action(async (flags: TowerFlags) => {
      const hosts = (await Promise.all(PLATFORMS.map((kind) => listTower(flags, `/v1/hosts?kind=${kind}`, platformHost)))).flat();
      if (flags.json) printJson({ hosts });
      else printTable(['ID', 'PLATFORM', 'FACTS', 'SITE', 'USED', 'STATE'], hosts.map(rowOf));
    });
  withTower(command.command('revoke').description('refuse, from now on, whom it matches; nodes that enrolled stay'))
    .argument('<platform>', PLATFORMS.join(', '), platformOf)
    .argument('<id>', 'as `platform list` tells it', tokenId)
    .addHelpText('after', '\nExample:\n  selvedge platform revoke aws c719885f0f4d')
    .action(async (kind: string, id: string, flags: TowerFlags) => {
      told(readPlatformHost(await changeHost(flags, 'POST', `/v1/hosts/${kind}/${id}`, '/revoke')), 'is revoked', flags);
    });
  withTower(command.command('remove').description('forget it, as if it had never been; nodes that enrolled stay'))
    .argument('<platform>', PLATFORMS.join(', '), platformOf)
    .argument('<id>', 'as `platform list` tells it', tokenId)
    .addHelpText('after', '\nExample:\n  selvedge platform remove aws c719885f0f4d')
    .action(async (kind: string, id: string, flags: TowerFlags) => {
      told(readPlatformHost(await changeHost(flags, 'DELETE', `/v1/hosts/${kind}/${id}`)), 'is removed', flags);
    });
  return command;
}

async function add(kind: string, { fact, site, name, uses, expires, from, ...flags }: AddFlags): Promise<void> {
  const body = {
    ...{ kind, facts: fact, uses },
    ...(site !== undefined && { site }),
    ...(name !== undefined && { name }),
    ...(expires !== undefined && { life_ms: expires }),
    ...(from !== undefined && { sources: from }),
  };
  told(readPlatformHost(await askTower(flags, 'POST', '/v1/hosts', { body })), 'is recorded', flags);
}

function told(host: PlatformHost, what: string, { json }: TowerFlags): void {
  if (json) printJson(host);
  else printLine(`${host.kind} ${host.id} ${what}: ${factsOf(host)}; used ${host.uses} of ${host.uses_max} times`);
}

const factsOf = ({ facts }: PlatformHost): string =>
  Object.entries(facts)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');

function rowOf(host: PlatformHost): string[] {
  const { id, kind, site, uses, uses_max, expires_ms, revoked_ms } = host;
  const left_s = expires_ms === null ? null : (expires_ms - Date.now()) / 1_000;
  const still = left_s === null ? 'valid' : `valid for ${formatSeconds(left_s)}`;
  const state = revoked_ms !== null ? 'revoked' : left_s !== null && left_s <= 0 ? 'expired' : uses >= uses_max ? 'used up' : still;
  return [id, kind, factsOf(host), site ?? 'any', `${uses} of ${uses_max}`, state];
}

function platformOf(text: string): string {
  if ((PLATFORMS as readonly string[]).includes(text)) return text;
  throw new SelvedgeError('argument_invalid', { name: 'platform', why: `'${text}' is not one of ${PLATFORMS.join(', ')}` });
}

function collectFact(text: string, facts: Readonly<Record<string, string>>): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new SelvedgeError('argument_invalid', { name: 'fact', why: `'${text}' is not of the form NAME=VALUE` });
  return { ...facts, [text.slice(0, at)]: text.slice(at + 1) };
}
