/** Certificates of a benchmark: an acceptor and its dialers, of one cluster that is made for it. */
import { createAuthority, issueChain } from '../src/identity/authority.ts';
import { generateKeyPair } from '../src/identity/keys.ts';
import type { Credentials } from '../src/transport/session.ts';
import { systemRandom } from '../src/transport/system.ts';
import { ACCEPTOR, CLUSTER, type Pki, SITE } from './subject.ts';

export async function makePki(dialers: number): Promise<Pki> {
  const issuing = { now_ms: Date.now(), random: systemRandom };
  const authority = await createAuthority({ cluster: CLUSTER, ...issuing });
  const issue = async (node: string): Promise<Credentials> => {
    const pair = generateKeyPair();
    const chain = await issueChain(authority, { ...issuing, identity: { cluster: CLUSTER, site: SITE, node }, publicKey: pair.publicKey });
    return { chain, key: pair.privateKey };
  };
  const made: Pki['dialers'][number][] = [];
  for (let index = 0; index < dialers; index++) {
    const node = (index + 0x1000).toString(16).padStart(12, '0');
    made.push({ node, credentials: await issue(node) });
  }
  const pki = { root: authority.root, acceptor: await issue(ACCEPTOR), dialers: made };
  await authority.signer.close();
  return pki;
}
