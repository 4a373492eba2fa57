/** The sealed local key as a `Signer`. */
import { join } from 'node:path';
import t from 'tap';
import { SealedStore } from '../../src/identity/sealed-store.ts';
import { createSealedSigner, openSealedSigner } from '../../src/identity/signer.ts';
import { signerCompliance } from './signer.ts';
import { freshDirectory } from './store.ts';

const unseal = { kind: 'key', key: new Uint8Array(32).fill(7) } as const;

signerCompliance(t, 'sealed', {
  async make(t) {
    const path = join(freshDirectory(t), 'sealed.bin');
    const signer = await createSealedSigner(await SealedStore.create(path, unseal), 'key');
    return { signer, open: async () => openSealedSigner(await SealedStore.open(path, unseal), 'key') };
  },
});
