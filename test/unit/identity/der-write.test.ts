/** What is written directly is what the general encoder writes, for any content: strings of all lengths, dates on both sides of 2050, any identifier. */
import { AsnConvert, OctetString } from '@peculiar/asn1-schema';
import { AlgorithmIdentifier, Name, Validity } from '@peculiar/asn1-x509';
import t from 'tap';
import { seeded } from '../../../src/lab/sim/agenda.ts';
import { decodeDer, encodeDer } from '../../../src/identity/der.ts';
import { element, objectIdentifier, octetString, sequence, time } from '../../../src/identity/der-write.ts';
import { commonName, commonNameDer } from '../../../src/identity/names.ts';
import { strictParts } from '../../../src/identity/strict-der.ts';

t.test('lengths of each form', async (t) => {
  for (const length of [0, 1, 127, 128, 255, 256, 65_535, 65_536]) {
    const content = new Uint8Array(length).fill(7);
    t.same(octetString(content), encodeDer(new OctetString(content)), `${length} octets`);
    t.same(strictParts(sequence(octetString(content)))?.[0], octetString(content), `${length} octets, read again`);
  }
});

t.test('content in pieces', async (t) => {
  t.same(element(0x04, Uint8Array.of(1), new Uint8Array(), Uint8Array.of(2, 3)), Uint8Array.of(4, 3, 1, 2, 3));
});

t.test('dates', async (t) => {
  for (const date of ['1999-12-31T23:59:59Z', '2026-11-27T00:00:00Z', '2049-12-31T23:59:59Z', '2050-01-01T00:00:00Z', '9999-12-31T23:59:59Z']) {
    const at_ms = Date.parse(date);
    const written = sequence(time(at_ms), time(at_ms + 999));
    t.same(written, encodeDer(new Validity({ notBefore: new Date(at_ms), notAfter: new Date(at_ms) })), date);
  }
});

t.test('object identifiers', async (t) => {
  for (const oid of ['2.5.29.17', '1.2.840.10045.4.3.2', '0.9.2342.19200300.100.1.25', '1.3.6.1.4.1.311.20.2.3', '2.999.1']) {
    const type = strictParts(encodeDer(new AlgorithmIdentifier({ algorithm: oid })))?.[0];
    t.same(objectIdentifier(oid), type, oid);
  }
});

t.test('names in any script and length', async (t) => {
  const random = seeded(5);
  const texts = [
    'a1b2c3d4e5f6',
    'Zürich',
    '工場',
    '',
    'x'.repeat(64),
    ...Array.from({ length: 50 }, () => String.fromCodePoint(...random.bytes(random.bytes(1)[0] ?? 0).map((octet: number) => octet + 32))),
  ];
  for (const text of texts) {
    t.same(commonNameDer(text), encodeDer(commonName(text)), text);
    t.same(AsnConvert.serialize(decodeDer(commonNameDer(text), Name)).byteLength, commonNameDer(text).length);
  }
});
