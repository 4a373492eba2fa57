/** `selvedge token …` at the tower, and `selvedge join` on a fresh node. */
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import type { ProofMaker } from '../../src/enroll/proof.ts';
import { parseFingerprint } from '../../src/identity/fingerprint.ts';
import { readFileBounded } from '../../src/identity/files.ts';
import { DEFAULT_KEY_FILE, loadOrCreateUnsealKey, type UnsealSource } from '../../src/identity/unseal.ts';
import { readCreated, readToken, type Token, token } from './answers.ts';
import { address, DEFAULT_NODE_STATE, descriptor, duration, integer, tokenId, withTower } from './arguments.ts';
import { DEFAULT_KUBERNETES_API, DEFAULT_POD_TOKEN, DEFAULT_STS_HOST, type PlatformFlags, platformMaker } from './join-proof.ts';
import { askTower, listTower, type TowerFlags } from './tower-call.ts';
import { formatSeconds, printJson, printLine, printTable, readInput } from './output.ts';

interface CreateFlags extends TowerFlags {
  readonly uses: number;
  readonly expires?: number;
  readonly site?: string;
}

const TOKEN_LIFE_MS = 86_400_000;

export function tokenCommand(): Command {
  const command = new Command('token').description('the tokens by which nodes join (at the tower)');
  withTower(command.command('create').description('make a token and print it, once'))
    .option('--uses <n>', 'how many nodes may join with it', integer('uses', 1, limits.token_uses_max), 1)
    .option('--expires <time>', 'how long it is valid: 90s, 15m, 1h, 7d (default: 24h)', duration('expires'))
    .option('--site <name>', 'only for nodes of this site')
    .addHelpText(
      'after',
      '\nThe token is all that goes to standard output.\n\nExamples:\n  selvedge token create --uses 3 --expires 1h\n  (umask 077; selvedge token create > token)',
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

async function createToken({ uses, expires = TOKEN_LIFE_MS, site, ...flags }: CreateFlags): Promise<void> {
  const created = readCreated(await askTower(flags, 'POST', '/v1/tokens', { body: { uses, life_ms: expires, ...(site !== undefined && { site }) } }));
  const { id, expires_ms } = created.token;
  if (flags.json) printJson({ id, token: created.text, uses_max: created.token.uses_max, expires_ms });
  else {
    // Nothing else on standard output, so that it can be a file for --token-file.
    printLine(created.text);
    const nodes = uses === 1 ? 'one node' : `${uses} nodes`;
    process.stderr.write(`token ${id}, for ${nodes}, valid until ${new Date(expires_ms).toISOString()}; it is not shown again\n`);
  }
}

function tokenRow({ id, uses, uses_max, site, expires_ms, revoked_ms }: Token): string[] {
  const left_s = (expires_ms - Date.now()) / 1_000;
  const state = revoked_ms !== null ? 'revoked' : left_s <= 0 ? 'expired' : uses >= uses_max ? 'used up' : `valid for ${formatSeconds(left_s)}`;
  return [id, `${uses} of ${uses_max}`, site ?? 'any', state];
}

interface JoinFlags extends UnsealSource, PlatformFlags {
  readonly tower: string;
  readonly fingerprint: string;
  readonly tokenFile?: string;
  readonly name?: string;
  readonly site?: string;
  readonly state: string;
  readonly json?: boolean;
}

export function joinCommand(): Command {
  return new Command('join')
    .description('make this host a node of a cluster: a key, a request, a token, and what the tower answers')
    .requiredOption('--tower <address>', 'where the tower is: HOST or HOST:PORT')
    .requiredOption('--fingerprint <sha256:hex>', "fingerprint of the cluster's root, as `tower init` printed it")
    .option('--token-file <file>', 'file with the token; - reads it from standard input')
    .option('--platform <name>', 'instead of a token, what the platform says of this host: aws, google, kubernetes')
    .option('--cluster <name>', "with --platform: the cluster's name")
    .option('--sts-host <host>', `with --platform aws: the endpoint to sign for (default: ${DEFAULT_STS_HOST})`)
    .option('--pod-token-file <file>', `with --platform kubernetes: the projected token (default: ${DEFAULT_POD_TOKEN})`)
    .option(
      '--kubernetes-api <address>',
      `with --platform kubernetes: the API server; none hands over the projected token itself (default: ${DEFAULT_KUBERNETES_API})`,
    )
    .option('--name <name>', "the node's name (default: the host's)")
    .option('--site <name>', "the node's site (default: the token's, else `default`)")
    .option('--state <dir>', 'state directory to make', DEFAULT_NODE_STATE)
    .option('--key-file <file>', `key file that seals the store; made if it is missing (default: ${DEFAULT_KEY_FILE})`)
    .option('--passphrase-file <file>', 'file with a passphrase instead', process.env.SELVEDGE_PASSPHRASE_FILE)
    .option('--passphrase-fd <number>', 'descriptor with a passphrase', descriptor)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  selvedge join --tower 203.0.113.5 --fingerprint sha256:4e1d… --token-file token --site harbor\n  selvedge join --tower 203.0.113.5 --fingerprint sha256:4e1d… --platform aws --cluster edge\n  selvedged --listen 192.0.2.7',
    )
    .action(join);
}

async function join(flags: JoinFlags): Promise<void> {
  const tower = address(flags.tower);
  const fingerprint = parseFingerprint(flags.fingerprint);
  const name = flags.name ?? hostname().split('.')[0]?.toLowerCase() ?? '';
  const state = resolve(flags.state);
  // Only joining needs them, and every other command should start fast.
  const [{ callHome }, { systemRandom, systemTimers }] = await Promise.all([import('../../src/enroll/call-home.ts'), import('../../src/transport/system.ts')]);
  const { maker: proof, cluster: wanted } = await proofOf(flags);
  const { identity } = await callHome({
    state,
    unseal: await loadOrCreateUnsealKey(flags),
    tower,
    fingerprint,
    proof,
    cluster: wanted,
    name,
    ...(flags.site !== undefined && { site: flags.site }),
    listen: [],
    timers: systemTimers,
    random: systemRandom,
    onRetry: (error, delay_ms) => process.stderr.write(`${error.message}; trying again in ${(delay_ms / 1_000).toFixed(1)} s (Ctrl-C ends it)\n`),
  });
  const { node, site, cluster } = identity;
  if (flags.json) printJson({ node, name: identity.name, site, cluster, state });
  else printLine(`this host is node ${identity.name}.${site}.${cluster} (${node}); its state is in ${state}\nstart it with: ${startLine(state, flags)}`);
}

/** @throws argument_invalid, not_found, token_invalid */
async function proofOf({ tokenFile, platform, ...flags }: JoinFlags): Promise<{ maker: ProofMaker; cluster: string }> {
  if (platform !== undefined && tokenFile === undefined) return await platformMaker(platform, flags);
  if (platform !== undefined || tokenFile === undefined)
    throw new SelvedgeError('argument_invalid', { name: 'token-file', why: 'either --token-file or --platform says how this host shows who it is' });
  const token = await readTokenFile(tokenFile);
  const maker = (await import('../../src/enroll/proofs/token.ts')).tokenMaker(token);
  return { maker, cluster: maker.cluster };
}

/** What to type next; not what is so anyway. */
function startLine(state: string, { keyFile, passphraseFile }: UnsealSource): string {
  const flags = { '--state': state === DEFAULT_NODE_STATE ? undefined : state, '--key-file': keyFile, '--passphrase-file': passphraseFile };
  const given = Object.entries(flags).flatMap(([flag, value]) =>
    value === undefined ? [] : [flag, /^[\w./:-]+$/.test(value) ? value : JSON.stringify(value)],
  );
  return ['selvedged', ...given].join(' ');
}

/** @throws not_found, token_invalid */
async function readTokenFile(path: string): Promise<string> {
  const bytes = path === '-' ? await readInput(limits.token_file_bytes_max) : await readFileBounded(path, limits.token_file_bytes_max).catch(asTokenFault);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'token file', name: path });
  const token = Buffer.from(bytes).toString('utf8').trim();
  if (token === '') throw new SelvedgeError('token_invalid', { why: `${path === '-' ? 'standard input' : path} is empty` });
  return token;
}

/** A file that can be no token, such as one of a megabyte, is no damaged store. */
function asTokenFault(error: unknown): never {
  if (!(error instanceof SelvedgeError && error.code === 'store_damaged')) throw error;
  throw new SelvedgeError('token_invalid', { why: `${error.facts.path} holds none: ${error.facts.why}` }, { cause: error });
}
