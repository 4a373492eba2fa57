/**
 * A YAML text, checked against a schema, with the line of each value at hand. All that is wrong is told at once, each fault with file, line and key, what was
 * found and what is allowed: faults are gathered, and `end` throws them as one error.
 */
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Settings } from 'typebox/system';
import { type Document, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { aliasOffset, syntaxFaults } from './yaml-syntax.ts';

export type KeyPath = readonly (string | number)[];

/** Alias expansions allowed: a topology has a handful, a bomb has billions. */
const ALIASES_MAX = 100;

// The library stops at 8 unless told, and a fault may have several entries.
Settings.Set({ maxErrors: 8 * limits.config_faults_max });

const UNKNOWN_KEY = 'this key';

interface Fault {
  readonly line: number;
  readonly key: string;
  readonly found: string;
  readonly allowed: string;
}

export class YamlFile {
  readonly file: string;
  readonly #document: Document;
  readonly #lines = new LineCounter();
  readonly #value: unknown;
  readonly #faults: Fault[] = [];

  /** @throws config_invalid */
  constructor(file: string, text: string) {
    this.file = file;
    if (text.length > limits.config_file_bytes_max) {
      this.#faults.push({ line: 1, key: 'file', found: `${text.length} characters`, allowed: `at most ${limits.config_file_bytes_max}` });
      this.end();
    }
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, logLevel: 'error' });
    for (const { offset, message } of syntaxFaults(this.#document)) this.#syntax(offset, message, 'well-formed YAML 1.2');
    this.end();
    try {
      // A file of comments alone says nothing, which may be enough.
      this.#value = this.#document.toJS({ maxAliasCount: ALIASES_MAX }) ?? {};
    } catch (error) {
      this.#syntax(
        aliasOffset(this.#document),
        error instanceof Error ? error.message : String(error),
        `at most ${ALIASES_MAX} aliases, each after its anchor`,
      );
      this.end();
    }
  }

  /** The whole file as `schema` says. @throws config_invalid */
  check<T extends TSchema>(schema: T): Static<T> {
    const value = this.checkPart([], this.#value, schema);
    this.end();
    return value as Static<T>;
  }

  /** One part of it, which stands at `at`; undefined where it does not fit, which is a fault. */
  checkPart<T extends TSchema>(at: KeyPath, value: unknown, schema: T): Static<T> | undefined {
    const validator = Compile(schema);
    if (validator.Check(value)) return value as Static<T>;
    const before = this.#faults.length;
    for (const { keyword, instancePath, params } of validator.Errors(value)) {
      const inner = instancePath.split('/').slice(1).map(unescapePointer);
      const where = [...at, ...inner];
      if (keyword === 'required') {
        for (const missing of (params as { requiredProperties: string[] }).requiredProperties)
          this.#fault(where, [...where, missing], 'nothing', allowedBy(schema, [...inner, missing]));
      } else if (keyword === 'boolean') this.#fault(where, where, UNKNOWN_KEY, keysAllowed(schema, inner.slice(0, -1)));
      // Each such key has an entry of its own; a union's alternatives have theirs.
      else if (keyword !== 'additionalProperties' && keyword !== 'anyOf') this.fault(where, printable(pick(value, inner)), allowedBy(schema, inner));
    }
    // Whatever it was that did not fit: it is a fault.
    if (this.#faults.length === before) this.fault(at, printable(value), allowedBy(schema, []));
    return undefined;
  }

  /** Something wrong with the value at `path`, of checks that a schema cannot express. */
  fault(path: KeyPath, found: string, allowed: string): void {
    this.#fault(path, path, found, allowed);
  }

  /** @throws config_invalid, where there was any fault: the first of the file, the others with it */
  end(): void {
    if (this.#faults.length === 0) return;
    const errors = this.#faults
      // On one line the key that is misspelt, before the complaint that the right one is missing.
      .toSorted((left, right) => left.line - right.line || Number(right.found === UNKNOWN_KEY) - Number(left.found === UNKNOWN_KEY))
      .slice(0, limits.config_faults_max)
      .map((fault, index) => ({ file: this.file, ...fault, ...(index === 0 && { faults: this.#faults.length }) }));
    const [first, ...others] = errors;
    throw new SelvedgeError('config_invalid', first, { also: others.map((facts) => new SelvedgeError('config_invalid', facts)) });
  }

  #syntax(offset: number, found: string, allowed: string): void {
    this.#faults.push({ line: this.#lines.linePos(offset).line, key: 'YAML', found, allowed });
  }

  /** A value has one fault; what else is wrong with it shows when that is mended. */
  #fault(where: KeyPath, path: KeyPath, found: string, allowed: string): void {
    const key = path.length === 0 ? 'file' : path.join('.');
    if (!this.#faults.some((fault) => fault.key === key)) this.#faults.push({ line: this.#lineOf(where), key, found, allowed });
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
