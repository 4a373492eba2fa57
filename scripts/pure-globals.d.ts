// What the pure folders use beside the language: two globals of the WHATWG Encoding standard, and the one knob of errors that every
// engine of V8's family has. They have no clock, socket or randomness.
interface ErrorConstructor {
  stackTraceLimit: number;
}
declare class TextEncoder {
  encode(text?: string): Uint8Array<ArrayBuffer>;
  encodeInto(text: string, into: Uint8Array): { read: number; written: number };
}
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean });
  decode(bytes?: Uint8Array): string;
}
