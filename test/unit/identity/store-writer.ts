/**
 * A process that changes a sealed store for ever, to be killed in mid-write by `sealed-store.test.ts`. Prints each number once its change
 * is durable. Arguments: path of the store, its key in hex.
 */
import { writeSync } from 'node:fs';
import { fromHex } from '../../../src/base/ids.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';

const [path = '', hex = ''] = process.argv.slice(2);
const store = await SealedStore.open(path, { kind: 'key', key: fromHex(hex) ?? new Uint8Array() });
const count = (name: string): number => Number(Buffer.from(store.get(name) ?? Buffer.from('0')).toString());

for (let number = count('left') + 1; ; number++) {
  const value = Buffer.from(String(number));
  await store.update({ left: value, right: value, [`ballast-${number % 8}`]: new Uint8Array(16 * 1024).fill(number & 0xff) });
  writeSync(1, `${number}\n`);
}
