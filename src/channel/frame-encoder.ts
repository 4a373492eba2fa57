/** Encodes the wire’s frames, exactly. */
import { ByteWriter, putVarint, varintLength } from '../base/bytes.ts';
import { errorTable } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { Slab } from '../base/slab.ts';
import { kindNumber, trafficClasses } from './classes.ts';
import { type ControlFrame, dataFlags, frameTypes, type LatestHead, resumeStatuses } from './frames.ts';

const slab = new Slab();
/** Where a frame's body is written before its length is known. */
const scratch = new ByteWriter(512);

/** The head of a data frame; its payload of `length` octets follows as it is. */
export function encodeDataHead(flow: number, offset: number, length: number, fin: boolean, stamp_us: number | null): Uint8Array {
  const bodyLength = varintLength(flow) + varintLength(offset) + 1 + (stamp_us === null ? 0 : 4) + length;
  const head = slab.take(limits.frame_head_bytes_max);
  head[0] = frameTypes.data;
  let at = putVarint(head, putVarint(head, putVarint(head, 1, bodyLength), flow), offset);
  head[at++] = (fin ? dataFlags.fin : 0) | (stamp_us === null ? 0 : dataFlags.stamped);
  if (stamp_us !== null) for (const shift of [24, 16, 8, 0]) head[at++] = stamp_us >>> shift;
  return slab.keep(head, at);
}

/** A message of a flow: its length, then its octets. */
export function encodeMessage(message: Uint8Array): Uint8Array {
  const framed = slab.take(8 + message.length);
  const at = putVarint(framed, 0, message.length);
  framed.set(message, at);
  return slab.keep(framed, at + message.length);
}

export function encodeLatestHead(head: LatestHead, length: number): Uint8Array {
  const bodyLength = varintLength(head.flow) + varintLength(head.sequence) + varintLength(head.total) + varintLength(head.offset) + length;
  return new ByteWriter(40).u8(frameTypes.latest).varint(bodyLength).varint(head.flow).varint(head.sequence).varint(head.total).varint(head.offset).finish();
}

export function encodeDatagramHead(flow: number, length: number): Uint8Array {
  return new ByteWriter(16)
    .u8(frameTypes.datagram)
    .varint(varintLength(flow) + length)
    .varint(flow)
    .finish();
}

/** Any frame whose body is there as a whole. */
export function encodeFrame(type: number, body: Uint8Array): Uint8Array {
  return frameOf(type, new ByteWriter(body.length).raw(body));
}

function frameOf(type: number, body: ByteWriter): Uint8Array {
  const frame = slab.take(1 + varintLength(body.length) + body.length);
  frame[0] = type;
  return slab.keep(frame, body.copyTo(frame, putVarint(frame, 1, body.length)));
}

export function encodeControl(frame: ControlFrame): Uint8Array {
  const body = scratch.restart();
  switch (frame.type) {
    case 'open':
      body.varint(frame.flow).u8(trafficClasses[frame.class].wire).u8(kindNumber(frame.kind)).text(frame.service);
      break;
    case 'ack':
      body.varint(frame.flow).varint(frame.consumed).varint(frame.limit);
      break;
    case 'reset':
      body.varint(frame.flow).varint(errorTable[frame.code].wire).text(clip(frame.reason));
      break;
    case 'resume':
      body.u8(frame.more ? 1 : 0).varint(frame.entries.length);
      for (const entry of frame.entries) body.varint(entry.flow).u8(resumeStatuses.indexOf(entry.status)).varint(entry.received);
      break;
    case 'heartbeat':
      body.raw(frame.channel).text(frame.from).text(frame.to).varint(frame.sequence).u32(frame.stamp_us);
      body
        .varint(frame.latency_us)
        .varint(frame.jitter_us)
        .varint(frame.loss_ppm)
        .u8(frame.health)
        .u8(frame.draining ? 1 : 0);
      body.varint(frame.configVersion).varint(frame.routeEpoch);
      break;
    case 'drain':
      body.u8(frame.draining ? 1 : 0).varint(frame.left_ms);
      break;
    case 'echo':
      body.varint(frame.sequence).u32(frame.stamp_us).u32(frame.held_us);
      break;
    case 'report':
      body.varint(frame.bytes).u32(frame.clock_us).u32(frame.owd_min_us).u32(frame.stamp_us).u32(frame.held_us);
      break;
  }
  return frameOf(frameTypes[frame.type], body);
}

/** A reason never outgrows its field; cut at a character. */
function clip(reason: string): string {
  return reason.length * 3 <= limits.reason_bytes_max ? reason : reason.slice(0, Math.floor(limits.reason_bytes_max / 3));
}
