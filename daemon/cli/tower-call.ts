/** What the commands of an operator ask of the tower: one request, or a list to its last page. */
import { type ControlCall, callControl } from '../../src/node/control-client.ts';
import { list, maybe, number, shape, text, whole } from './answers.ts';
import { type TowerFlags as Place, towerOf } from './arguments.ts';

export interface TowerFlags extends Place {
  readonly json?: boolean;
}

export interface TowerRequest {
  readonly body?: Record<string, unknown>;
  /** The revision that the change is for. */
  readonly revision?: number;
}

export async function askTower(flags: TowerFlags, method: ControlCall['method'], path: string, { body, revision }: TowerRequest = {}): Promise<unknown> {
  const headers = revision === undefined ? {} : { headers: { 'if-match': `"${revision}"` } };
  return await callControl({ ...towerOf(flags), needs: 'tower', method, path, ...(body && { body }), ...headers });
}

/** Changes or ends a host as it is now: what somebody else made of it in between is not overrun. */
export async function changeHost(flags: TowerFlags, method: 'POST' | 'DELETE', path: string, action = ''): Promise<unknown> {
  const { revision } = whole(shape({ revision: number }))(await askTower(flags, 'GET', path));
  return await askTower(flags, method, `${path}${action}`, { revision });
}

/** Every item, page after page; `path` may have a query. */
export async function listTower<Item>(flags: TowerFlags, path: string, item: Parameters<typeof list<Item>>[0]): Promise<Item[]> {
  const read = whole(shape({ items: list(item), next: maybe(text) }));
  const items: Item[] = [];
  for (let after: string | null = ''; after !== null; ) {
    const query = new URLSearchParams({ limit: '500', ...(after !== '' && { after }) });
    const page: ReturnType<typeof read> = read(await askTower(flags, 'GET', `${path}${path.includes('?') ? '&' : '?'}${query}`));
    items.push(...page.items);
    after = page.next;
  }
  return items;
}
