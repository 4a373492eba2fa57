/** `selvedge call-home-cert …`: certificates by which hosts sign the tower's challenge when they enroll, and authorities whose certificates are taken. */
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { readFileBounded, writeFileAtomic } from '../../src/identity/files.ts';
import { list, shape, text, whole } from './answers.ts';
import { integer, tokenId, withTower } from './arguments.ts';
import { grant, grantRow } from './host.ts';
import { printJson, printLine, printTable } from './output.ts';
import { askTower, listTower, type TowerFlags } from './tower-call.ts';

const readIssued = whole(shape({ grant, chain: list(text) }));
const readGrant = whole(grant);

interface IssueFlags extends TowerFlags {
  readonly out: string;
  readonly hostId?: string;
  readonly binding: string;
  readonly site?: string;
  readonly tenant?: string;
  readonly name?: string;
  readonly days?: number;
  readonly uses?: number;
  readonly from?: string[];
}

interface TrustFlags extends TowerFlags {
  readonly ca: string;
  readonly crl?: string;
  readonly site?: string;
  readonly tenant?: string;
}

export function callHomeCertCommand(): Command {
  const command = new Command('call-home-cert')
    .description('certificates by which hosts enroll (at the tower)')
    .addHelpText('after', '\nExamples:\n  selvedge call-home-cert issue --host-id SN-0042 --out sn-0042.pem\n  selvedge call-home-cert revoke 4f1d2c3b4a59');
  withTower(command.command('issue').description('make a key and a certificate for it, and write both to a file'))
    .requiredOption('--out <file>', 'PEM file to write, of mode 0600: take it to the host')
    .option('--host-id <id>', 'the host that it is for, as `selvedge host id` prints it there')
    .addOption(new Option('--binding <binding>', 'what it is bound to').choices(['host-id', 'site']).default('host-id'))
    .option('--site <name>', 'the site that the host joins')
    .option('--tenant <name>', 'whose the node is (default: that of its site)')
    .option('--name <name>', 'the name of the node')
    .option('--days <n>', 'how long it is valid (default: 30)', integer('days', 1, limits.call_home_days_max))
    .option('--uses <n>', 'how many nodes, for binding `site` (default: 1)', integer('uses', 1, limits.token_uses_max))
    .option('--from <cidr...>', 'networks from which it may be used (default: everywhere)')
    .addHelpText(
      'after',
      '\nExamples:\n  selvedge call-home-cert issue --host-id SN-0042 --site harbor --out sn-0042.pem\n  selvedge call-home-cert issue --binding site --site harbor --uses 20 --out harbor.pem',
    )
    .action(issue);
  withTower(command.command('trust').description('take any certificate of an authority of your own'))
    .requiredOption('--ca <file>', 'its certificate (PEM or DER), P-256; it must issue the hosts’ certificates itself')
    .option('--crl <file>', 'its revocation list on the host of the tower, read at each attempt')
    .option('--site <name>', 'only for nodes of this site')
    .option('--tenant <name>', 'whose the nodes are (default: that of their site)')
    .addHelpText('after', '\nExample:\n  selvedge call-home-cert trust --ca machines.pem --crl /etc/selvedge/machines.crl --site harbor')
    .action(trust);
  withTower(command.command('list').description('the certificates and authorities there are'))
    .addHelpText('after', '\nExample:\n  selvedge call-home-cert list --json')
    .action(async (flags: TowerFlags) => {
      const certificates = await listTower(flags, '/v1/call-home-certs', grant);
      if (flags.json) printJson({ certificates });
      else printTable(['ID', 'USED', 'SITE', 'NAME', 'STATE'], certificates.map(grantRow));
    });
  withTower(
    command.command('revoke').description('refuse it from the next attempt on; nodes that joined with it stay').argument('<id>', 'as `list` tells it', tokenId),
  )
    .addHelpText('after', '\nExample:\n  selvedge call-home-cert revoke 4f1d2c3b4a59')
    .action(async (id: string, flags: TowerFlags) => {
      const revoked = readGrant(await askTower(flags, 'DELETE', `/v1/call-home-certs/${id}`));
      if (flags.json) printJson(revoked);
      else printLine(`${revoked.id} is revoked; it was used ${revoked.uses} times`);
    });
  return command;
}

/** The key is made here: the tower sees its public half alone. */
async function issue({ out, hostId, binding, site, tenant, name, days, uses, from, ...flags }: IssueFlags): Promise<void> {
  const path = resolve(out);
  if ((await readFileBounded(path, limits.call_home_file_bytes_max)) !== null) throw new SelvedgeError('file_exists', { path });
  const [{ createCsr }, { generateKeyPair }] = await Promise.all([import('../../src/identity/csr.ts'), import('../../src/identity/keys.ts')]);
  const { privateKey } = generateKeyPair();
  const bounds = {
    ...(site && { site }),
    ...(tenant && { tenant }),
    ...(name && { name }),
    ...(days && { days }),
    ...(uses && { uses }),
    ...(from && { sources: from }),
  };
  const body = { csr: Buffer.from(createCsr(privateKey)).toString('base64'), binding, ...(hostId && { host: hostId }), ...bounds };
  const { grant: made, chain } = readIssued(await askTower(flags, 'POST', '/v1/call-home-certs', { body }));
  const blocks = [pem('PRIVATE KEY', Buffer.from(privateKey).toString('base64')), ...chain.map((one) => pem('CERTIFICATE', one))];
  await writeFileAtomic(path, Buffer.from(blocks.join('')), { mode: 0o600 });
  if (flags.json) printJson({ ...made, file: path });
  else
    printLine(
      `${made.id}: key and certificate are in ${path}; join with --proof x509 --certificate ${path}${hostId === undefined ? '' : ` --host-id ${hostId}`}`,
    );
}

async function trust({ ca, crl, site, tenant, ...flags }: TrustFlags): Promise<void> {
  const path = resolve(ca);
  const bytes = await readFileBounded(path, limits.call_home_file_bytes_max);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'certificate file', name: path });
  const body = Buffer.from(bytes).toString('latin1');
  const inside = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/.exec(body)?.[1];
  const certificate = Buffer.from(inside ?? '', 'base64').toString('base64') || Buffer.from(bytes).toString('base64');
  const bounds = { ...(site && { site }), ...(tenant && { tenant }), ...(crl && { crl_file: resolve(crl) }) };
  const made = readGrant(await askTower(flags, 'POST', '/v1/call-home-certs/authorities', { body: { certificate, ...bounds } }));
  if (flags.json) printJson(made);
  else printLine(`${made.id}: certificates of this authority enroll one node each`);
}

function pem(label: string, base64: string): string {
  return `-----BEGIN ${label}-----\n${base64.replace(/(.{64})(?=.)/g, '$1\n')}\n-----END ${label}-----\n`;
}
