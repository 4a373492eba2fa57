/**
 * The options of each kind of resource, and what of it a list shows. A value is read here only as far as it is more than a word; what is allowed is the tower's
 * to say, so that there is one place that knows.
 */
import { SelvedgeError } from '../../src/base/errors.ts';
import { trafficClassNames } from '../../src/channel/classes.ts';
import { printable } from './output.ts';

/** Turns what was typed into what the document holds; a node's name is looked up by the caller. */
type Parse = (texts: readonly string[], nodeId: (name: string) => Promise<string>) => unknown;

export interface ResourceOption {
  /** As commander takes it: `--effect <effect>`. */
  readonly flags: string;
  readonly property: string;
  readonly description: string;
  readonly parse: Parse;
}

export interface ResourceKind {
  readonly name: string;
  readonly plural: string;
  readonly description: string;
  readonly options: readonly ResourceOption[];
  /** Column head and property of a list, after the name. */
  readonly columns: readonly (readonly [string, string])[];
  /** What follows `create NAME` and `set NAME` in the examples. */
  readonly examples: readonly [string, string];
}

const option = (flags: string, property: string, description: string, parse: Parse = word): ResourceOption => ({ flags, property, description, parse });

const description = option('--description <text>', 'description', 'for people');
const tenant = option('--tenant <name>', 'tenant', 'name of a tenant; `none`: the platform’s own', (texts) => (last(texts) === 'none' ? null : last(texts)));
const priority = option('--priority <n>', 'priority', 'the higher one decides (default 100)', (texts) => whole('priority', last(texts)));
const classes = option('--classes <names>', 'classes', `traffic classes, with commas between, or \`any\`: ${trafficClassNames.join(', ')}`, listOrAny);
const SELECTOR = 'such as role:till, site:harbor, tenant:port or node:NAME; several of a kind: one of them, several kinds: all; `any`: every node';
const from = option('--from <selector...>', 'from', `nodes that open, ${SELECTOR}`, selects('from'));
const to = option('--to <selector...>', 'to', `nodes that accept, ${SELECTOR}`, selects('to'));

export const resourceKinds: readonly ResourceKind[] = [
  {
    name: 'tenant',
    plural: 'tenants',
    description: 'tenants: whose nodes and services are whose',
    options: [description],
    columns: [['DESCRIPTION', 'description']],
    examples: ['port --description "Port authority"', 'port --description "Port of call"'],
  },
  {
    name: 'site',
    plural: 'sites',
    description: 'sites: groups of nodes on one local network, and how nodes enroll there',
    options: [
      description,
      tenant,
      option(
        '--proofs <names>',
        'proofs',
        'proofs by which nodes may enroll here, with commas between; `none`: nobody',
        (texts) => names(last(texts), 'none') ?? [],
      ),
      option('--x509-binding <binding>', 'x509_binding', 'which call-home certificates are taken: host-id, site or system-ca'),
      option('--fingerprint-certifies <yes|no>', 'fingerprint_certifies', 'whether a fingerprint alone is enough for a new key', yesNo),
      option('--unseal <mode>', 'unseal', 'how nodes unseal their stores: own, or site (with the help of the site)'),
    ],
    columns: [
      ['TENANT', 'tenant'],
      ['PROOFS', 'proofs'],
      ['UNSEAL', 'unseal'],
      ['DESCRIPTION', 'description'],
    ],
    examples: ['harbor --tenant port --proofs token,x509', 'harbor --proofs x509 --unseal site'],
  },
  {
    name: 'role',
    plural: 'roles',
    description: 'roles: what nodes are for, and with whom they may have channels',
    options: [
      description,
      option('--peers <roles>', 'peers', 'roles that its nodes may have channels with, with commas between, or `any`', listOrAny),
      classes,
    ],
    columns: [
      ['PEERS', 'peers'],
      ['CLASSES', 'classes'],
      ['DESCRIPTION', 'description'],
    ],
    examples: ['till --classes input,render', 'till --peers till,server'],
  },
  {
    name: 'policy',
    plural: 'policies',
    description: 'policies: which nodes may open flows to which, in which classes',
    options: [
      description,
      priority,
      option('--effect <effect>', 'effect', 'allow or deny; of equal priority deny decides'),
      from,
      to,
      classes,
      option('--services <names>', 'services', 'only flows of these services, or `any`', listOrAny),
      option('--degraded <yes|no>', 'degraded', 'whether it also allows while the tower is away', yesNo),
    ],
    columns: [
      ['PRIORITY', 'priority'],
      ['EFFECT', 'effect'],
      ['FROM', 'from'],
      ['TO', 'to'],
      ['CLASSES', 'classes'],
      ['SERVICES', 'services'],
      ['DEGRADED', 'degraded'],
    ],
    examples: ['tills-print --from role:till site:harbor --to role:printer --services print', 'tills-print --effect deny --priority 500'],
  },
  {
    name: 'route',
    plural: 'routes',
    description: 'routes: which nodes are reached through which relaying nodes',
    options: [
      description,
      priority,
      from,
      option('--to <selector...>', 'to', 'nodes that are reached, as of --from, or `tower`', (texts, nodeId) =>
        last(texts) === 'tower' ? null : selects('to')(texts, nodeId),
      ),
      option('--via <nodes>', 'via', 'nodes that relay, the preferred one first, with commas between', (texts, nodeId) =>
        Promise.all((names(last(texts), 'none') ?? []).map(nodeId)),
      ),
      classes,
    ],
    columns: [
      ['PRIORITY', 'priority'],
      ['FROM', 'from'],
      ['TO', 'to'],
      ['VIA', 'via'],
    ],
    examples: ['harbor-up --from site:harbor --to tower --via gate-1,gate-2', 'harbor-up --via gate-2'],
  },
  {
    name: 'service',
    plural: 'services',
    description: 'services: named TCP and UDP endpoints, and the nodes that host them',
    options: [
      description,
      tenant,
      option('--protocol <protocol>', 'protocol', 'tcp or udp'),
      option('--hosts <selector...>', 'hosts', `nodes that host it, ${SELECTOR}`, selects('hosts')),
      option('--target <host:port>', 'target', 'where a host of it passes connections on', target),
    ],
    columns: [
      ['PROTOCOL', 'protocol'],
      ['TARGET', 'target'],
      ['HOSTS', 'hosts'],
      ['TENANT', 'tenant'],
    ],
    examples: ['print --hosts role:printer --target 127.0.0.1:631', 'print --target 127.0.0.1:6310'],
  },
];

