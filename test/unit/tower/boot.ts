/** What a node says to the tower to be unsealed later on: its reports, and a boot identity as the tower issues it. */
import { boxPurposes, type SiteNews, type SiteReport } from '../../../src/enroll/unseal-wire.ts';
import { fromBase64, toBase64 } from '../../../src/identity/base64.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { openBox } from '../../../src/identity/sealed-box.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import type { Credentials } from '../../../src/transport/session.ts';

export const bytes = (text: string | undefined): Uint8Array => fromBase64(text, 64 * 1024) ?? new Uint8Array();

/** As a node says it, with a key of its own for the answer. */
export function reporter() {
  const { privateKey, publicKey } = generateKeyPair();
  const say = (rest: Partial<SiteReport> = {}): SiteReport => ({ have: 0, sealed: 0, boot: null, key: toBase64(publicKey), ...rest });
  const open = (site: string, news: SiteNews | null) =>
    (news?.tokens ?? []).map(({ generation, box }) => ({ generation, token: openBox(privateKey, boxPurposes.siteToken(site, generation), bytes(box)) }));
  return { say, open };
}

/** A boot identity of this node, as the tower issues it. */
export async function bootOf(tower: Tower, id: string): Promise<Credentials> {
  const { privateKey } = generateKeyPair();
  const news = await tower.unsealing.report(id, reporter().say({ csr: toBase64(createCsr(privateKey, 'boot')) }));
  return { chain: (news?.boot ?? []).map(bytes), key: privateKey };
}
