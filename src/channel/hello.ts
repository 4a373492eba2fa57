/**
 * The hello (spec 5.2): the first frame of each side on a new session. The dialer's `hello` asks for a new channel or names the one that
 * this session shall carry on; the acceptor's `accept` is the same body, and only with it does the dialer believe in the session.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { classBits, classesOfBits, type TrafficClass } from './classes.ts';
import { encodeFrame } from './frame-encoder.ts';
import { frameTypes } from './frames.ts';

export const PROTOCOL_VERSION = 1;
export const CHANNEL_ID_BYTES = 16;
export const CHANNEL_SECRET_BYTES = 32;

const transportBits = { quic: 1, tcp: 2, relayed: 4 } as const;
export type HelloTransport = keyof typeof transportBits;

/**
 * `new`: open a channel. `resume`: this session replaces one that is gone. `migrate`: this session takes over from one that still works, which drains.
 * In an accept, `new` in answer to another mode says that the acceptor knows the channel no more.
 */
export type HelloMode = 'new' | 'resume' | 'migrate';
const modes = ['new', 'resume', 'migrate'] as const;

export interface Hello {
  readonly version: number;
  readonly mode: HelloMode;
  /** In a hello of mode `new`: zeros. The acceptor makes both; whoever resumes must know both. */
  readonly channel: Uint8Array;
  readonly secret: Uint8Array;
  readonly cluster: string;
  readonly node: string;
  readonly classes: readonly TrafficClass[];
  readonly transports: readonly HelloTransport[];
  readonly configVersion: number;
  readonly directoryVersion: number;
  readonly trustVersion: number;
  readonly routeEpoch: number;
  readonly draining: boolean;
  /** Over how long those who have a channel with this end spread their return when it was away, milliseconds; 0: they need not. */
  readonly return_ms: number;
}

export function encodeHello(type: 'hello' | 'accept', hello: Hello): Uint8Array {
  const body = new ByteWriter(192).varint(hello.version).u8(modes.indexOf(hello.mode)).raw(hello.channel).raw(hello.secret);
  body.text(hello.cluster).text(hello.node).varint(classBits(hello.classes));
  body.varint(hello.transports.reduce((bits, name) => bits | transportBits[name], 0));
  body
    .varint(hello.configVersion)
    .varint(hello.directoryVersion)
    .varint(hello.trustVersion)
    .varint(hello.routeEpoch)
    .u8(hello.draining ? 1 : 0)
    .varint(hello.return_ms);
  return encodeFrame(frameTypes[type], body.finish());
}

/** What follows the known fields is a newer version's and is ignored. @throws frame_invalid, version_unsupported */
export function decodeHello(bytes: Uint8Array): Hello {
  const reader = new ByteReader(bytes);
  const version = reader.varint();
  if (version !== PROTOCOL_VERSION) throw new SelvedgeError('version_unsupported', { found: version, expected: PROTOCOL_VERSION });
  const mode = modes[reader.u8()];
  if (mode === undefined) throw new SelvedgeError('frame_invalid', { why: 'unknown mode of hello' });
  const channel = reader.raw(CHANNEL_ID_BYTES).slice();
  const secret = reader.raw(CHANNEL_SECRET_BYTES).slice();
  const cluster = reader.text(limits.peer_name_bytes_max);
  const node = reader.text(limits.peer_name_bytes_max);
  const classes = classesOfBits(reader.varint(0xffff_ffff));
  const bits = reader.varint(0xffff_ffff);
  const transports = (Object.keys(transportBits) as HelloTransport[]).filter((name) => (bits & transportBits[name]) !== 0);
  return {
    version,
    mode,
    channel,
    secret,
    cluster,
    node,
    classes,
    transports,
    configVersion: reader.varint(),
    directoryVersion: reader.varint(),
    trustVersion: reader.varint(),
    routeEpoch: reader.varint(),
    draining: reader.u8() === 1,
    // Not there in a hello of an earlier minor.
    return_ms: reader.remaining === 0 ? 0 : reader.varint(),
  };
}

/** Takes the hello or accept off the front of a source's octets; null while more are needed. @throws frame_invalid, frame_too_large */
export function splitHello(bytes: Uint8Array): { type: 'hello' | 'accept'; body: Uint8Array; rest: Uint8Array } | null {
  const type = bytes[0];
  if (type === undefined) return null;
  if (type !== frameTypes.hello && type !== frameTypes.accept) throw new SelvedgeError('frame_invalid', { why: `frame of type ${type} where a hello belongs` });
  const prefix = bytes.length > 1 ? 1 << ((bytes[1] as number) >> 6) : 1;
  if (bytes.length < 1 + prefix) return null;
  const reader = new ByteReader(bytes.subarray(1));
  const length = reader.varint();
  if (length > limits.hello_bytes_max) throw new SelvedgeError('frame_too_large', { found: length, max: limits.hello_bytes_max });
  if (reader.remaining < length) return null;
  return { type: type === frameTypes.hello ? 'hello' : 'accept', body: reader.raw(length), rest: reader.rest() };
}
