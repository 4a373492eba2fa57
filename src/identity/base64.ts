/** Base64 (RFC 4648, section 4), read strictly: padded, no white space, one text for one byte string. */
export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

/** Null if `text` is not the base64 of something of at most `bytesMax` bytes. */
export function fromBase64(text: unknown, bytesMax: number): Uint8Array | null {
  if (typeof text !== 'string' || text.length > Math.ceil(bytesMax / 3) * 4) return null;
  const bytes = Buffer.from(text, 'base64');
  return bytes.length <= bytesMax && bytes.toString('base64') === text ? new Uint8Array(bytes) : null;
}
