/** `selvedge trust …`: which root the cluster stands on, and putting another in its place (docs/operations.md, "Another root"). */
import { Command } from 'commander';
import { flag, list, number, shape, text, whole } from './answers.ts';
import { integer, withTower } from './arguments.ts';
import { printable, printJson, printLine, printTable } from './output.ts';
import { askTower, type TowerFlags } from './tower-call.ts';

const missing = shape({
  nodes: list(shape({ id: text, name: text, site: text, why: text })),
  nodes_total: number,
  operators: list(shape({ id: text, name: text })),
  operators_total: number,
});
const status = {
  phase: text,
  since_ms: number,
  version: number,
  threshold_percent: number,
  roots: list(shape({ role: text, fingerprint: text, not_before_ms: number, not_after_ms: number })),
  nodes: shape({ enabled: number, holding: number, ready: number }),
  operators: shape({ enabled: number, ready: number }),
  is_ready: flag,
  missing,
};
const readStatus = whole(shape(status));
const readRetired = whole(shape({ ...status, cut_off: missing }));
type Status = ReturnType<typeof readStatus>;
type Missing = Status['missing'];

interface RotateFlags extends TowerFlags {
  readonly threshold?: number;
  readonly rootSigner?: string;
  readonly signer?: string;
}

interface RetireFlags extends TowerFlags {
  readonly force?: boolean;
  readonly cutOffOperators?: boolean;
}

export function trustCommand(): Command {
  const command = new Command('trust')
    .description('which root the cluster stands on, and putting another in its place')
    .addHelpText('after', '\nExamples, in this order:\n  selvedge trust rotate\n  selvedge trust status\n  selvedge trust retire');
  withTower(command.command('status').description('the roots, how far a rotation is, and who has not followed'))
    .addHelpText('after', '\nExample:\n  selvedge trust status --json')
    .action(async (flags: TowerFlags) => print(flags, readStatus(await askTower(flags, 'GET', '/v1/trust'))));
  withTower(command.command('rotate').description('make another root; nodes are told of both, and get certificates under it by themselves'))
    .option(
      '--threshold <percent>',
      'of the nodes that are not disabled: how many have to be ready for each next step (default: 95)',
      integer('threshold', 1, 100),
    )
    .option('--root-signer <place>', "where the new root's key is: sealed, pkcs11:… or kms:… (default, where the key in use is sealed: sealed)")
    .option('--signer <place>', "where the new intermediate's key is (default, where the key in use is sealed: sealed)")
    .addHelpText(
      'after',
      `
The old root's key is not needed, and may be offline. A key in a token or key service is followed by another one, which you name.

Examples:
  selvedge trust rotate
  selvedge trust rotate --root-signer kms:alias/edge-root-2`,
    )
    .action(async ({ threshold, rootSigner, signer, ...flags }: RotateFlags) => {
      const places = { ...(rootSigner !== undefined && { root_signer: rootSigner }), ...(signer !== undefined && { signer }) };
      const body = { ...places, ...(threshold !== undefined && { threshold_percent: threshold }) };
      print(flags, readStatus(await askTower(flags, 'POST', '/v1/trust/rotate', { body })));
    });
  withTower(command.command('abandon').description('let go of the root that was to follow, while nothing was issued under it'))
    .addHelpText('after', '\nExample:\n  selvedge trust abandon')
    .action(async (flags: TowerFlags) => print(flags, readStatus(await askTower(flags, 'POST', '/v1/trust/abandon'))));
  withTower(command.command('retire').description('let go of the old root: it is refused from then on'))
    .option('--cut-off-operators', 'though some have not renewed: each of those needs a bundle again')
    .option('--force', 'though not enough nodes are ready, or operators have not renewed: those that are missing have to join again')
    .addHelpText('after', '\nExample:\n  selvedge trust retire')
    .action(async ({ force = false, cutOffOperators = force, ...flags }: RetireFlags) => {
      const body = { force, cut_off_operators: cutOffOperators };
      const done = readRetired(await askTower(flags, 'POST', '/v1/trust/retire', { body }));
      if (flags.json) return printJson(done);
      printStatus(done);
      printMissing('cut off', done.cut_off);
    });
  return command;
}

function print({ json }: TowerFlags, found: Status): void {
  if (json) return printJson(found);
  printStatus(found);
  printMissing('missing', found.missing);
}

function printStatus({ phase, since_ms, version, threshold_percent, roots, nodes, operators, is_ready }: Status): void {
  printLine(`${phase} since ${new Date(since_ms).toISOString()}; trust bundle ${version}`);
  for (const { role, fingerprint, not_after_ms } of roots)
    printLine(printable(`${role.padEnd(8)} ${fingerprint}  until ${new Date(not_after_ms).toISOString().slice(0, 10)}`));
  printLine(`nodes     ${nodes.holding} of ${nodes.enabled} hold this bundle`);
  if (phase === 'stable') return;
  printLine(`          ${nodes.ready} of ${nodes.enabled} need nothing of the old root, ${threshold_percent} % have to`);
  printLine(`operators ${operators.ready} of ${operators.enabled} need nothing of the old root`);
  printLine(is_ready ? 'the old root can be retired: selvedge trust retire' : 'not yet to be retired');
}

function printMissing(word: string, { nodes, nodes_total, operators, operators_total }: Missing): void {
  if (nodes_total + operators_total === 0) return;
  const rows = [...nodes.map(({ name, site, why }) => [name, site, lacks[why] ?? why]), ...operators.map(({ name }) => [name, 'operator', lacks.certificate])];
  printTable(
    [word.toUpperCase(), 'SITE', 'LACKS'],
    rows.map((row) => row.map(printable)),
  );
  const more = nodes_total + operators_total - rows.length;
  if (more > 0) printLine(`and ${more} more`);
}

const lacks: Readonly<Record<string, string>> & { readonly certificate: string } = {
  bundle: 'the bundle with the new root',
  certificate: 'a certificate under the new root',
  boot: 'a boot identity under the new root',
};
