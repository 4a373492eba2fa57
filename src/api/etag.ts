/**
 * No lost update: whoever reads one resource is told its revision as an `ETag`, and whoever changes it says with `If-Match` which revision they have seen, or `*` for
 * whatever is there (RFC 9110, section 13.1.1).
 */
import { Type } from 'typebox';
import { SelvedgeError } from '../base/errors.ts';

/** For the `headers` of a route that changes something. */
export const IfMatch = Type.Object({ 'if-match': Type.Optional(Type.String({ maxLength: 64, description: 'the `ETag` of what was read, or *' })) });

export function etagOf(revision: number): string {
  return `"${revision}"`;
}

/** The revision that the caller has seen; null for `*`. @throws request_invalid */
export function matchOf(headers: { readonly 'if-match'?: string }): number | null {
  const text = headers['if-match'];
  if (text === '*') return null;
  const revision = Number(/^"(\d{1,16})"$/.exec(text ?? '')?.[1] ?? Number.NaN);
  if (Number.isSafeInteger(revision)) return revision;
  const why = text === undefined ? 'missing: a change says which revision it is for, by the ETag of what was read, or *' : 'one ETag as it was told, or *';
  throw new SelvedgeError('request_invalid', { path: '/headers/if-match', why });
}
