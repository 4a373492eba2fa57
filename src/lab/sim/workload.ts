/** What the programs of a simulation say to each other, and whether it arrived as it was said: streams octet by octet, messages by number, frames never older, datagrams whole. */
import { ByteReader, putU32 } from '../../base/bytes.ts';
import { isErrorCode, SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { classRow, type FlowKind, type TrafficClass, trafficClasses, trafficClassNames } from '../../channel/classes.ts';
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
/** Written and not acknowledged: what may wait, a window, which grows on long paths, and the piece that filled it. */
const WAITING_BYTES_MAX = limits.flow_send_queue_bytes_max + 16 * limits.flow_window_bytes_initial + PIECE_BYTES;

/** Told of each flow that begins, at whoever opens it and at whoever accepts it. */
export type Begun = (flow: FlowHandle) => void;

export interface Workload {
  /** Flows that ended well, and those that ended with a reason, by code. */
  done: number;
  readonly failed: Map<string, number>;
  /** Those that have not ended: whether the program that began each is still there. With a program that crashes, what it was saying is over. */
  readonly open: Set<() => boolean>;
}

/** The services of one program. */
export function serveWorkload(mesh: Mesh, agenda: Agenda, slowReader_ms: () => number, violated: Violated, begun: Begun): void {
  const serve = (service: string, check: (flow: FlowHandle) => Promise<unknown>): void =>
    mesh.handle(service, (flow) => {
      begun(flow);
      check(flow).catch((error: unknown) => checkReason(flow, error, violated));
    });
  serve(STREAM, (flow) => checkStream(flow, agenda, slowReader_ms(), violated));
  serve(MESSAGES, (flow) => checkNumbered(flow, 'message', 1, violated));
  serve(LATEST, (flow) => checkNumbered(flow, 'frame', null, violated));
  serve(DATAGRAMS, (flow) => checkWhole(flow, violated));
}

/** One conversation, from the side of whoever begins it. */
export interface Talk {
  readonly mesh: Mesh;
  readonly peer: string;
  readonly agenda: Agenda;
  readonly violated: Violated;
  readonly begun: Begun;
  /** Whether a rule has ever been against a class. */
  readonly mayBeDenied: (cls: TrafficClass) => boolean;
  /** Whether the program that talks is still there. */
  readonly isAlive: () => boolean;
}

/** Of a kind and class that chance chooses; ends by itself. */
export function converse(talk: Talk, counts: Workload): void {
  const { agenda, isAlive } = talk;
  const [kind, classes, say] = pick(agenda, conversations);
  const cls = pick(agenda, classes);
  counts.open.add(isAlive);
  begin(talk, cls, kind, say).then(
    () => {
      counts.open.delete(isAlive);
      counts.done++;
    },
    (error: unknown) => {
      counts.open.delete(isAlive);
      const code = error instanceof SelvedgeError ? error.code : 'none';
      counts.failed.set(code, (counts.failed.get(code) ?? 0) + 1);
      checkFailure(talk, cls, error);
    },
  );
}

async function begin(talk: Talk, cls: TrafficClass, kind: FlowKind, say: (flow: FlowHandle, talk: Talk) => Promise<void>): Promise<void> {
  const flow = talk.mesh.open(talk.peer, cls, kind, services[kind]);
  talk.begun(flow);
  await say(flow, talk);
}

function checkFailure({ peer, violated, mayBeDenied }: Talk, cls: TrafficClass, error: unknown): void {
  if (!(error instanceof SelvedgeError) || error.code === 'internal_error') violated(`a flow to ${peer} failed without a reason: ${String(error)}`);
  else if (error.code === 'peer_draining' && classRow(cls).essential === true)
    violated(`a flow of ${cls} to ${peer} was ended by a drain, though it is essential`);
  else if (error.code === 'channel_class_denied' && !mayBeDenied(cls)) violated(`a flow of ${cls} to ${peer} was denied, though no rule is against it`);
}

function checkReason(flow: FlowHandle, error: unknown, violated: Violated): void {
  if (error instanceof SelvedgeError && isErrorCode(error.code) && error.code !== 'internal_error') return;
  violated(`a flow of ${flow.class} from ${flow.peer} ended without a reason: ${String(error)}`);
}

function pick<Value>(agenda: Agenda, values: readonly Value[]): Value {
  return values[agenda.random.below(values.length)] as Value;
}

/** Octets of a stream: each 7 more than the one before, in a circle; a stream begins anywhere in it. */
const circle = Uint8Array.from({ length: PATTERN + PIECE_BYTES }, (_, index) => (index * 7) % PATTERN);
const placeOf = Uint8Array.from({ length: PATTERN }, (_, octet) => circle.indexOf(octet));

/** At most: some small, some more than a window, a few more than may wait. */
function streamBytes(random: Agenda['random']): number {
  const kind = random.below(200);
  return kind === 0 ? 12_000_000 : kind < 50 ? 300_000 : 20_000;
}

async function sayStream(flow: FlowHandle, { peer, agenda: { random }, violated }: Talk): Promise<void> {
  const length = 1 + random.below(streamBytes(random));
  const begin = random.below(PATTERN);
  for (let at = 0; at < length; ) {
    const place = (begin + at) % PATTERN;
    const piece = circle.slice(place, place + Math.min(PIECE_BYTES, length - at));
    at += piece.length;
    if (!flow.write(piece)) await flow.drained();
    const waiting_bytes = flow.written - flow.acknowledged;
    if (waiting_bytes > WAITING_BYTES_MAX) return violated(`${waiting_bytes} octets wait for a slow reader at ${peer}`);
  }
  flow.end();
  const answer: number[] = [];
  while (await flow.readable()) for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) answer.push(...bytes);
  const error = await flow.closed;
  if (error !== null) throw error;
  const counted = answer.length < 4 ? 'none' : new ByteReader(Uint8Array.from(answer)).u32();
  if (answer.length !== 4 || counted !== length) violated(`a stream to ${peer} had ${length} octets, ${counted} were counted`);
}

