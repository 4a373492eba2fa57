/** `selvedge join` on a fresh host, and `selvedge preflight` for whoever installs one. */
import { unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import type { CallHomeRequest } from '../../src/enroll/call-home.ts';
import { parseFingerprint } from '../../src/identity/fingerprint.ts';
import { readFileBounded } from '../../src/identity/files.ts';
import { DEFAULT_KEY_FILE, type UnsealSource } from '../../src/identity/unseal.ts';
import { address, DEFAULT_NODE_STATE, descriptor, unsealOption, type UnsealFlags, willBeSiteSealed } from './arguments.ts';
import { DEFAULT_KUBERNETES_API, DEFAULT_POD_TOKEN, DEFAULT_STS_HOST, type PlatformFlags, platformMaker } from './join-proof.ts';
import { printJson, printLine, readInput } from './output.ts';

interface TowerFlags {
  readonly tower?: string;
  readonly fingerprint?: string;
  readonly tls: string;
  readonly insecureDevelopment?: boolean;
  readonly tokenFile?: string;
  readonly name?: string;
  readonly site?: string;
  readonly json?: boolean;
}

interface JoinFlags extends TowerFlags, UnsealFlags, PlatformFlags {
  readonly proof: 'token' | 'host-id' | 'x509' | 'fingerprint';
  readonly certificate?: string;
  readonly hostId?: string;
  readonly callHome?: string;
  readonly state: string;
}

const examples = `
Examples:
  selvedge join --tower 203.0.113.5 --fingerprint sha256:4e1d… --token-file token --site harbor
  selvedge join --tower 203.0.113.5 --fingerprint sha256:4e1d… --cluster edge --proof host-id --host-id SN-0042
  selvedge join --tower gate.example --tls system --fingerprint sha256:4e1d… --cluster edge --proof x509 --certificate call-home.pem --host-id SN-0042
  selvedge join --call-home call-home.json
  selvedge join --tower 203.0.113.5 --fingerprint sha256:4e1d… --token-file token --unseal site
  selvedge join --tower 203.0.113.5 --fingerprint sha256:4e1d… --cluster edge --proof fingerprint
  selvedge join --tower 203.0.113.5 --fingerprint sha256:4e1d… --platform aws --cluster edge
  selvedged --listen 192.0.2.7`;

export function joinCommand(): Command {
  return withTowerAddress(new Command('join').description('make this host a node of a cluster: a key, a request, a proof, and what the tower answers'))
    .addOption(new Option('--proof <kind>', 'how this host shows that it may join').choices(['token', 'host-id', 'x509', 'fingerprint']).default('token'))
    .option('--token-file <file>', 'file with the token; - reads it from standard input')
    .option('--certificate <file>', 'PEM file of proof x509: private key and certificate; one that the tower issued is removed when the node is enrolled')
    .option('--host-id <id>', "this host's id (default: what `selvedge host id` prints)")
    .option('--platform <name>', 'instead of --proof, what the platform says of this host: aws, google, kubernetes')
    .option('--cluster <name>', 'the name of the cluster, where no token tells it')
    .option('--sts-host <host>', `with --platform aws: the endpoint to sign for (default: ${DEFAULT_STS_HOST})`)
    .option('--pod-token-file <file>', `with --platform kubernetes: the projected token (default: ${DEFAULT_POD_TOKEN})`)
    .option(
      '--kubernetes-api <address>',
      `with --platform kubernetes: the API server; none hands over the projected token itself (default: ${DEFAULT_KUBERNETES_API})`,
    )
    .option('--call-home <file>', 'what `selvedge preflight` wrote, instead of all of the above')
    .option('--name <name>', "the node's name (default: the host's)")
    .option('--site <name>', "the node's site (default: the token's, else `default`)")
    .option('--state <dir>', 'state directory to make', DEFAULT_NODE_STATE)
    .option('--key-file <file>', `key file that seals the store; made if it is missing (default: ${DEFAULT_KEY_FILE})`)
    .option('--passphrase-file <file>', 'file with a passphrase instead', process.env.SELVEDGE_PASSPHRASE_FILE)
    .option('--passphrase-fd <number>', 'descriptor with a passphrase', descriptor)
    .addOption(unsealOption())
    .option('--json', 'print JSON')
    .addHelpText('after', examples)
    .action(join);
}

export function preflightCommand(): Command {
  return withTowerAddress(new Command('preflight').description('register a node before its daemon runs, by a token of that purpose'))
    .requiredOption('--token-file <file>', 'file with the token; - reads it from standard input')
    .requiredOption('--out <file>', 'file to write: `call-home.json` in the state directory is where the daemon looks')
    .option('--name <name>', "the node's name (default: its id)")
    .option('--site <name>', "the node's site (default: the token's, else `default`)")
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe same again after a lost answer uses no more of the token.\n\nExample:\n  selvedge preflight --tower 203.0.113.5 --fingerprint sha256:4e1d… --token-file token --out /var/lib/selvedge/node/call-home.json',
    )
    .action(prepare);
}

function withTowerAddress(command: Command): Command {
  return command
    .option('--tower <address>', 'where the tower is: HOST or HOST:PORT')
    .option('--fingerprint <sha256:hex>', "fingerprint of the cluster's root, as `tower init` printed it")
    .option(
      '--tls <trust>',
      'how the end of the connection is known: `root`; behind a proxy that ends TLS, or where the tower shows a certificate of files: `system`, roots:FILE, or sha256:HEX of it',
      'root',
    )
    .option('--insecure-development', 'a tower at a name without a dot is not verified when it is asked: for development alone');
}

