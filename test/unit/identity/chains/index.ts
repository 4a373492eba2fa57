/**
 * A few hundred chains that somebody may present, each with the verdict it must get, wherever it is judged: by a listener of a dialer
 * (`asClient`), and by a dialer that wants node NODE of site s1 (`asServer`). Made from tables of mutations; what is not named has the
 * profile's value. Keys are new in each run, verdicts are not.
 */
import type { ChainCase } from './cast.ts';
import { keyKinds, serials, signatures } from './crypto.ts';
import { everyElement, nameEncodings, shapes } from './encoding.ts';
import { constraints, paths, validity } from './paths.ts';
import { identities, strangeExtensions, usages } from './profile.ts';

export { type ChainCase, roots, type Verdict, victimCredentials } from './cast.ts';

const tables = [validity, paths, constraints, usages, strangeExtensions, keyKinds, signatures, serials, identities, shapes, nameEncodings, everyElement];

export const chainCases: readonly ChainCase[] = tables.flatMap((table) => table());
