/** `selvedge audit …`: what happened at the tower, and whether the record of it is whole. The chain is walked here, so that nobody has to take the tower's word for it. */
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { readFileBounded } from '../../src/identity/files.ts';
import { auditBreak } from '../../src/tower/audit/audit.ts';
import { facts, list, maybe, number, shape, text, whole } from './answers.ts';
import { integer, withTower } from './arguments.ts';
import { printable, printJson, printLine, printTable } from './output.ts';
import { askTower, type TowerFlags } from './tower-call.ts';

const row = shape({ seq: number, version: number, at_ms: number, actor: text, action: text, subject: text, detail: text, previous: text, hash: text });
type Row = ReturnType<typeof row>;
const readRows = whole(shape({ items: list(row), next: maybe(text) }));
const headShape = shape({ cluster: text, seq: number, version: number, hash: text, at_ms: number });
const readHead = whole(shape({ cluster: text, seq: number, version: number, hash: text, at_ms: number, kept: maybe(headShape), signed: facts }));
const readKept = whole(shape({ seq: number, hash: text }));

interface ListFlags extends TowerFlags {
  readonly after: number;
  readonly count: number;
}

interface VerifyFlags extends TowerFlags {
  readonly head?: string;
}

const SEQ_MAX = 10 ** 12;
const COUNT_MAX = 1_000_000;

export function auditCommand(): Command {
  const command = new Command('audit')
    .description('the audit log of the tower: what changed, when, and by whom')
    .addHelpText('after', '\nExamples:\n  selvedge audit list --after 1200\n  selvedge audit verify --head /media/usb/head.json');
  withTower(command.command('list').description('rows of the log, the oldest first'))
    .option('--after <seq>', 'only rows after this one', integer('after', 0, SEQ_MAX), 0)
    .option('--count <n>', 'at most so many rows', integer('count', 1, COUNT_MAX), 100)
    .addHelpText('after', '\nExample:\n  selvedge audit list --after 1200 --count 50 --json')
    .action(listRows);
  withTower(command.command('verify').description('walk the whole chain of hashes, and name the first row that does not fit'))
    .option('--head <file>', 'a head that was kept elsewhere, as `audit head --json` printed it')
    .addHelpText('after', '\nExample:\n  selvedge audit verify --head /media/usb/head.json')
    .action(verify);
  withTower(command.command('head').description('where the log ends, signed: keep it elsewhere, for `audit verify --head`'))
    .addHelpText('after', '\nExample:\n  selvedge audit head --json > /media/usb/head.json')
    .action(async (flags: TowerFlags) => {
      const { cluster, seq, version, hash, at_ms, signed } = readHead(await askTower(flags, 'GET', '/v1/audit/head'));
      if (flags.json) printJson({ cluster, seq, version, hash, at_ms, signed });
      else printLine(`cluster ${cluster}: row ${seq}, version ${version}, hash ${hash}`);
    });
  return command;
}

async function listRows({ after, count, ...flags }: ListFlags): Promise<void> {
  const rows: Row[] = [];
  for await (const page of pages(flags, after)) {
    rows.push(...page.slice(0, count - rows.length));
    if (rows.length >= count) break;
  }
  if (flags.json) printJson({ rows });
  else
    printTable(
      ['SEQ', 'TIME', 'ACTOR', 'ACTION', 'SUBJECT', 'DETAIL'],
      rows.map((one) => [String(one.seq), new Date(one.at_ms).toISOString(), ...[one.actor, one.action, one.subject, one.detail].map(printable)]),
    );
}

async function verify({ head: file, ...flags }: VerifyFlags): Promise<void> {
  // Before the rows: they may become more meanwhile, never fewer.
  const { cluster, kept, ...now } = readHead(await askTower(flags, 'GET', '/v1/audit/head'));
  const heads = [{ seq: now.seq, hash: now.hash, whose: 'the tower’s database' }];
  if (kept !== null) heads.push({ seq: kept.seq, hash: kept.hash, whose: 'the head that the tower signed' });
  const given = file === undefined ? null : await readHeadFrom(file);
  if (given !== null) heads.push({ ...given, whose: `the head in ${file}` });
  const broken = (why: string) => new SelvedgeError('audit_broken', { cluster, why });
  let last: Row | null = null;
  for await (const page of pages(flags, 0)) {
    for (const next of page) {
      const why = auditBreak(last, next);
      if (why !== null) throw broken(`${why}; ${last?.seq ?? 0} rows before it are whole`);
      const other = heads.find((head) => head.seq === next.seq && head.hash !== next.hash);
      if (other !== undefined) throw broken(`row ${next.seq} is not the one that ${other.whose} names`);
      last = next;
    }
  }
  const end = last?.seq ?? 0;
  const beyond = heads.find((head) => head.seq > end);
  if (beyond !== undefined) throw broken(`it ends at row ${end}, before row ${beyond.seq}, which ${beyond.whose} names`);
  const told = { cluster, rows: last?.seq ?? 0, hash: last?.hash ?? '', kept_seq: kept?.seq ?? null, head_seq: given?.seq ?? null };
  if (flags.json) printJson(told);
  else
    printLine(
      `audit log of ${cluster} is whole: ${told.rows} rows, the last ${told.hash.slice(0, 16)}…${kept === null ? '' : `, with the head signed at row ${kept.seq}`}${given === null ? '' : `, and with that of ${file} at row ${given.seq}`}`,
    );
}

async function readHeadFrom(file: string): Promise<{ seq: number; hash: string }> {
  const bytes = await readFileBounded(file, limits.audit_head_file_bytes_max);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'head file', name: file });
  try {
    return readKept(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    throw new SelvedgeError('argument_invalid', { name: 'head', why: `${file} is not what \`audit head --json\` printed` }, { cause: error });
  }
}

/** Page after page, so that a log of any length takes little memory. */
async function* pages(flags: TowerFlags, after_seq: number): AsyncGenerator<Row[]> {
  for (let after: string | null = String(after_seq); after !== null; ) {
    const page: ReturnType<typeof readRows> = readRows(await askTower(flags, 'GET', `/v1/audit?limit=500&after=${after}`));
    yield page.items;
    after = page.next;
  }
}
