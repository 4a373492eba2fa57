/**
 * A process that changes a sealed store for ever, to be killed in mid-write by `store-kill.test.ts`; every third change seals it anew, under a key of the next
 * generation. Prints each number once its change is durable. Arguments: path of the store, the site token in hex, whose generation 1 it began with.
 */
import { writeSync } from 'node:fs';
import { fromHex } from '../../../src/base/ids.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { siteUnsealKey } from '../../../src/identity/unseal/site.ts';

const [path = '', hex = ''] = process.argv.slice(2);
const token = fromHex(hex) ?? new Uint8Array();
const keyOf = (generation: number) => siteUnsealKey({ generation, token }, '0123456789ab');
const store = await SealedStore.open(path, keyOf((await SealedStore.head(path)).key.generation));
const count = (name: string): number => Number(Buffer.from(store.get(name) ?? Buffer.from('0')).toString());

for (let number = count('left') + 1; ; number++) {
  const value = Buffer.from(String(number));
  const changes = { left: value, right: value, [`ballast-${number % 8}`]: new Uint8Array(16 * 1024).fill(number & 0xff) };
  if (number % 3 === 0) await store.reseal(keyOf(store.generation + 1), changes);
  else await store.update(changes);
  writeSync(1, `${number}\n`);
}
