/** What the programs of a simulation say to each other, and whether it arrived as it was said: streams octet by octet, messages by number, frames never older, datagrams whole. */
import { isErrorCode, SelvedgeError } from '../../base/errors.ts';
import { trafficClasses, trafficClassNames } from '../../channel/classes.ts';
import type { FlowHandle, Mesh } from '../../peering/mesh.ts';
import type { Agenda } from './agenda.ts';

/** Called with what is wrong. */
export type Violated = (what: string) => void;

const STREAM = 'sim-stream';
const MESSAGES = 'sim-messages';
const LATEST = 'sim-latest';
const DATAGRAMS = 'sim-datagrams';

const reliableClasses = trafficClassNames.filter((name) => (trafficClasses[name].kinds as readonly string[]).includes('messages'));
const streamClasses = trafficClassNames.filter((name) => (trafficClasses[name].kinds as readonly string[]).includes('stream'));
/** Small pieces: the carrier answers them within the turn. */
const PIECE_BYTES = 4_000;
const FRAME_BYTES = 200;
const PATTERN = 251;

export interface Workload {
  begun: number;
  /** Flows that ended well, and those that ended with a reason. */
  done: number;
  failed: number;
  /** Those that have not ended: whether the program that began each is still there. With a program that crashes, what it was saying is over. */
  readonly open: Set<() => boolean>;
}

/** The services of one program. */
export function serveWorkload(mesh: Mesh, agenda: Agenda, slowReader_ms: () => number, violated: Violated): void {
  const settle = (flow: FlowHandle, work: Promise<unknown>) => void work.catch((error: unknown) => checkReason(flow, error, violated));
  mesh.handle(STREAM, (flow) => settle(flow, checkStream(flow, agenda, slowReader_ms(), violated)));
  mesh.handle(MESSAGES, (flow) => settle(flow, checkNumbered(flow, 'message', 1, violated)));
  mesh.handle(LATEST, (flow) => settle(flow, checkNumbered(flow, 'frame', null, violated)));
  mesh.handle(DATAGRAMS, (flow) => settle(flow, checkWhole(flow, violated)));
}

/** One conversation of a kind that chance chooses; ends by itself. */
export function converse(mesh: Mesh, peer: string, agenda: Agenda, counts: Workload, violated: Violated, isAlive: () => boolean): void {
  const { random } = agenda;
  const work = [sayStream, sayMessages, sayLatest, sayDatagrams][random.below(4)] ?? sayStream;
  counts.begun++;
  counts.open.add(isAlive);
  work(mesh, peer, agenda, violated).then(
    () => {
      counts.open.delete(isAlive);
      counts.done++;
    },
    (error: unknown) => {
      counts.open.delete(isAlive);
      counts.failed++;
      if (!(error instanceof SelvedgeError) || error.code === 'internal_error') violated(`a flow to ${peer} failed without a reason: ${String(error)}`);
    },
  );
}

function checkReason(flow: FlowHandle, error: unknown, violated: Violated): void {
  if (error instanceof SelvedgeError && isErrorCode(error.code) && error.code !== 'internal_error') return;
  violated(`a flow of ${flow.class} from ${flow.peer} ended without a reason: ${String(error)}`);
}

function pick<Value>(agenda: Agenda, values: readonly Value[]): Value {
  return values[agenda.random.below(values.length)] as Value;
}

/** `first` octet says how the pattern begins. */
function patternAt(first: number, offset: number): number {
  return (first + offset * 7) % PATTERN;
}

async function sayStream(mesh: Mesh, peer: string, agenda: Agenda, violated: Violated): Promise<void> {
  const { random } = agenda;
  const length = 1 + random.below(random.below(4) === 0 ? 300_000 : 20_000);
  const first = random.below(PATTERN);
  const flow = mesh.open(peer, pick(agenda, streamClasses), 'stream', STREAM);
  for (let at = 0; at < length; ) {
    const piece = Uint8Array.from({ length: Math.min(PIECE_BYTES, length - at) }, (_, index) => patternAt(first, at + index));
    at += piece.length;
    if (!flow.write(piece)) await flow.drained();
  }
  flow.end();
  const answer: number[] = [];
  while (await flow.readable()) for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) answer.push(...bytes);
  const error = await flow.closed;
  if (error !== null) throw error;
  const counted = new DataView(Uint8Array.from(answer).buffer).getUint32(0);
  if (answer.length !== 4 || counted !== length) violated(`a stream to ${peer} had ${length} octets, ${counted} were counted`);
}