/** What null stands for, in the words by which the options take it. */
const absent: Readonly<Record<string, string>> = { peers: 'any', classes: 'any', services: 'any', to: 'tower' };

/** A property of a document as a cell of a table. */
export function cellOf(property: string, value: unknown): string {
  if (value === null || value === undefined) return absent[property] ?? 'none';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (Array.isArray(value)) return value.length === 0 ? 'none' : printable(value.join(' '));
  if (typeof value !== 'object') return printable(String(value));
  if ('port' in value && 'host' in value) return printable(`${value.host}:${value.port}`);
  const words = Object.entries(value).flatMap(([kind, list]) => (list as string[]).map((name) => `${kind.slice(0, -1)}:${name}`));
  return words.length === 0 ? 'any' : printable(words.join(' '));
}

const invalid = (name: string, why: string) => new SelvedgeError('argument_invalid', { name, why });

function last(texts: readonly string[]): string {
  return texts.at(-1) ?? '';
}

function word(texts: readonly string[]): string {
  return last(texts);
}

function whole(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw invalid(name, `'${text}' is not a whole number`);
  return Number(text);
}

function yesNo(texts: readonly string[]): boolean {
  const text = last(texts);
  if (text !== 'yes' && text !== 'no') throw invalid('yes or no', `'${text}' is neither`);
  return text === 'yes';
}

/** Null for the word that stands for it. */
function names(text: string, nothing: string): string[] | null {
  return text === nothing ? null : text.split(',').filter((name) => name !== '');
}

function listOrAny(texts: readonly string[]): string[] | null {
  return names(last(texts), 'any');
}

function target(texts: readonly string[]): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(last(texts));
  if (match === null) throw invalid('target', `'${last(texts)}' is not HOST:PORT or [IPv6]:PORT`);
  return { host: match[1] ?? match[2] ?? '', port: Number(match[3]) };
}

/** Of the option of this name. */
function selects(name: string): (...given: Parameters<Parse>) => Promise<object> {
  return (texts, nodeId) => selector(name, texts, nodeId);
}

async function selector(option: string, ...[texts, nodeId]: Parameters<Parse>): Promise<object> {
  const lists: Record<string, string[]> = {};
  if (texts.length === 1 && texts[0] === 'any') return lists;
  for (const text of texts) {
    const match = /^(node|role|site|tenant):(.+)$/.exec(text);
    if (match === null) throw invalid(option, `'${text}' is not any, node:NAME, role:NAME, site:NAME or tenant:NAME`);
    const [, kind, name] = match as unknown as [string, string, string];
    const list = lists[`${kind}s`] ?? [];
    list.push(kind === 'node' ? await nodeId(name) : name);
    lists[`${kind}s`] = list;
  }
  return lists;
}
