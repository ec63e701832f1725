import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hashText, modulo, xxhash64 } from './xxhash64.ts';

const hash = { high: 0, low: 0 };
const hex = (): string => hash.high.toString(16).padStart(8, '0') + hash.low.toString(16).padStart(8, '0');
const big = (): bigint => (BigInt(hash.high) << 32n) | BigInt(hash.low);

const prime32 = 2654435761;

/** The bytes that the vectors of the xxHash project are about: the top byte of a product that goes on. */
function sanityBuffer(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = BigInt(prime32);
  for (let i = 0; i < length; i++) {
    bytes[i] = Number(state >> 56n);
    state = (state * 11400714785074694797n) & (2n ** 64n - 1n);
  }
  return bytes;
}

test.each([
  [0, 0, 'ef46db3751d8e999'],
  [0, prime32, 'ac75fda2929b17ef'],
  [1, 0, 'e934a84adb052768'],
  [1, prime32, '5014607643a9b4c3'],
  [4, 0, '9136a0dca57457ee'],
  [14, 0, '8282dcc4994e35c8'],
  [14, prime32, 'c3bd6bf63deb6df0'],
  [222, 0, 'b641ae8cb691c174'],
  [222, prime32, '20cb8ab7ae10c14a'],
])('published vectors: %i bytes, seed %i', (length, seed, expected) => {
  xxhash64(sanityBuffer(length), length, seed, hash);
  expect(hex()).toBe(expected);
});

test.each([
  ['a', 'd24ec4f1a98c6e5b'],
  ['abc', '44bc2cf5ad770999'],
  ['The quick brown fox jumps over the lazy dog', '0b242d361fda71bc'],
])('of text: %s', (text, expected) => {
  hashText(text, 0, hash);
  expect(hex()).toBe(expected);
});

/** The specification, in BigInt. */
function defined(bytes: Uint8Array, seed: bigint): bigint {
  const mask = 2n ** 64n - 1n;
  const [p1, p2, p3, p4, p5] = [
    0x9e3779b185ebca87n,
    0xc2b2ae3d27d4eb4fn,
    0x165667b19e3779f9n,
    0x85ebca77c2b2ae63n,
    0x27d4eb2f165667c5n,
  ];
  const rotate = (x: bigint, bits: bigint) => ((x << bits) | (x >> (64n - bits))) & mask;
  const round = (acc: bigint, lane: bigint) => (rotate((acc + lane * p2) & mask, 31n) * p1) & mask;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  let acc = (seed + p5) & mask;
  if (bytes.length >= 32) {
    const lanes = [seed + p1 + p2, seed + p2, seed, seed - p1].map((lane) => lane & mask);
    for (; at + 32 <= bytes.length; at += 32)
      for (let i = 0; i < 4; i++) lanes[i] = round(lanes[i]!, view.getBigUint64(at + 8 * i, true));
    acc = lanes.reduce((sum, lane, i) => sum + rotate(lane, [1n, 7n, 12n, 18n][i]!), 0n) & mask;
    for (const lane of lanes) acc = ((acc ^ round(0n, lane)) * p1 + p4) & mask;
  }
  acc = (acc + BigInt(bytes.length)) & mask;
  for (; at + 8 <= bytes.length; at += 8)
    acc = (rotate(acc ^ round(0n, view.getBigUint64(at, true)), 27n) * p1 + p4) & mask;
  if (at + 4 <= bytes.length) {
    acc = (rotate(acc ^ ((BigInt(view.getUint32(at, true)) * p1) & mask), 23n) * p2 + p3) & mask;
    at += 4;
  }
  for (; at < bytes.length; at++) acc = (rotate(acc ^ ((BigInt(bytes[at]!) * p5) & mask), 11n) * p1) & mask;
  acc = ((acc ^ (acc >> 33n)) * p2) & mask;
  acc = ((acc ^ (acc >> 29n)) * p3) & mask;
  return acc ^ (acc >> 32n);
}

test('any bytes, any seed: as the specification; the row is the remainder', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 100 }),
      fc.maxSafeNat(),
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      (bytes, seed, rows) => {
        xxhash64(bytes, bytes.length, seed, hash);
        expect(big()).toBe(defined(bytes, BigInt(seed)));
        expect(modulo(hash, rows)).toBe(Number(big() % BigInt(rows)));
      },
    ),
  );
});

test("any text: that of its UTF-8, also beyond the scratch memory's first size", () => {
  const texts = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('é'.repeat(2000), 'x'.repeat(5000), 'xé😀'));
  fc.assert(
    fc.property(texts, (text) => {
      hashText(text, 7, hash);
      expect(big()).toBe(defined(new TextEncoder().encode(text), 7n));
    }),
  );
});
