/**
 * XXH64 (Yann Collet; the specification is doc/xxhash_spec.md of the xxHash project), in halves of 32 bits, since a BigInt for each id
 * would cost more than its hash.
 */

/** A hash of 64 bits. */
export interface Hash64 {
  /** The upper 32 bits, and the lower, both unsigned. */
  high: number;
  low: number;
}

/** Unsigned 64 bits in an accumulator; what is not named is 0. */
class Word {
  high = 0;
  low = 0;

  set(high: number, low: number): void {
    this.high = high | 0;
    this.low = low | 0;
  }

  add(high: number, low: number): void {
    const sum = (this.low >>> 0) + (low >>> 0);
    this.high = (this.high + high + (sum > 0xffffffff ? 1 : 0)) | 0;
    this.low = sum | 0;
  }

  xor(high: number, low: number): void {
    this.high ^= high;
    this.low ^= low;
  }

  multiply(high: number, low: number): void {
    const { low: own } = this;
    const [a0, a1, b0, b1] = [own & 0xffff, own >>> 16, low & 0xffff, low >>> 16];
    const p0 = a0 * b0;
    const middle = a1 * b0 + (p0 >>> 16) + a0 * b1; // up to 2^33: exact
    const carry = a1 * b1 + Math.floor(middle / 0x10000);
    this.high = (carry + Math.imul(this.high, low) + Math.imul(own, high)) | 0;
    this.low = Math.imul(own, low);
  }

  rotateLeft(bits: number): void {
    const { high, low } = this;
    if (bits === 32) {
      this.high = low;
      this.low = high;
    } else {
      this.high = (high << bits) | (low >>> (32 - bits));
      this.low = (low << bits) | (high >>> (32 - bits));
    }
  }

  /** x ^= x >> bits. */
  foldRight(bits: number): void {
    const { high, low } = this;
    if (bits >= 32) this.low = low ^ (high >>> (bits - 32));
    else {
      this.low = low ^ ((low >>> bits) | (high << (32 - bits)));
      this.high = high ^ (high >>> bits);
    }
  }
}

// The primes of the specification, by halves.
const [h1, l1] = [0x9e3779b1, 0x85ebca87];
const [h2, l2] = [0xc2b2ae3d, 0x27d4eb4f];
const [h3, l3] = [0x165667b1, 0x9e3779f9];
const [h4, l4] = [0x85ebca77, 0xc2b2ae63];
const [h5, l5] = [0x27d4eb2f, 0x165667c5];

const laneBits = [1, 7, 12, 18];
const lanes = [new Word(), new Word(), new Word(), new Word()] as const;
const hash = new Word();
const piece = new Word();

/** round(piece, 0 ...): one lane of the input mixed into `lane`. */
function mix(lane: Word, high: number, low: number): void {
  piece.set(high, low);
  piece.multiply(h2, l2);
  lane.add(piece.high, piece.low);
  lane.rotateLeft(31);
  lane.multiply(h1, l1);
}

const word = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

/**
 * XXH64 of `bytes[0 .. length)`, written to `out`.
 * @param seed an integer from 0 to 2^53 - 1
 */
export function xxhash64(bytes: Uint8Array, length: number, seed: number, out: Hash64): void {
  const seedHigh = Math.floor(seed / 2 ** 32) | 0;
  const seedLow = seed | 0;
  let at = 0;
  if (length >= 32) {
    const [a, b, c, d] = lanes;
    for (const lane of lanes) lane.set(seedHigh, seedLow);
    a.add(h1, l1);
    a.add(h2, l2);
    b.add(h2, l2);
    d.add(~h1, -l1); // minus the first prime
    for (; at + 32 <= length; at += 32) {
      mix(a, word(bytes, at + 4), word(bytes, at));
      mix(b, word(bytes, at + 12), word(bytes, at + 8));
      mix(c, word(bytes, at + 20), word(bytes, at + 16));
      mix(d, word(bytes, at + 28), word(bytes, at + 24));
    }
    hash.set(0, 0);
    for (let i = 0; i < 4; i++) {
      piece.set(lanes[i]!.high, lanes[i]!.low);
      piece.rotateLeft(laneBits[i]!);
      hash.add(piece.high, piece.low);
    }
    for (const lane of lanes) {
      const { high, low } = lane;
      lane.set(0, 0);
      mix(lane, high, low);
      hash.xor(lane.high, lane.low);
      hash.multiply(h1, l1);
      hash.add(h4, l4);
    }
  } else {
    hash.set(seedHigh, seedLow);
    hash.add(h5, l5);
  }
  hash.add(0, length);
  for (; at + 8 <= length; at += 8) {
    const lane = lanes[0];
    lane.set(0, 0);
    mix(lane, word(bytes, at + 4), word(bytes, at));
    hash.xor(lane.high, lane.low);
    hash.rotateLeft(27);
    hash.multiply(h1, l1);
    hash.add(h4, l4);
  }
  if (at + 4 <= length) {
    piece.set(0, word(bytes, at));
    piece.multiply(h1, l1);
    hash.xor(piece.high, piece.low);
    hash.rotateLeft(23);
    hash.multiply(h2, l2);
    hash.add(h3, l3);
    at += 4;
  }
  for (; at < length; at++) {
    piece.set(0, bytes[at]!);
    piece.multiply(h5, l5);
    hash.xor(piece.high, piece.low);
    hash.rotateLeft(11);
    hash.multiply(h1, l1);
  }
  hash.foldRight(33);
  hash.multiply(h2, l2);
  hash.foldRight(29);
  hash.multiply(h3, l3);
  hash.foldRight(32);
  out.high = hash.high >>> 0;
  out.low = hash.low >>> 0;
}

const encoder = new TextEncoder();
let scratch = new Uint8Array(1024);

/** XXH64 of a text's UTF-8, written to `out`. A lone surrogate counts as U+FFFD. */
export function hashText(text: string, seed: number, out: Hash64): void {
  if (scratch.length < 3 * text.length) scratch = new Uint8Array(6 * text.length);
  let length = 0;
  for (; length < text.length; length++) {
    const unit = text.charCodeAt(length);
    if (unit > 0x7f) {
      length = encoder.encodeInto(text, scratch).written;
      break;
    }
    scratch[length] = unit;
  }
  xxhash64(scratch, length, seed, out);
}

/** The hash modulo n, exactly. @param n up to 2^31 */
export function modulo({ high, low }: Hash64, n: number): number {
  // Each step is below 2^47.
  let rest = high % n;
  rest = (rest * 0x10000 + (low >>> 16)) % n;
  return (rest * 0x10000 + (low & 0xffff)) % n;
}
