/** Text into HTML, safely. Pure. */

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => ENTITIES[letter] ?? letter);
}

/** A number of a picture: short, since there are thousands. */
export function short(value: number): string {
  return String(Math.round(value * 10) / 10);
}
