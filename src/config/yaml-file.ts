/**
 * A YAML text, checked against a schema, with the line of each value at hand: an error names file, line and key, what was found and
 * what is allowed.
 */
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { type Document, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

export type KeyPath = readonly (string | number)[];

/** Alias expansions allowed: a topology has a handful, a bomb has billions. */
const ALIASES_MAX = 100;

export class YamlFile {
  readonly file: string;
  readonly #document: Document;
  readonly #lines = new LineCounter();
  readonly #value: unknown;

  /** @throws config_invalid */
  constructor(file: string, text: string) {
    this.file = file;
    if (text.length > limits.config_file_bytes_max) throw invalid(file, 1, 'file', `${text.length} characters`, `at most ${limits.config_file_bytes_max}`);
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, logLevel: 'error' });
    const [problem] = [...this.#document.errors, ...this.#document.warnings];
    if (problem) throw invalid(file, this.#lines.linePos(problem.pos[0]).line, 'YAML', problem.message, 'well-formed YAML 1.2');
    try {
      this.#value = this.#document.toJS({ maxAliasCount: ALIASES_MAX });
    } catch (error) {
      throw invalid(file, 1, 'YAML', error instanceof Error ? error.message : String(error), `at most ${ALIASES_MAX} aliases`);
    }
  }

  /** The whole file as `schema` says. @throws config_invalid */
  check<T extends TSchema>(schema: T): Static<T> {
    return this.checkPart([], this.#value, schema);
  }

  /** One part of it, which stands at `at`. @throws config_invalid */
  checkPart<T extends TSchema>(at: KeyPath, value: unknown, schema: T): Static<T> {
    const validator = Compile(schema);
    if (validator.Check(value)) return value as Static<T>;
    const problems = validator.Errors(value);
    // The most telling first: an unknown key before its parent's complaint about it, a wrong value before a union that it fits nowhere.
    const problem = problems.find((entry) => entry.keyword === 'boolean') ?? problems.find((entry) => entry.keyword !== 'anyOf') ?? problems[0];
    const inner = (problem?.instancePath ?? '').split('/').slice(1).map(unescapePointer);
    if (problem?.keyword === 'required') {
      const missing = (problem.params as { requiredProperties: string[] }).requiredProperties[0] ?? '?';
      throw this.#refuse([...at, ...inner], [...at, ...inner, missing], 'nothing', allowedBy(schema, [...inner, missing]));
    }
    if (problem?.keyword === 'boolean') throw this.#refuse([...at, ...inner], [...at, ...inner], 'this key', keysAllowed(schema, inner.slice(0, -1)));
    throw this.refuse([...at, ...inner], printable(pick(value, inner)), allowedBy(schema, inner));
  }

  /** The error for the value at `path`, for checks that a schema cannot express. */
  refuse(path: KeyPath, found: string, allowed: string): SelvedgeError {
    return this.#refuse(path, path, found, allowed);
  }

  #refuse(where: KeyPath, key: KeyPath, found: string, allowed: string): SelvedgeError {
    return invalid(this.file, this.#lineOf(where), key.length === 0 ? 'file' : key.join('.'), found, allowed);
  }

  /** The line of the key at `path`, or of the nearest thing around it. */
  #lineOf(path: KeyPath): number {
    let node: unknown = this.#document.contents;
    let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
    for (const step of path) {
      if (isMap(node)) {
        const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(step));
        if (!pair) break;
        if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
        node = pair.value;
      } else if (isSeq(node)) {
        node = node.items[Number(step)];
        if (isNode(node)) offset = node.range?.[0] ?? offset;
      } else break;
    }
    return this.#lines.linePos(offset).line;
  }
}

function invalid(file: string, line: number, key: string, found: string, allowed: string): SelvedgeError {
  return new SelvedgeError('config_invalid', { file, line, key, found, allowed });
}

function unescapePointer(text: string): string {
  return text.replaceAll('~1', '/').replaceAll('~0', '~');
}

function pick(value: unknown, path: KeyPath): unknown {
  let at = value;
  for (const step of path) at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[String(step)] : undefined;
  return at;
}

function printable(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'a map';
  return String(value);
}

interface Described {
  readonly description?: string;
  readonly keyForm?: string;
  readonly properties?: Readonly<Record<string, Described>>;
  readonly patternProperties?: Readonly<Record<string, Described>>;
  readonly items?: Described;
}

function schemaAt(schema: TSchema, path: KeyPath): Described {
  let at = schema as Described;
  for (const step of path) at = at.properties?.[String(step)] ?? Object.values(at.patternProperties ?? {})[0] ?? at.items ?? {};
  return at;
}

function allowedBy(schema: TSchema, path: KeyPath): string {
  return schemaAt(schema, path).description ?? 'keys and their values (docs/configuration.md, docs/lab.md)';
}

function keysAllowed(schema: TSchema, path: KeyPath): string {
  const parent = schemaAt(schema, path);
  return parent.keyForm ?? (Object.keys(parent.properties ?? {}).join(', ') || 'no keys');
}