async function checkStream(flow: FlowHandle, agenda: Agenda, pause_ms: number, violated: Violated): Promise<void> {
  let first: number | null = null;
  let count = 0;
  while (await flow.readable()) {
    for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) {
      for (const octet of bytes) {
        first ??= octet;
        if (octet !== patternAt(first, count)) return violated(`octet ${count} of a stream of ${flow.class} from ${flow.peer} is another than was sent`);
        count++;
      }
    }
    if (pause_ms > 0) await new Promise<void>((resolve) => agenda.at(agenda.now + pause_ms, resolve));
  }
  const answer = new Uint8Array(4);
  new DataView(answer.buffer).setUint32(0, count);
  flow.write(answer);
  flow.end();
  const error = await flow.closed;
  if (error !== null) throw error;
}

function numbered(number: number, bytes: number): Uint8Array {
  const message = new Uint8Array(bytes).fill(number % PATTERN);
  new DataView(message.buffer).setUint32(0, number);
  return message;
}

function numberOf(message: Uint8Array): number | null {
  const number = new DataView(message.buffer, message.byteOffset).getUint32(0);
  return message.subarray(4).every((octet) => octet === number % PATTERN) ? number : null;
}

async function sayMessages(mesh: Mesh, peer: string, agenda: Agenda): Promise<void> {
  const flow = mesh.open(peer, pick(agenda, reliableClasses), 'messages', MESSAGES);
  await sayNumbered(flow, agenda, 1 + agenda.random.below(30), () => 4 + agenda.random.below(FRAME_BYTES));
}

async function sayLatest(mesh: Mesh, peer: string, agenda: Agenda): Promise<void> {
  await sayNumbered(mesh.open(peer, 'render', 'latest', LATEST), agenda, 1 + agenda.random.below(30), () => 4 + agenda.random.below(10 * FRAME_BYTES));
}

async function sayDatagrams(mesh: Mesh, peer: string, agenda: Agenda): Promise<void> {
  await sayNumbered(mesh.open(peer, 'vpn_packet', 'datagrams', DATAGRAMS), agenda, 1 + agenda.random.below(30), () => 4 + agenda.random.below(1_000));
}

async function sayNumbered(flow: FlowHandle, agenda: Agenda, count: number, bytes: () => number): Promise<void> {
  for (let number = 0; number < count; number++) {
    if (!flow.send(numbered(number, bytes())) && flow.kind === 'messages') await flow.drained();
    const pause_ms = agenda.random.below(50);
    await new Promise<void>((resolve) => agenda.at(agenda.now + pause_ms, resolve));
  }
  flow.end();
  const error = await flow.closed;
  // What may be dropped has no end to wait for: its flow is reset, politely.
  const isOver = error === null || (flow.kind !== 'messages' && error.code === 'session_closed');
  if (!isOver) throw error;
}

/** `step` null: only never back. */
async function checkNumbered(flow: FlowHandle, what: string, step: number | null, violated: Violated): Promise<void> {
  let last = -1;
  for (let message = await flow.receive(); message !== null; message = await flow.receive()) {
    const number = numberOf(message);
    if (number === null) return violated(`a ${what} of ${flow.class} from ${flow.peer} is another than was sent`);
    if (number <= last) return violated(`${what} ${number} of ${flow.class} from ${flow.peer} came after ${last}`);
    if (step !== null && number !== last + step) return violated(`${what} ${number} of ${flow.class} from ${flow.peer} came after ${last}: some are lost`);
    last = number;
  }
  flow.end();
}

async function checkWhole(flow: FlowHandle, violated: Violated): Promise<void> {
  for (let datagram = await flow.receive(); datagram !== null; datagram = await flow.receive())
    if (numberOf(datagram) === null) violated(`a datagram from ${flow.peer} is another than was sent`);
  flow.end();
}
