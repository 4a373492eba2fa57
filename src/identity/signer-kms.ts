/**
 * A `Signer` whose key is in AWS KMS. Credentials, region and endpoint come from where the AWS SDK looks for them (environment, shared files, the instance's
 * or pod's role), so that no secret of AWS is ours to keep. The SDK is loaded only where such a key is used.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { p256Objection } from './keys.ts';
import type { Signer } from './signer.ts';

/** Id, ARN or alias of an asymmetric key, ECC_NIST_P256, SIGN_VERIFY. @throws signer_unavailable */
export async function openKmsSigner(keyId: string): Promise<Signer> {
  const { GetPublicKeyCommand, KMSClient, SignCommand } = await import('@aws-sdk/client-kms');
  const client = new KMSClient({
    maxAttempts: ATTEMPTS,
    requestHandler: { requestTimeout: limits.signer_answer_ms_max, connectionTimeout: limits.signer_answer_ms_max },
  });
  const ask = async <Answer>(call: () => Promise<Answer>): Promise<Answer> => {
    try {
      return await call();
    } catch (error) {
      throw asSelvedgeError(error, 'signer_unavailable', { what: `KMS key ${keyId}` });
    }
  };
  try {
    const { PublicKey: publicKey } = await ask(() => client.send(new GetPublicKeyCommand({ KeyId: keyId })));
    const objection = publicKey === undefined ? 'it has no public key' : p256Objection(new Uint8Array(publicKey));
    if (publicKey === undefined || objection !== null) throw new SelvedgeError('signer_unavailable', { what: `KMS key ${keyId}`, why: objection });
    const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
    let isClosed = false;
    return {
      algorithm: 'ES256',
      publicKey: new Uint8Array(publicKey),
      async sign(data) {
        if (isClosed) throw new SelvedgeError('handle_closed', { what: 'signer' });
        const digest = createHash('sha256').update(data).digest();
        const command = new SignCommand({ KeyId: keyId, Message: digest, MessageType: 'DIGEST', SigningAlgorithm: 'ECDSA_SHA_256' });
        const { Signature: signature } = await ask(() => client.send(command));
        // An alias may lead to another key by now.
        if (signature === undefined || !verify('sha256', data, { key, dsaEncoding: 'der' }, signature))
          throw new SelvedgeError('signer_unavailable', { what: `KMS key ${keyId}`, why: 'it is not the key that it was' });
        return new Uint8Array(signature);
      },
      async close() {
        isClosed = true;
        client.destroy();
      },
    };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

/** Of each call, by the SDK, with its own backoff. */
const ATTEMPTS = 3;
