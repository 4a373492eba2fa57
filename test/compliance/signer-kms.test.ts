/** AWS KMS as a `Signer`, moto in the place of AWS; and what only a service can suffer: away, another key, a key of another kind. */
import { CreateAliasCommand, CreateKeyCommand, KMSClient, type KeySpec, UpdateAliasCommand } from '@aws-sdk/client-kms';
import t from 'tap';
import { openPlacedSigner, placedSigner } from '../../src/identity/signer-place.ts';
import { startKms } from '../fixtures/kms.ts';
import { authorityAt, signerCompliance } from './signer.ts';

// Python takes its time to start, and keys to be made.
t.setTimeout(120_000);

const service = await startKms(t);
const client = new KMSClient();
t.teardown(() => client.destroy());

async function freshKey(spec: KeySpec = 'ECC_NIST_P256'): Promise<string> {
  const { KeyMetadata } = await client.send(new CreateKeyCommand({ KeySpec: spec, KeyUsage: 'SIGN_VERIFY' }));
  return KeyMetadata?.KeyId ?? '';
}

signerCompliance(t, 'KMS', {
  async make() {
    const place = `kms:${await freshKey()}`;
    return { signer: await openPlacedSigner(place), open: () => openPlacedSigner(place) };
  },
});

t.test('an authority has both its keys in the service, and renews its intermediate there', async (t) => {
  await authorityAt(t, `kms:${await freshKey()}`, `kms:${await freshKey()}`);
});

t.test('a key that is not there, one of another kind, and an alias that leads elsewhere by now are told by name', async (t) => {
  await t.rejects(openPlacedSigner('kms:alias/nothing'), { code: 'signer_unavailable', message: /alias\/nothing/ });
  await t.rejects(openPlacedSigner(`kms:${await freshKey('ECC_NIST_P384')}`), { code: 'signer_unavailable', message: /P-256/ });
  const first = await freshKey();
  await client.send(new CreateAliasCommand({ AliasName: 'alias/selvedge', TargetKeyId: first }));
  const opened = await openPlacedSigner('kms:alias/selvedge');
  await client.send(new UpdateAliasCommand({ AliasName: 'alias/selvedge', TargetKeyId: await freshKey() }));
  await t.rejects(opened.sign(new Uint8Array(1)), { code: 'signer_unavailable', message: /not the key that it was/ });
  await opened.close();
});

t.test('a service that is away is told as unavailable, and the signer works again once it is back', async (t) => {
  const place = `kms:${await freshKey()}`;
  const made = await openPlacedSigner(place);
  const signer = placedSigner(place, made.publicKey);
  await made.close();
  t.ok(await signer.sign(new Uint8Array(2)));
  await service.stop();
  await t.rejects(signer.sign(new Uint8Array(2)), { code: 'signer_unavailable' });
  await startKms(t, service.port);
  // This one has no such key: what counts is that it was asked.
  await t.rejects(signer.sign(new Uint8Array(2)), { code: 'signer_unavailable', message: /Invalid keyId|not exist|NotFound/ });
  await signer.close();
});
