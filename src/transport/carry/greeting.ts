/**
 * The first frame of a flow of service `carry`: whose packets it carries and to whom, so that one in the middle knows where to pass it on, and the far end from
 * whom it comes. `[u16 length][u8 version][text from][text to]`. Who may say so is judged by whoever receives it.
 */
import { ByteReader, ByteWriter } from '../../base/bytes.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { isNodeId } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { FlowKind, TrafficClass } from '../../channel/classes.ts';
import type { FlowHandle } from '../flow-handle.ts';
import type { Timers } from '../system.ts';

export const CARRY_SERVICE = 'carry';
export const CARRY_CLASS = 'vpn_packet';
export const CARRY_KIND = 'stream';
const VERSION = 1;
const HEAD_BYTES = 2;

export interface CarryGreeting {
  readonly from: string;
  readonly to: string;
}

/** What of the mesh carrying needs. */
export interface CarryMesh {
  /** @throws not_connected, not_found, channel_class_denied, limit_reached */
  open(node: string, cls: TrafficClass, kind: FlowKind, service: string): FlowHandle;
  handle(service: string, accept: (flow: FlowHandle) => void): void;
}

/** Opens a flow to `via`, which is `to` itself or passes it on. @throws as CarryMesh.open */
export function openCarry(mesh: Pick<CarryMesh, 'open'>, via: string, greeting: CarryGreeting): FlowHandle {
  const flow = mesh.open(via, CARRY_CLASS, CARRY_KIND, CARRY_SERVICE);
  flow.write(encodeGreeting(greeting));
  return flow;
}

export function encodeGreeting({ from, to }: CarryGreeting): Uint8Array {
  const body = new ByteWriter(64).u8(VERSION).text(from).text(to).finish();
  const frame = new Uint8Array(HEAD_BYTES + body.length);
  new DataView(frame.buffer).setUint16(0, body.length);
  frame.set(body, HEAD_BYTES);
  return frame;
}

export interface Greeted {
  readonly greeting: CarryGreeting;
  /** What had come behind it. */
  readonly rest: Uint8Array;
}

/** Waits for the first frame of a flow that a peer opened; bounded in octets and time. @throws flow_refused, channel_class_denied, frame_invalid, frame_too_large, version_unsupported */
export async function hearGreeting(flow: FlowHandle, timers: Timers): Promise<Greeted> {
  if (flow.class !== CARRY_CLASS) throw new SelvedgeError('channel_class_denied', { class: flow.class, why: `packets are ${CARRY_CLASS}` });
  if (flow.kind !== CARRY_KIND) throw new SelvedgeError('flow_refused', { why: `packets are carried in a ${CARRY_KIND}, not in ${flow.kind}` });
  const patience_ms = limits.handshake_ms_max;
  const cancel = timers.after(patience_ms, () => flow.reset('timeout', `no greeting for ${patience_ms} ms`));
  try {
    let held: Uint8Array = new Uint8Array(0);
    while (await flow.readable()) {
      for (let piece = flow.read(); piece !== null; piece = flow.read()) {
        held = held.length === 0 ? piece : Buffer.concat([held, piece]);
        const greeted = parseGreeting(held);
        if (greeted !== null) return greeted;
      }
    }
  } finally {
    cancel();
  }
  // Where the flow has an error of its own, that stays the flow's; a peer that only finished has ended one half.
  throw new SelvedgeError('frame_invalid', { why: 'a carried flow without a greeting' });
}

/** Null while it is not all there. @throws frame_invalid, frame_too_large, version_unsupported */
export function parseGreeting(bytes: Uint8Array): Greeted | null {
  if (bytes.length < HEAD_BYTES) return null;
  const size = (bytes[0] as number) * 256 + (bytes[1] as number);
  const max = limits.carry_greeting_bytes_max;
  if (size > max) throw new SelvedgeError('frame_too_large', { found: size, max });
  const end = HEAD_BYTES + size;
  if (bytes.length < end) return null;
  const reader = new ByteReader(bytes.subarray(HEAD_BYTES, end));
  const version = reader.u8();
  if (version !== VERSION) throw new SelvedgeError('version_unsupported', { found: version, expected: VERSION });
  const greeting = { from: reader.text(max), to: reader.text(max) };
  reader.end();
  for (const node of [greeting.from, greeting.to]) if (!isNodeId(node)) throw new SelvedgeError('frame_invalid', { why: 'a greeting without node ids' });
  return { greeting, rest: bytes.subarray(end) };
}
