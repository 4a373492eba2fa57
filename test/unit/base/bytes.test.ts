/** Texts and small pieces as they are put into buffers that others use too: exactly, whatever their length. */
import fc from 'fast-check';
import t from 'tap';
import { ByteReader, ByteWriter } from '../../../src/base/bytes.ts';
import { Slab } from '../../../src/base/slab.ts';

const plain = (text: string): Uint8Array => {
  const bytes = new TextEncoder().encode(text);
  return new ByteWriter(bytes.length + 8).block(bytes).finish();
};

t.test('a text is its octets behind the shortest length, wherever it begins', (t) => {
  // A length of one octet, of two, and those where room for three octets a character would have been longer.
  const text = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 80 }), fc.string({ minLength: 0, maxLength: 6_000 }));
  fc.assert(
    fc.property(text, fc.nat({ max: 200 }), (text, before) => {
      const bytes = new ByteWriter(1).raw(new Uint8Array(before)).text(text).u8(7).finish();
      const reader = new ByteReader(bytes.subarray(before));
      return Buffer.compare(bytes.subarray(before, -1), plain(text)) === 0 && reader.text(20_000) === text && reader.u8() === 7;
    }),
  );
  t.end();
});

t.test('a writer that begins anew writes what a new one would', (t) => {
  const writer = new ByteWriter(4).text('something longer').restart();
  t.same(writer.u8(1).text('é').finish(), new ByteWriter().u8(1).text('é').finish());
  t.end();
});

t.test('pieces of a slab stay what they were, however many follow', (t) => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 60 }), (pieces) => {
      const slab = new Slab();
      const copies = pieces.map((piece) => slab.copy(piece));
      return copies.every((copy, index) => Buffer.compare(copy, pieces[index] ?? new Uint8Array()) === 0);
    }),
  );
  t.end();
});

t.test('what was written is put whole into a buffer of another, and read from its place in it, no further', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat({ max: 20 }), (octets, before) => {
      const target = new Uint8Array(before + octets.length + 9);
      const end = new ByteWriter().raw(octets).copyTo(target, before);
      const reader = new ByteReader(target, before, end);
      const read = reader.copy(octets.length);
      return Buffer.compare(read, octets) === 0 && reader.remaining === 0 && target.subarray(end).every((octet) => octet === 0);
    }),
  );
  const short = new ByteReader(Uint8Array.of(9, 9, 2, 65, 66), 2, 4);
  t.throws(() => short.text(8), { code: 'frame_invalid' });
  t.end();
});
