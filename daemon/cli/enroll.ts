/** `selvedge token …` at the tower. */
import { Command, Option } from 'commander';
import { limits } from '../../src/base/limits.ts';
import { readCreated, readToken, type Token, token } from './answers.ts';
import { duration, integer, tokenId, withTower } from './arguments.ts';
import { askTower, listTower, type TowerFlags } from './tower-call.ts';
import { formatSeconds, printable, printJson, printLine, printTable } from './output.ts';

interface CreateFlags extends TowerFlags {
  readonly uses: number;
  readonly expires?: number;
  readonly site?: string;
  readonly tenant?: string;
  readonly from?: string[];
  readonly purpose?: string;
}

const TOKEN_LIFE_MS = 86_400_000;

export function tokenCommand(): Command {
  const command = new Command('token').description('the tokens by which nodes join (at the tower)');
  withTower(command.command('create').description('make a token and print it, once'))
    .option('--uses <n>', 'how many nodes may join with it', integer('uses', 1, limits.token_uses_max), 1)
    .option('--expires <time>', 'how long it is valid: 90s, 15m, 1h, 7d (default: 24h)', duration('expires'))
    .option('--site <name>', 'only for nodes of this site')
    .option('--tenant <name>', 'whose the nodes are (default: that of their site)')
    .option('--from <cidr...>', 'networks from which it may be used (default: everywhere)')
    .addOption(new Option('--purpose <purpose>', 'joining, or registering a node ahead with `selvedge preflight`').choices(['enroll', 'preflight']))
    .addHelpText(
      'after',
      '\nThe token is all that goes to standard output.\n\nExamples:\n  selvedge token create --uses 3 --expires 1h\n  selvedge token create --site harbor --from 192.0.2.0/24\n  (umask 077; selvedge token create > token)',
    )
    .action(createToken);
  withTower(command.command('list').description('the tokens there are, without their secret'))
    .addHelpText('after', '\nExample:\n  selvedge token list --json')
    .action(async (flags: TowerFlags) => {
      const tokens = await listTower(flags, '/v1/tokens', token);
      if (flags.json) printJson({ tokens });
      else printTable(['ID', 'USED', 'SITE', 'STATE'], tokens.map(tokenRow));
    });
  withTower(command.command('revoke').description('end a token; nodes that joined with it stay').argument('<id>', 'as `token list` tells it', tokenId))
    .addHelpText('after', '\nExample:\n  selvedge token revoke c719885f0f4d')
    .action(async (id: string, flags: TowerFlags) => {
      const token = readToken(await askTower(flags, 'DELETE', `/v1/tokens/${encodeURIComponent(id)}`));
      if (flags.json) printJson(token);
      else printLine(`token ${token.id} is revoked; it was used ${token.uses} times`);
    });
  return command;
}

async function createToken({ uses, expires = TOKEN_LIFE_MS, site, tenant, from, purpose, ...flags }: CreateFlags): Promise<void> {
  const bounds = { ...(site && { site }), ...(tenant && { tenant }), ...(from && { sources: from }), ...(purpose && { purpose }) };
  const created = readCreated(await askTower(flags, 'POST', '/v1/tokens', { body: { uses, life_ms: expires, ...bounds } }));
  const { id, expires_ms } = created.token;
  const { fingerprint } = created;
  if (flags.json) printJson({ id, token: created.text, uses_max: created.token.uses_max, expires_ms, fingerprint });
  else {
    // Nothing else on standard output, so that it can be a file for --token-file.
    printLine(created.text);
    const nodes = uses === 1 ? 'one node' : `${uses} nodes`;
    process.stderr.write(
      `token ${id}, for ${nodes}, valid until ${new Date(expires_ms).toISOString()}; it is not shown again\njoin with it under --fingerprint ${printable(fingerprint)}\n`,
    );
  }
}

function tokenRow({ id, uses, uses_max, site, expires_ms, revoked_ms }: Token): string[] {
  const left_s = (expires_ms - Date.now()) / 1_000;
  const state = revoked_ms !== null ? 'revoked' : left_s <= 0 ? 'expired' : uses >= uses_max ? 'used up' : `valid for ${formatSeconds(left_s)}`;
  return [id, `${uses} of ${uses_max}`, site ?? 'any', state];
}
