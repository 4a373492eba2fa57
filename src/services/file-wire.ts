/**
 * The words of a file transfer, on one `stream` flow of service `files` (docs/cli.md, "How a file travels"). A word is JSON behind
 * its length (u32); between the words runs the file's content, bare.
 *
 *     sender    {v: 1, transfer, name, size, again}   again: this run has tried before
 *     receiver  {have}                        what it holds on disk already; or done, or error
 *     sender    content from `have` to `size`, then {sha256}
 *     receiver  {done: true, sha256, name}    verified, synced, in its place; or error
 */
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { asSelvedgeError, isErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { FlowHandle } from './mesh.ts';

export const FILES_SERVICE = 'files';
export const FILES_VERSION = 1;

const Sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });
const strict = { additionalProperties: false };

const HeaderSchema = Type.Object(
  {
    v: Type.Integer(),
    transfer: Type.String({ pattern: '^[0-9a-f]{32}$' }),
    name: Type.String({ minLength: 1, maxLength: limits.transfer_name_bytes_max }),
    size: Type.Integer({ minimum: 0, maximum: limits.transfer_file_bytes_max }),
    again: Type.Boolean(),
  },
  strict,
);
const TrailerSchema = Type.Object({ sha256: Sha256 }, strict);
const DoneSchema = Type.Object({ done: Type.Literal(true), sha256: Sha256, name: Type.String({ maxLength: limits.transfer_name_bytes_max }) }, strict);
const Fact = Type.Union([Type.String({ maxLength: 1_024 }), Type.Number(), Type.Boolean(), Type.Null()]);
const RefusalSchema = Type.Object(
  { error: Type.Object({ code: Type.String({ maxLength: 64 }), facts: Type.Record(Type.String({ maxLength: 64 }), Fact) }, strict) },
  strict,
);
const AnswerSchema = Type.Union([Type.Object({ have: Type.Integer({ minimum: 0 }) }, strict), DoneSchema, RefusalSchema]);

export type Header = Static<typeof HeaderSchema>;
export type Answer = Static<typeof AnswerSchema>;
export type Done = Static<typeof DoneSchema>;
export type Refusal = Static<typeof RefusalSchema>;

/** The words that may be read, compiled once. */
export const words = { header: Compile(HeaderSchema), trailer: Compile(TrailerSchema), answer: Compile(AnswerSchema) };

interface WordShape<T> {
  Check(value: unknown): value is T;
  Errors(value: unknown): readonly { readonly instancePath: string; readonly message: string }[];
}

/** A word as it goes on the wire. */
export function encodeWord(word: object): Uint8Array {
  const json = Buffer.from(JSON.stringify(word));
  const bytes = new Uint8Array(4 + json.length);
  new DataView(bytes.buffer).setUint32(0, json.length);
  bytes.set(json, 4);
  return bytes;
}

/** An error as a word: code and facts, which are safe to show by the rules of the error table. */
export function refusalOf(error: unknown): Refusal {
  const { code, facts } = asSelvedgeError(error, 'internal_error', { what: 'file transfer' });
  return { error: { code, facts: { ...facts } } };
}

/** The receiver's error, as one of ours; a code of a newer version reads as `flow_reset`. */
export function errorOf({ error }: Refusal): SelvedgeError {
  return isErrorCode(error.code) ? new SelvedgeError(error.code, error.facts) : new SelvedgeError('flow_reset', { why: error.code });
}

/** Reads a flow as words and content, within bounds. */
export class WordReader {
  readonly #flow: FlowHandle;

  constructor(flow: FlowHandle) {
    this.#flow = flow;
  }

  /** The next word. @throws flow_violation, or why the flow ended */
  async word<T>(shape: WordShape<T>): Promise<T> {
    const length = new DataView((await this.#exactly(4)).buffer).getUint32(0);
    if (length > limits.transfer_word_bytes_max)
      throw new SelvedgeError('flow_violation', { why: `a word of ${length} bytes, at most ${limits.transfer_word_bytes_max} allowed` });
    const text = Buffer.from(await this.#exactly(length)).toString('utf8');
    return parse(shape, text);
  }

  /** Copies the next octets of the content into `into`; how many: 0 if none are there now. */
  takeInto(into: Uint8Array): number {
    return this.#flow.readInto(into);
  }

  /** Waits until `takeInto` has something. @throws why the flow ended */
  async more(): Promise<void> {
    if (await this.#flow.readable()) return;
    throw (await this.#flow.closed) ?? new SelvedgeError('flow_lost', { why: 'the peer ended it early' });
  }

  async #exactly(count: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      const taken = this.takeInto(bytes.subarray(filled));
      if (taken === 0) await this.more();
      filled += taken;
    }
    return bytes;
  }
}

function parse<T>(shape: WordShape<T>, text: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new SelvedgeError('flow_violation', { why: 'a word is not JSON' });
  }
  if (shape.Check(value)) return value;
  const [first] = shape.Errors(value);
  throw new SelvedgeError('flow_violation', { why: `a word does not fit: ${first?.instancePath ?? ''} ${first?.message ?? ''}` });
}
