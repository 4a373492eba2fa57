/** Makes a cluster of many out of a tower with one node: its row, again and again with other names, in one transaction, while nobody has the database open. */
import { createHash } from 'node:crypto';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';

const NODES_PER_SITE = 100;

export function fillWithNodes(path: string, count: number): void {
  const database = new DatabaseSync(path);
  const pattern = database.prepare('select * from nodes limit 1').get() as Record<string, SQLInputValue>;
  const columns = Object.keys(pattern);
  const insert = database.prepare(`insert into nodes (${columns.join(', ')}) values (${columns.map(() => '?').join(', ')})`);
  database.exec('begin');
  for (let index = 0; index < count; index++) {
    const row = { ...pattern, ...ownOf(columns, index) };
    insert.run(...columns.map((column) => row[column] ?? null));
  }
  database.exec('commit');
  database.close();
}

/** What no two nodes share. */
function ownOf(columns: readonly string[], index: number): Record<string, SQLInputValue> {
  const digest = (what: string): string => createHash('sha256').update(`${what} ${index}`).digest('hex');
  const own: Record<string, SQLInputValue> = {
    id: digest('id').slice(0, 12),
    name: `host-${index}`,
    site: `site-${Math.floor(index / NODES_PER_SITE)}`,
    fingerprint: digest('leaf'),
    csr_hash: digest('request'),
    spki_hash: digest('key'),
  };
  return Object.fromEntries(Object.entries(own).filter(([column]) => columns.includes(column)));
}
