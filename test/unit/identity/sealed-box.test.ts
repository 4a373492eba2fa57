/** A secret sealed to a public key: what another implementation sealed opens, whatever is changed does not, and only the one key opens it. */
import fc from 'fast-check';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { hpkeOpen, hpkeSeal } from '../../../src/identity/hpke.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { openBox, SEALED_BOX_BYTES_OVERHEAD, sealBox } from '../../../src/identity/sealed-box.ts';

const RUNS = { numRuns: Number(process.env.FUZZ_RUNS ?? 200) };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const own = generateKeyPair();

/** Sealed by another implementation of RFC 9180 (@hpke/core): suite 0x0010, 0x0001, 0x0002, mode base, first message. */
const vectors = [
  {
    info: '',
    aad: '',
    plain: '',
    key: '308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b02010104207d1fb2684a0402fcb9cf78fd8633bd01be6960084451a417dee8dc9b9e5100aca14403420004774b12dd7e6c4779329bd3e1bac709aa3a63b6ed0b01106b8adcf4f00028d01d672fc4e4f17f8e8bac571288a819427ca84e556cb2da2b463148669991871fbf',
    encapsulated: '0485d1a522c194570e7c9d4d39070986fdfcfec149972fc1e7bd3eb03ccf56fbd79ede11a5059a1406e3ec32e580378f227cca8db674f6d294a5cdb363c7fc9a4b',
    ciphertext: '68e54896d3cb70540dc1aca840ab72f5',
  },
  {
    info: 'selvedge',
    aad: 'header',
    plain: 'a secret of thirty-two octets...',
    key: '308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420bfa65efcb254d9cdd191e279c8a71bf996302c38f1e3086d4058780d0cd9ed47a14403420004a7c75b6ae9b58158c53d839269589942e3691cfa5fe0e55ae80e2fd161cd376c29f39478b70e90769db279fab86177a4df453a90189085c1408451110de6d9d2',
    encapsulated: '04e98a147017d04f5b7b65420f03fdf376ac3202070f9cf4cd3e5ca055a9e94e443024ed56dd5e0b6f03d40d101de4d86eb60d3aa4aa9999295f099ae9f3b8e6f9',
    ciphertext: 'a6e831065df80d27bfc9afc3cf9bd73a374128f3eb7acf09c103393a166093920723a47bacc2321bff37e306bf34cb55',
  },
  {
    info: 'selvedge sealed box 1\nsite token of 0123456789ab',
    aad: '\u0001',
    plain: 'site token',
    key: '308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b020101042029ef1276ebdb90e455d576794b21f76f12c4f15c26aabeaf933f28de19b8b56ea14403420004b7d4ebb322f4feb99f145dcf2c78f087e86400aba4dbaa0fed61e14b665bedcbd0818a9a937ea9dcb022d560a1f63eafce70d07c9d99202ebae98edbd7408f1f',
    encapsulated: '042669eacb1b7c7347c3b5d7f9a72762748d4663d35fdcc333f688d83d733176a0cf0c85c1679853269f769fefe099fa7b84518b27c1f0dd61d10dbea61829c97d',
    ciphertext: 'c80031071965f51699583f826a7be5f26054d89d4b13d16e0686',
  },
] as const;

t.test('what another implementation sealed opens', async (t) => {
  for (const { info, aad, plain, key, encapsulated, ciphertext } of vectors) {
    const context = { info: bytes(info), aad: bytes(aad) };
    t.same(hpkeOpen(unhex(key), context, { encapsulated: unhex(encapsulated), ciphertext: unhex(ciphertext) }), bytes(plain));
  }
  const { key, encapsulated, ciphertext } = vectors[2];
  t.same(openBox(unhex(key), 'site token of 0123456789ab', Buffer.concat([Buffer.of(1), unhex(encapsulated), unhex(ciphertext)])), bytes('site token'));
});

t.test('what is sealed opens with the one key and for the one purpose, and no two boxes are alike', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.string({ maxLength: 60 }), (secret, purpose) => {
      const box = sealBox(own.publicKey, purpose, secret);
      t.same(openBox(own.privateKey, purpose, box), secret);
      t.equal(box.length, secret.length + SEALED_BOX_BYTES_OVERHEAD);
      t.notSame(sealBox(own.publicKey, purpose, secret), box);
      t.throws(() => openBox(generateKeyPair().privateKey, purpose, box), { code: 'sealed_box_invalid' });
      t.throws(() => openBox(own.privateKey, `${purpose}.`, box), { code: 'sealed_box_invalid' });
    }),
    { numRuns: 50 },
  );
});

t.test('a box that was changed anywhere, cut anywhere or made up is refused with its code', async (t) => {
  const box = sealBox(own.publicKey, 'p', bytes('secret'));
  const outcome = (bytes: Uint8Array): unknown => {
    try {
      openBox(own.privateKey, 'p', bytes);
      return 'opened';
    } catch (error) {
      return error instanceof SelvedgeError ? error.code : error;
    }
  };
  const outcomes = new Set<unknown>();
  for (let at = 0; at < box.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const changed = new Uint8Array(box);
      changed[at] = (changed[at] ?? 0) ^ (1 << bit);
      outcomes.add(outcome(changed));
    }
    outcomes.add(outcome(box.subarray(0, at)));
  }
  outcomes.add(outcome(Buffer.concat([box, Buffer.of(0)])));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (made) => {
      outcomes.add(outcome(made));
      outcomes.add(outcome(Uint8Array.of(1, 4, ...made)));
    }),
    RUNS,
  );
  t.same([...outcomes], ['sealed_box_invalid']);
});

t.test('a key that is not a point of P-256 is refused before anything is sealed to it', async (t) => {
  const off = new Uint8Array(own.publicKey);
  off[off.length - 1] = (off.at(-1) ?? 0) ^ 1;
  for (const key of [off, own.publicKey.subarray(1), new Uint8Array(), new Uint8Array(91)])
    t.throws(() => sealBox(key, 'p', bytes('secret')), { code: 'sealed_box_invalid' });
  const context = { info: bytes(''), aad: bytes('') };
  const { encapsulated, ciphertext } = hpkeSeal(own.publicKey, context, bytes('secret'));
  const hybrid = new Uint8Array(encapsulated);
  hybrid[0] = 6 | ((hybrid.at(-1) ?? 0) & 1);
  t.throws(() => hpkeOpen(own.privateKey, context, { encapsulated: hybrid, ciphertext }), 'nor another form of the same point');
});
