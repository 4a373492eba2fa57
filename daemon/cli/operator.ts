/** `selvedge operator …`: who manages the cluster. Made, listed and revoked at the tower or from afar; redeemed on the operator's own host. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { isOperatorId } from '../../src/base/ids.ts';
import { limits } from '../../src/base/limits.ts';
import { readFileBounded } from '../../src/identity/files.ts';
import { type ControlCall, callControl } from '../../src/node/control-client.ts';
import { everyPage, type Operator, readMade, readOperator, readOperators } from './answers-access.ts';
import { address, duration, label, scopeName, type TowerFlags, towerOf, withRemote, withTower } from './arguments.ts';
import { formatSeconds, printJson, printLine, printTable, readInput } from './output.ts';

interface OperatorFlags extends TowerFlags {
  readonly json?: boolean;
}

interface BundleFlags extends OperatorFlags {
  readonly expires?: number;
}

interface CreateFlags extends BundleFlags {
  readonly scope?: string[];
}

interface RedeemFlags {
  readonly bundleFile: string;
  readonly identity: string;
  readonly tower?: string;
  readonly json?: boolean;
}

const DAY_MS = 86_400_000;
const DEFAULT_LIFE_MS = DAY_MS;

export function operatorCommand(): Command {
  const command = new Command('operator').description('the people and programs that manage the cluster').addHelpText(
    'after',
    `
Examples, at the tower:
  (umask 077; selvedge operator create ada > ada.bundle)
and on Ada's host:
  selvedge operator redeem --bundle-file ada.bundle --identity ada.json
  selvedge token list --identity ada.json`,
  );
  const create = command
    .command('create')
    .description('make an operator, and print the bundle that it redeems, once')
    .argument('<name>', 'its name', label('name'));
  withExpiry(withTower(create))
    .option('--scope <name>', 'what it may do: management, client; may be given twice (default: both)', collect(scopeName))
    .addHelpText(
      'after',
      '\nThe bundle is all that goes to standard output.\n\nExample:\n  (umask 077; selvedge operator create ada --expires 1h > ada.bundle)',
    )
    .action(async (name: string, { expires = DEFAULT_LIFE_MS, scope, ...flags }: CreateFlags) => {
      const body = { name, life_ms: expires, ...(scope !== undefined && { scopes: [...new Set(scope)] }) };
      printMade(await callControl(call(flags, 'POST', '/v1/operators', body)));
    });
  withExpiry(
    withTower(
      command.command('bundle').description('another bundle for an operator that lost its key, or whose certificate ends').argument('<operator>', WHICH),
    ),
  )
    .addHelpText('after', '\nWhat it has goes on until this one is redeemed.\n\nExample:\n  (umask 077; selvedge operator bundle c719885f0f4d > ada.bundle)')
    .action(async (which: string, { expires = DEFAULT_LIFE_MS, ...flags }: BundleFlags) =>
      printMade(await callControl(call(flags, 'POST', `/v1/operators/${await idOf(which, flags)}/bundle`, { life_ms: expires }))),
    );
  withTower(command.command('list').description('the operators there are'))
    .addHelpText('after', '\nExample:\n  selvedge operator list --json')
    .action(async (flags: OperatorFlags) => {
      const operators = await everyPage((query) => call(flags, 'GET', `/v1/operators${query}`), readOperators);
      if (flags.json) printJson({ operators });
      else printTable(['ID', 'NAME', 'SCOPES', 'STATE'], operators.map(row));
    });
  withTower(
    command.command('revoke').description('cut an operator off: certificate, sessions, connections, and a bundle that waits').argument('<operator>', WHICH),
  )
    .addHelpText('after', '\nExample:\n  selvedge operator revoke c719885f0f4d')
    .action(async (which: string, flags: OperatorFlags) => {
      const gone = readOperator(await callControl(call(flags, 'DELETE', `/v1/operators/${await idOf(which, flags)}`)));
      if (flags.json) printJson(gone);
      else printLine(`operator ${gone.name} (${gone.id}) is revoked; its sessions and connections have ended`);
    });
  command
    .command('redeem')
    .description('on the operator’s host: a key, and the certificate that the bundle is worth')
    .requiredOption('--bundle-file <file>', 'file with the bundle; - reads it from standard input')
    .requiredOption('--identity <file>', 'identity file to make (0600); it holds the key, which never leaves this host')
    .option('--tower <address>', 'where the tower is: HOST or HOST:PORT (default: as the bundle says)')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nAsked again after an interruption, it goes on with the same key.\n\nExample:\n  selvedge operator redeem --bundle-file ada.bundle --identity ada.json',
    )
    .action(redeem);
  withRemote(
    command
      .command('renew')
      .description('on the operator’s host: another key, and a certificate of another year, without a bundle')
      .option('--json', 'print JSON'),
  )
    .addHelpText(
      'after',
      '\nThe certificate must still be good; one that has ended, or was revoked, needs a new bundle.\n\nExample:\n  selvedge operator renew --identity ada.json',
    )
    .action(renew);
  return command;
}

const WHICH = 'its name or id, as `operator list` tells them';

/** A name is that of one operator at most who is not revoked. @throws not_found */
async function idOf(which: string, flags: OperatorFlags): Promise<string> {
  if (isOperatorId(which)) return which;
  const operators = await everyPage((query) => call(flags, 'GET', `/v1/operators${query}`), readOperators);
  const found = operators.find(({ name, revoked_ms }) => name === which && revoked_ms === null);
  if (found === undefined) throw new SelvedgeError('not_found', { what: 'operator', name: which });
  return found.id;
}

