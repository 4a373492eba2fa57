/** The answers about operators and sessions, checked as those of answers.ts, and lists that come in pages. */
import { SelvedgeError } from '../../src/base/errors.ts';
import { type ControlCall, callControl } from '../../src/node/control-client.ts';
import { facts, list, maybe, number, shape, text, whole } from './answers.ts';

const operator = shape({ id: text, name: text, scopes: list(text), not_after_ms: maybe(number), bundle_expires_ms: maybe(number), revoked_ms: maybe(number) });
const session = shape({ id: text, actor: text, scopes: list(text), created_ms: number, expires_ms: number });

export type Operator = ReturnType<typeof operator>;
export type Session = ReturnType<typeof session>;

export const readOperator = whole(operator);
export const readMade = whole(shape({ operator, bundle: facts }));
export const readOperators = whole(shape({ items: list(operator), next: maybe(text) }));
export const readSession = whole(session);
export const readBegun = whole(shape({ token: text, session }));
export const readSessions = whole(shape({ items: list(session), next: maybe(text) }));
export const readSelf = whole(shape({ actor: text, scopes: list(text), session: maybe(text) }));

const PAGES_MAX = 1_000;

/** All items of a list, page after page. `callFor` is given the query of each. */
export async function everyPage<Item>(
  callFor: (query: string) => ControlCall,
  read: (answer: unknown) => { readonly items: readonly Item[]; readonly next: string | null },
): Promise<Item[]> {
  const all: Item[] = [];
  let query = '';
  for (let page = 0; page < PAGES_MAX; page++) {
    const { items, next } = read(await callControl(callFor(query)));
    all.push(...items);
    if (next === null) return all;
    query = `?after=${encodeURIComponent(next)}`;
  }
  throw new SelvedgeError('limit_reached', { limit: 'pages of a list', max: PAGES_MAX });
}