async function join(flags: JoinFlags): Promise<void> {
  const state = resolve(flags.state);
  // Only joining needs them, and every other command should start fast.
  const [{ callHome }, { hostFacts }, { joinKey }, { systemRandom, systemTimers }] = await Promise.all([
    import('../../src/enroll/call-home.ts'),
    import('../../src/enroll/host-facts.ts'),
    import('../../src/node/join-key.ts'),
    import('../../src/transport/system.ts'),
  ]);
  const how = await howToJoin(flags);
  const facts = await hostFacts(how.cluster);
  const isSiteSealed = willBeSiteSealed(flags);
  const tell = (message: string) => process.stderr.write(`${message}\n`);
  const { identity } = await callHome({
    ...how,
    state,
    unseal: await joinKey({ state, source: flags, isSiteSealed, signal: AbortSignal.timeout(KEY_MS_MAX), log: tell }),
    isSiteSealed,
    isReturning: flags.proof === 'fingerprint',
    listen: [],
    ...(facts !== null && { facts }),
    timers: systemTimers,
    random: systemRandom,
    onRetry: (error, delay_ms) => process.stderr.write(`${error.message}; trying again in ${(delay_ms / 1_000).toFixed(1)} s (Ctrl-C ends it)\n`),
  });
  const { node, site, cluster } = identity;
  if (flags.json) printJson({ node, name: identity.name, site, cluster, state });
  else printLine(`this host is node ${identity.name}.${site}.${cluster} (${node}); its state is in ${state}\nstart it with: ${startLine(state, flags)}`);
}

/** For so long tower and site are asked for the key of a store that an earlier join sealed with the site's token. */
const KEY_MS_MAX = 30_000;

type How = Pick<CallHomeRequest, 'tower' | 'fingerprint' | 'tls' | 'cluster' | 'name' | 'site' | 'proof'>;

async function howToJoin(flags: JoinFlags): Promise<How> {
  const { callHomeBy, trustOf } = await import('../../src/enroll/preflight.ts');
  if (flags.callHome !== undefined) return await callHomeBy(resolve(flags.callHome), Date.now());
  const tower = address(needed('tower', flags.tower));
  const fingerprint = parseFingerprint(needed('fingerprint', flags.fingerprint));
  const name = flags.name ?? hostname().split('.')[0]?.toLowerCase() ?? '';
  const rest = { tower, fingerprint, tls: trustOf(tower, flags.tls, flags.insecureDevelopment), name, ...(flags.site !== undefined && { site: flags.site }) };
  if (flags.platform !== undefined && flags.tokenFile !== undefined)
    throw new SelvedgeError('argument_invalid', { name: 'token-file', why: 'either --token-file or --platform says how this host shows who it is' });
  if (flags.platform !== undefined) {
    const { maker, cluster } = await platformMaker(flags.platform, flags);
    return { ...rest, proof: maker, cluster };
  }
  if (flags.proof === 'token') {
    const { tokenMaker } = await import('../../src/enroll/proofs/token.ts');
    const proof = tokenMaker(await readTokenFile(needed('token-file', flags.tokenFile)));
    return { ...rest, proof, cluster: proof.cluster };
  }
  return { ...rest, cluster: needed('cluster', flags.cluster), proof: await proofOf(flags) };
}

async function proofOf({ proof, certificate, hostId, cluster = '' }: JoinFlags): Promise<How['proof']> {
  const { hostFacts, ownHostId } = await import('../../src/enroll/host-facts.ts');
  if (proof === 'fingerprint') {
    const facts = await hostFacts(cluster);
    if (facts === null) throw new SelvedgeError('proof_invalid', { kind: proof, why: 'this host has no machine id' });
    return (await import('../../src/enroll/proofs/fingerprint.ts')).fingerprintMaker(facts);
  }
  const host = hostId ?? (await ownHostId()) ?? undefined;
  if (proof === 'host-id') return (await import('../../src/enroll/proofs/host-id.ts')).hostIdMaker(needed('host-id', host));
  const path = resolve(needed('certificate', certificate));
  const bytes = await readFileBounded(path, limits.call_home_file_bytes_max);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'certificate file', name: path });
  const { isOfTower, readCallHomePem, x509Maker } = await import('../../src/enroll/proofs/x509.ts');
  const identity = readCallHomePem(bytes);
  return x509Maker(identity, { ...(host !== undefined && { host }), ...(isOfTower(identity) && { done: () => unlink(path) }) });
}

async function prepare({
  tower,
  fingerprint,
  tls,
  insecureDevelopment,
  tokenFile,
  out,
  name,
  site,
  json,
}: TowerFlags & { readonly out: string }): Promise<void> {
  const [{ callPreflight, trustOf }, { systemTimers }] = await Promise.all([import('../../src/enroll/preflight.ts'), import('../../src/transport/system.ts')]);
  const file = resolve(out);
  const at = address(needed('tower', tower));
  const { chain: _chain, ...prepared } = await callPreflight({
    file,
    tower: at,
    fingerprint: parseFingerprint(needed('fingerprint', fingerprint)),
    tls: trustOf(at, tls, insecureDevelopment),
    token: await readTokenFile(needed('token-file', tokenFile)),
    ...(name !== undefined && { name }),
    ...(site !== undefined && { site }),
    timers: systemTimers,
  });
  if (json) printJson({ ...prepared, file });
  else
    printLine(
      `${prepared.host} is registered as node ${prepared.node}, of pool ${prepared.pool}; its daemon has until ${new Date(prepared.expires_ms).toISOString()} to finish with ${file}`,
    );
}

function needed(name: string, value: string | undefined): string {
  if (value === undefined) throw new SelvedgeError('argument_invalid', { name, why: `--${name} is needed for this` });
  return value;
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
