/** A certificate that its own key has signed, and that nobody is to believe: for handshakes that have to finish and prove nothing. */
import { issueRoot, type Issuing } from './ca.ts';
import { generateKeyPair } from './keys.ts';
import { localSigner } from './signer.ts';

export async function selfSigned(name: string, issuing: Issuing): Promise<{ readonly chain: readonly Uint8Array[]; readonly key: Uint8Array }> {
  const { privateKey } = generateKeyPair();
  return { chain: [await issueRoot({ cluster: name, signer: localSigner(privateKey), ...issuing })], key: privateKey };
}
