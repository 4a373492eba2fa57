/** Names of received files: what a sender calls a file is a wish, and never a path. */
import { limits } from '../base/limits.ts';

/** Room that a part file's name leaves for the sent name, beside peer and transfer id. Octets. */
const PART_NAME_BYTES_MAX = 128;
/** How many files of one name are told apart by a suffix. */
export const NAME_SUFFIXES_MAX = 10_000;

/** A plain file name: the last component, nothing invisible, no leading dot, at most 255 octets. */
export function safeName(wish: string): string {
  const last = wish.split(/[/\\]/).at(-1) ?? '';
  const shown = last
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '_')
    .replace(/^[.\s]+/, '_')
    .trimEnd();
  return cutToBytes(shown, limits.transfer_name_bytes_max) || 'file';
}

/** `report.pdf` → `report-2.pdf`; the first one has no suffix. */
export function numberedName(name: string, number: number): string {
  if (number === 0) return name;
  const dot = name.lastIndexOf('.');
  const [stem, extension] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ''];
  const suffix = `-${number}`;
  const room = limits.transfer_name_bytes_max - Buffer.byteLength(suffix + extension);
  return room > 0 ? `${cutToBytes(stem, room)}${suffix}${extension}` : `${cutToBytes(name, limits.transfer_name_bytes_max - suffix.length)}${suffix}`;
}

/** Where a transfer's bytes stay until they are complete. Hidden; peer and transfer id keep two transfers of one name apart. */
export function partName(name: string, peer: string, transfer: string): string {
  return `.${cutToBytes(name, PART_NAME_BYTES_MAX)}.${peer}-${transfer}.part`;
}

export function isPartName(name: string): boolean {
  return /^\..+\.[0-9a-z]+-[0-9a-f]{32}\.part$/s.test(name);
}

/** Never cuts through a character. */
function cutToBytes(text: string, bytesMax: number): string {
  let bytes = 0;
  let result = '';
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > bytesMax) break;
    result += character;
  }
  return result;
}
