/**
 * Decodes the wire's frames within bounds: takes octets in any pieces, and hands the payload of data on as it comes, without assembling or copying it. What breaks the format is
 * `frame_invalid` or `frame_too_large`, and ends the session.
 */
import { ByteReader } from '../base/bytes.ts';
import { codeOfWire, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { classOfWire, kindOfNumber } from './classes.ts';
import { type ControlFrame, type DataHead, dataFlags, type FrameSink, frameTypes, type LatestHead, type ResumeEntry, resumeStatuses } from './frames.ts';

const EXTENSION_TYPE_MIN = 64;

type DecoderState = 'type' | 'length' | 'body' | 'head' | 'payload';

/** Largest head of a frame with payload: flow, offset (or sequence, total, offset), flags, stamp. */
const PAYLOAD_HEAD_BYTES_MAX = 33;

/** One source's frames. Feed it in any pieces; it keeps at most one control frame's octets. */
export class FrameDecoder {
  readonly #sink: FrameSink;
  #state: DecoderState = 'type';
  #type = 0;
  /** Octets of the frame's length not yet seen; 0: not even the first. */
  #lengthLeft = 0;
  /** Octets of the frame's body not yet seen. */
  #left = 0;
  #held: Uint8Array | null = null;
  #heldLength = 0;
  #dataHead: DataHead | null = null;
  #latestHead: LatestHead | null = null;
  #offset = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether a frame is unfinished: an end of source here means that octets are missing. */
  get isMidFrame(): boolean {
    return this.#state !== 'type';
  }

  /** @throws frame_invalid, frame_too_large */
  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length || (this.#state === 'body' && this.#left === 0)) {
      switch (this.#state) {
        case 'type':
          this.#type = bytes[at++] as number;
          this.#state = 'length';
          break;
        case 'length':
          this.#takeLength(bytes[at++] as number);
          if (this.#lengthLeft === 0) this.#begin(this.#left);
          break;
        case 'body':
          at = this.#takeBody(bytes, at);
          break;
        case 'head':
          at = this.#takeHead(bytes, at);
          break;
        case 'payload':
          at = this.#payload(bytes, at);
          break;
      }
    }
  }

  /** One octet of a varint. A length beyond 2^53 is not exact, and far beyond any maximum. */
  #takeLength(octet: number): void {
    if (this.#lengthLeft === 0) {
      this.#left = octet & 0x3f;
      this.#lengthLeft = (1 << (octet >> 6)) - 1;
    } else {
      this.#left = this.#left * 256 + octet;
      this.#lengthLeft--;
    }
  }

  #begin(length: number): void {
    const hasPayload = this.#type === frameTypes.data || this.#type === frameTypes.latest;
    const max =
      this.#type === frameTypes.datagram
        ? limits.datagram_bytes_max
        : hasPayload
          ? limits.frame_payload_bytes_max + PAYLOAD_HEAD_BYTES_MAX
          : limits.control_frame_bytes_max;
    if (length > max) throw new SelvedgeError('frame_too_large', { found: length, max });
    this.#left = length;
    this.#held = null;
    this.#heldLength = 0;
    this.#state = hasPayload ? 'head' : 'body';
    if (hasPayload && length === 0) throw new SelvedgeError('frame_invalid', { why: 'data frame without a head' });
  }

  /** A body that lies whole in one piece, as nearly all do, is read where it is; else its octets are held until the last was seen. */
  #takeBody(bytes: Uint8Array, at: number): number {
    const count = Math.min(this.#left, bytes.length - at);
    const end = at + count;
    this.#left -= count;
    if (this.#held === null && this.#left === 0) this.#dispatch(bytes, at, end);
    else {
      this.#held ??= new Uint8Array(count + this.#left);
      this.#held.set(bytes.subarray(at, end), this.#heldLength);
      this.#heldLength += count;
      if (this.#left === 0) this.#dispatch(this.#held, 0, this.#heldLength);
    }
    return end;
  }

  /** Octet by octet only when the head straddles two pieces; the usual head lies whole in one. */
  #takeHead(bytes: Uint8Array, at: number): number {
    const held = this.#heldLength;
    const available = Math.min(this.#left + held, PAYLOAD_HEAD_BYTES_MAX, held + bytes.length - at);
    let view: Uint8Array;
    if (held === 0) view = bytes.subarray(at, at + available);
    else {
      view = new Uint8Array(available);
      view.set((this.#held as Uint8Array).subarray(0, held));
      view.set(bytes.subarray(at, at + available - held), held);
    }
    const whole = available === Math.min(this.#left + held, PAYLOAD_HEAD_BYTES_MAX);
    const size = this.#type === frameTypes.data ? this.#parseDataHead(view, whole) : this.#parseLatestHead(view, whole);
    if (size === null) {
      this.#held = view.slice();
      this.#heldLength = available;
      this.#left -= available - held;
      return at + available - held;
    }
    this.#left -= size - held;
    this.#requireEndInRange();
    this.#state = 'payload';
    this.#held = null;
    this.#heldLength = 0;
    const next = at + size - held;
    if (this.#left === 0) this.#endPayload(bytes.subarray(next, next));
    return next;
  }

  /** An offset beyond 2^53 - 1 is not exact: a frame may begin below it and must end there too, as in RFC 9000, section 19.8. */
  #requireEndInRange(): void {
    const max = Number.MAX_SAFE_INTEGER - this.#left;
    if (this.#dataHead && this.#dataHead.offset > max)
      throw new SelvedgeError('frame_invalid', { why: `a payload of ${this.#left} octets at offset ${this.#dataHead.offset} ends beyond 2^53 - 1` });
  }

  #parseDataHead(view: Uint8Array, whole: boolean): number | null {
    return parseWhole(view, whole, (reader) => {
      const flow = reader.varint();
      const offset = reader.varint();
      const flags = reader.u8();
      if ((flags & ~(dataFlags.fin | dataFlags.stamped)) !== 0) throw new SelvedgeError('frame_invalid', { why: `unknown flags ${flags}` });
      const stamp_us = (flags & dataFlags.stamped) !== 0 ? reader.u32() : null;
      this.#dataHead = { flow, offset, fin: (flags & dataFlags.fin) !== 0, stamp_us };
      this.#offset = offset;
    });
  }

  #parseLatestHead(view: Uint8Array, whole: boolean): number | null {
    return parseWhole(view, whole, (reader) => {
      const flow = reader.varint();
      const sequence = reader.varint();
      const total = reader.varint(limits.latest_frame_bytes_max);
      const offset = reader.varint(total);
      this.#latestHead = { flow, sequence, total, offset };
      this.#offset = offset;
    });
  }

  #payload(bytes: Uint8Array, at: number): number {
    const count = Math.min(this.#left, bytes.length - at);
    const piece = bytes.subarray(at, at + count);
    this.#left -= count;
    if (this.#left === 0) this.#endPayload(piece);
    else {
      this.#deliver(piece, false);
      this.#offset += count;
    }
    return at + count;
  }

  #endPayload(piece: Uint8Array): void {
    this.#state = 'type';
    this.#deliver(piece, true);
    this.#dataHead = null;
    this.#latestHead = null;
  }

  #deliver(piece: Uint8Array, last: boolean): void {
    if (this.#dataHead) this.#sink.data(this.#dataHead, this.#offset, piece, last);
    else if (this.#latestHead) this.#sink.latest({ ...this.#latestHead, offset: this.#offset }, piece);
  }

  /** A body from `begin` on, up to before `end`. */
  #dispatch(bytes: Uint8Array, begin: number, end: number): void {
    this.#held = null;
    this.#heldLength = 0;
    this.#state = 'type';
    const type = this.#type;
    const reader = new ByteReader(bytes, begin, end);
    if (type === frameTypes.hello) this.#sink.hello('hello', reader.rest());
    else if (type === frameTypes.accept) this.#sink.hello('accept', reader.rest());
    else if (type === frameTypes.datagram) this.#sink.datagram(reader.varint(), reader.rest());
    else {
      const frame = decodeControl(type, reader);
      if (frame !== null) this.#sink.control(frame);
    }
  }
}

/** Octets that `parse` took, or null if more are needed. `whole`: no more can come, so that what is missing is an error. */
function parseWhole(view: Uint8Array, whole: boolean, parse: (reader: ByteReader) => void): number | null {
  const reader = new ByteReader(view);
  try {
    parse(reader);
  } catch (error) {
    if (!whole && error instanceof SelvedgeError && reader.isShort) return null;
    throw error;
  }
  return view.length - reader.remaining;
}

/** Null for an extension's frame, which is skipped. */
function decodeControl(type: number, reader: ByteReader): ControlFrame | null {
  const frame = readControl(type, reader);
  // Behind the fields of an extension's frame, a newer end may have more.
  if (frame !== null && type < EXTENSION_TYPE_MIN) reader.end();
  return frame;
}

function readControl(type: number, reader: ByteReader): ControlFrame | null {
  switch (type) {
    case frameTypes.open:
      return readOpen(reader);
    case frameTypes.ack:
      return readAck(reader);
    case frameTypes.reset:
      return { type: 'reset', flow: readFlow(reader), code: codeOfWire(reader.varint()), reason: reader.text(limits.reason_bytes_max) };
    case frameTypes.resume:
      return readResume(reader);
    case frameTypes.heartbeat:
      return readHeartbeat(reader);
    case frameTypes.drain:
      return { type: 'drain', draining: reader.u8() === 1, left_ms: reader.varint() };
    case frameTypes.echo:
      return { type: 'echo', sequence: reader.varint(), stamp_us: reader.u32(), held_us: reader.u32() };
    case frameTypes.report:
      return { type: 'report', bytes: reader.varint(), clock_us: reader.u32(), owd_min_us: reader.u32(), stamp_us: reader.u32(), held_us: reader.u32() };
    default:
      if (type >= EXTENSION_TYPE_MIN) return null;
      throw new SelvedgeError('frame_invalid', { why: `unknown frame type ${type}` });
  }
}

function readFlow(reader: ByteReader): number {
  const flow = reader.varint();
  if (flow === 0) throw new SelvedgeError('frame_invalid', { why: 'flow 0 is not a flow' });
  return flow;
}

function readOpen(reader: ByteReader): ControlFrame {
  const flow = readFlow(reader);
  const classNumber = reader.u8();
  const kind = kindOfNumber(reader.u8());
  const service = reader.text(limits.service_name_bytes_max);
  const name = classOfWire(classNumber);
  if (name === null) throw new SelvedgeError('frame_invalid', { why: `unknown class ${classNumber}` });
  if (kind === null) throw new SelvedgeError('frame_invalid', { why: 'unknown kind of flow' });
  return { type: 'open', flow, class: name, kind, service };
}

function readAck(reader: ByteReader): ControlFrame {
  const flow = readFlow(reader);
  const consumed = reader.varint();
  const limit = reader.varint();
  if (limit < consumed) throw new SelvedgeError('frame_invalid', { why: 'limit below what was consumed' });
  return { type: 'ack', flow, consumed, limit };
}

function readResume(reader: ByteReader): ControlFrame {
  const more = reader.u8() === 1;
  const count = reader.varint(limits.resume_flows_per_frame_max);
  const entries: ResumeEntry[] = [];
  for (let index = 0; index < count; index++) {
    const flow = readFlow(reader);
    const status = resumeStatuses[reader.u8()];
    if (status === undefined) throw new SelvedgeError('frame_invalid', { why: 'unknown status of a flow' });
    entries.push({ flow, status, received: reader.varint() });
  }
  return { type: 'resume', more, entries };
}

function readHeartbeat(reader: ByteReader): ControlFrame {
  return {
    type: 'heartbeat',
    channel: reader.copy(16),
    from: reader.text(limits.peer_name_bytes_max),
    to: reader.text(limits.peer_name_bytes_max),
    sequence: reader.varint(),
    stamp_us: reader.u32(),
    latency_us: reader.varint(),
    jitter_us: reader.varint(),
    loss_ppm: reader.varint(1_000_000),
    health: reader.u8(),
    draining: reader.u8() === 1,
    configVersion: reader.varint(),
    routeEpoch: reader.varint(),
  };
}