async function checkStream(flow: FlowHandle, agenda: Agenda, pause_ms: number, violated: Violated): Promise<void> {
  let begin: number | null = null;
  let count = 0;
  while (await flow.readable()) {
    for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) {
      begin ??= placeOf[bytes[0] ?? 0] ?? 0;
      const wrong = firstWrong(bytes, begin + count);
      if (wrong >= 0) return violated(`octet ${count + wrong} of a stream of ${flow.class} from ${flow.peer} is another than was sent`);
      count += bytes.length;
    }
    if (pause_ms > 0) await new Promise<void>((resolve) => agenda.at(agenda.now + pause_ms, resolve));
  }
  const answer = new Uint8Array(4);
  putU32(answer, 0, count);
  flow.write(answer);
  flow.end();
  const error = await flow.closed;
  if (error !== null) throw error;
}

/** The first octet that is not the circle's from `place` on; -1: none. */
function firstWrong(bytes: Uint8Array, place: number): number {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const begin = (place + at) % PATTERN;
    const length = Math.min(PIECE_BYTES, bytes.length - at);
    if (Buffer.compare(bytes.subarray(at, at + length), circle.subarray(begin, begin + length)) === 0) continue;
    for (let index = at; index < at + length; index++) if (bytes[index] !== circle[begin + index - at]) return index;
  }
  return -1;
}

function numbered(number: number, bytes: number): Uint8Array {
  const message = new Uint8Array(bytes).fill(number % PATTERN);
  putU32(message, 0, number);
  return message;
}

function numberOf(message: Uint8Array): number | null {
  if (message.length < 4) return null;
  const number = new ByteReader(message).u32();
  for (let index = 4; index < message.length; index++) if (message[index] !== number % PATTERN) return null;
  return number;
}

/** Messages, frames or datagrams of at most so many octets each. */
const sayUpTo =
  (bytes_max: number) =>
  (flow: FlowHandle, { agenda }: Talk): Promise<void> =>
    sayNumbered(flow, agenda, 1 + agenda.random.below(30), () => 4 + agenda.random.below(bytes_max));

const services: Record<FlowKind, string> = { stream: STREAM, messages: MESSAGES, latest: LATEST, datagrams: DATAGRAMS };
const conversations: readonly (readonly [FlowKind, readonly TrafficClass[], (flow: FlowHandle, talk: Talk) => Promise<void>])[] = [
  ['stream', streamClasses, sayStream],
  ['messages', reliableClasses, sayUpTo(FRAME_BYTES)],
  ['latest', ['render'], sayUpTo(10 * FRAME_BYTES)],
  ['datagrams', ['vpn_packet'], sayUpTo(1_000)],
];

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