async function redeem({ bundleFile, identity, tower, json }: RedeemFlags): Promise<void> {
  // Only this command needs them, and every other one should start fast.
  const [{ readBundle }, { redeemBundle }] = await Promise.all([import('../../src/enroll/operator-bundle.ts'), import('../../src/enroll/operator-redeem.ts')]);
  const max = limits.operator_bundle_bytes_max;
  const bytes = bundleFile === '-' ? await readInput(max) : await readFileBounded(bundleFile, max);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'bundle file', name: bundleFile });
  const path = resolve(identity);
  const made = await redeemBundle({ bundle: readBundle(bytes), path, now_ms: Date.now, ...(tower !== undefined && { tower: address(tower) }) });
  if (json) printJson({ operator: made.operator, name: made.name, cluster: made.cluster, identity: path });
  else
    printLine(
      `this is operator ${made.name} (${made.operator}) of ${made.cluster}; its identity is in ${path}\nuse it with: selvedge token list --identity ${path}`,
    );
}

async function renew(flags: OperatorFlags): Promise<void> {
  const { identity, json } = flags;
  if (identity === undefined) throw new SelvedgeError('argument_invalid', { name: 'identity', why: 'which identity is to be renewed: give --identity FILE' });
  const { renewOperatorIdentity } = await import('../../src/enroll/operator-renew.ts');
  const path = resolve(identity);
  const ask = (csr: string) => callControl(call(flags, 'POST', '/v1/operators/current/renew', { csr }));
  const { operator, name, cluster, chain } = await renewOperatorIdentity({ path, now_ms: Date.now, ask });
  // Shown once, it takes the place of the one before.
  await callControl(call(flags, 'GET', '/v1/self'));
  const { X509Certificate } = await import('node:crypto');
  const not_after_ms = new X509Certificate(Buffer.from(chain[0] ?? '', 'base64')).validToDate.getTime();
  if (json) printJson({ operator, name, cluster, identity: path, not_after_ms });
  else printLine(`operator ${name} (${operator}) of ${cluster} has a certificate until ${new Date(not_after_ms).toISOString()}; ${path} holds it and its key`);
}

function printMade(answer: unknown): void {
  const { operator, bundle } = readMade(answer);
  // Nothing else on standard output, so that it can be a file for --bundle-file.
  printJson(bundle);
  const until = new Date(operator.bundle_expires_ms ?? 0).toISOString();
  process.stderr.write(`bundle of operator ${operator.name} (${operator.id}), to be redeemed once, until ${until}; it is not shown again\n`);
}

function row({ id, name, scopes, not_after_ms, bundle_expires_ms, revoked_ms }: Operator): string[] {
  const now = Date.now();
  const left = (until_ms: number) => formatSeconds((until_ms - now) / 1_000);
  const certificate = not_after_ms === null ? 'not redeemed' : not_after_ms <= now ? 'expired' : `valid for ${Math.floor((not_after_ms - now) / DAY_MS)} days`;
  const bundle = bundle_expires_ms === null ? '' : bundle_expires_ms <= now ? ', bundle expired' : `, bundle waits for ${left(bundle_expires_ms)}`;
  return [id, name, scopes.join(', '), revoked_ms !== null ? 'revoked' : certificate + bundle];
}

function withExpiry(command: Command): Command {
  return command.option('--expires <time>', 'how long the bundle may wait: 90s, 15m, 1h, 7d (default: 24h)', duration('expires'));
}

function collect<T>(parse: (text: string) => T): (text: string, before: T[] | undefined) => T[] {
  return (text, before = []) => [...before, parse(text)];
}

function call(flags: OperatorFlags, method: ControlCall['method'], path: string, body?: Record<string, unknown>): ControlCall {
  return { ...towerOf(flags), needs: 'tower', method, path, ...(body && { body }) };
}
