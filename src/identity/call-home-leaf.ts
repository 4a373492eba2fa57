/**
 * Call-home certificates: issued by the tower for one purpose, to sign a challenge when enrolling. The name in one is the id of its grant at the tower, of a form
 * that neither a channel nor the API takes for anybody; what it is good for stands in the grant. `verifyCallHome` is the one decision about them.
 */
import { SelvedgeError } from '../base/errors.ts';
import { parseCallHomeUri } from '../base/ids.ts';
import { type ProfileInput, verifyProfile } from './verify.ts';

/** The id of its grant. Whether that may still be used is for the tower's record to say. @throws certificate_invalid, wrong_cluster */
export function verifyCallHome(input: Omit<ProfileInput, 'usage' | 'expectedNode'>): string {
  const facts = verifyProfile({ ...input, usage: 'client' }, 'callHome');
  const [uri = ''] = facts.uriNames;
  const name = parseCallHomeUri(uri);
  if (name === null)
    throw new SelvedgeError('certificate_invalid', { peer: 'the host', why: `its name '${uri}' is not of the form spiffe://CLUSTER/call-home/GRANT` });
  if (name.cluster !== input.cluster) throw new SelvedgeError('wrong_cluster', { found: name.cluster, expected: input.cluster });
  return name.grant;
}
