/** Lists as pages: at most so many items in the order of their keys, and the key to go on after. A page costs what is on it, however long the list is. */
import { type TSchema, Type } from 'typebox';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

const digits_max = String(limits.page_items_max).length;

/** For the `querystring` of a route. */
export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.String({ pattern: `^[1-9][0-9]{0,${digits_max - 1}}$`, description: `items on a page, at most ${limits.page_items_max}` })),
    after: Type.Optional(Type.String({ pattern: '^[\\x21-\\x7e]{1,256}$', description: '`next` of the page before' })),
  },
  { additionalProperties: false },
);

/** A list's answer. `next` is null on its last page. */
export const pageOf = <Item extends TSchema>(item: Item) =>
  Type.Object({ items: Type.Array(item, { maxItems: limits.page_items_max }), next: Type.Union([Type.String(), Type.Null()]) });

/** One page of what `read` tells, which is asked for one more than the page has, so that the last page knows that it is. @throws request_invalid */
export async function readPage<Item, Shown>(
  { limit, after }: { readonly limit?: string; readonly after?: string },
  read: (request: { readonly after: string | null; readonly limit: number }) => Promise<readonly Item[]>,
  keyOf: (item: Item) => string,
  show: (item: Item) => Shown,
): Promise<{ items: Shown[]; next: string | null }> {
  const count = limit === undefined ? limits.page_items_default : Number(limit);
  if (count > limits.page_items_max) throw new SelvedgeError('request_invalid', { path: '/querystring/limit', why: `at most ${limits.page_items_max}` });
  const found = await read({ after: after ?? null, limit: count + 1 });
  const items = found.slice(0, count);
  const last = items.at(-1);
  return { items: items.map(show), next: found.length > count && last !== undefined ? keyOf(last) : null };
}
