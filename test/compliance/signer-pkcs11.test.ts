/** PKCS#11 as a `Signer`, with a real SoftHSM2; and what only a token can suffer: taken out, put back, another PIN, another key. */
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { checkSignerPlace, openPlacedSigner, placedSigner } from '../../src/identity/signer-place.ts';
import { PIN, softHsm } from '../fixtures/softhsm.ts';
import { authorityAt, signerCompliance } from './signer.ts';

const hsm = softHsm(t);
let keys = 0;
const freshKey = () => hsm.place(`key-${++keys}`);

signerCompliance(t, 'PKCS#11', {
  async make() {
    const place = freshKey();
    return { signer: await openPlacedSigner(place, { make: true }), open: () => openPlacedSigner(place) };
  },
});

t.test('an authority has both its keys in a token, and renews its intermediate there', (t) => authorityAt(t, freshKey(), freshKey()));

t.test('a token that is taken out is told as unavailable, and works again once it is back', async (t) => {
  const place = freshKey();
  const made = await openPlacedSigner(place, { make: true });
  const { publicKey } = made;
  await made.close();
  const signer = placedSigner(place, publicKey);
  t.ok(await signer.sign(new Uint8Array(3)));
  hsm.unplug();
  // The process that holds the session is gone, as with a library that crashed; the next one finds no token.
  for (const pid of childrenOf(process.pid)) process.kill(pid, 'SIGKILL');
  await t.rejects(signer.sign(new Uint8Array(3)), { code: 'signer_unavailable', message: /no token 'selvedge test'/ });
  hsm.plug();
  t.ok(await signer.sign(new Uint8Array(3)), 'without a restart of anything');
  for (const pid of childrenOf(process.pid)) process.kill(pid, 'SIGKILL');
  t.ok(await signer.sign(new Uint8Array(3)), 'a process that ended is started again, and nobody notices');
  await signer.close();
  t.same(childrenOf(process.pid), [], 'no process is left');
});

t.test('a wrong PIN, a missing key, a missing library and another key each have their reason, and the PIN is in none', async (t) => {
  const place = freshKey();
  const made = await openPlacedSigner(place, { make: true });
  await made.close();
  const refused = async (where: string, why: RegExp) => {
    const error = await openPlacedSigner(where)
      .then(() => null)
      .catch((failure: unknown) => failure as Error);
    t.match(error, { code: 'signer_unavailable', message: why });
    t.notOk(JSON.stringify(error).includes(PIN));
  };
  await refused(hsm.place('nobody'), /no key 'nobody'/);
  await refused(place.replace('libsofthsm2', 'nothing'), /nothing/);
  await refused(place.replace('selvedge%20test', 'other'), /no token 'other'/);
  await refused(place.replace(hsm.pinFile, `${hsm.pinFile}.gone`), /PIN in/);
  const other = await openPlacedSigner(freshKey(), { make: true });
  await t.rejects(placedSigner(place, other.publicKey).sign(new Uint8Array(1)), { code: 'signer_unavailable', message: /not that of the certificate/ });
  await other.close();
  const pin = readFileSync(hsm.pinFile);
  writeFileSync(hsm.pinFile, 'wrong\n');
  await refused(place, /PIN/i);
  writeFileSync(hsm.pinFile, pin);
});

t.test('what is written of a place holds no secret and is checked before anything is made', async (t) => {
  for (const good of ['sealed', 'kms:alias/selvedge', 'kms:arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab', hsm.place('x')])
    checkSignerPlace('signer', good);
  for (const bad of [
    '',
    'file:x',
    'kms:',
    'pkcs11:',
    'pkcs11:token=a;object=b',
    `${hsm.place('x')}&pin-value=1234`,
    'pkcs11:token=a;object=b;serial=1?module-path=m&pin-source=p',
  ])
    t.throws(() => checkSignerPlace('signer', bad), { code: 'argument_invalid' }, bad);
});

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
}
