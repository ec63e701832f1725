/**
 * Which words came before, and in which line: an open-addressing table of 64-bit hashes outside the JavaScript heap, 12 bytes a
 * slot, at most half full. A `Map` stops at 2^24 keys and would keep every word. Two different words with one hash are taken
 * for the same; among 10 million words the chance of one such pair is 3 in a million.
 */
export class SeenWords {
  /** Two halves of the hash, and the line, per slot; line 0 is an empty slot. */
  #slots = new Uint32Array(3 * 1024);
  #count = 0;

  /** Remembers a word of `line` (from 1); the line of the same word seen before, or 0. */
  add(bytes: Uint8Array, begin: number, end: number, line: number): number {
    if (this.#count * 6 >= this.#slots.length) this.#grow();
    let low = 0x811c9dc5;
    let high = 0x9747b28c;
    for (let i = begin; i < end; i++) {
      const byte = bytes[i]!;
      low = Math.imul(low ^ byte, 0x01000193);
      high = Math.imul(high ^ byte, 0x5bd1e995);
      high ^= high >>> 15;
    }
    return this.#insert(mix(low ^ (end - begin)), mix(high), line);
  }

  #insert(low: number, high: number, line: number): number {
    const slots = this.#slots;
    const capacity = slots.length / 3;
    for (let slot = low & (capacity - 1); ; slot = (slot + 1) & (capacity - 1)) {
      const at = slot * 3;
      const taken = slots[at + 2]!;
      if (taken === 0) {
        slots[at] = low;
        slots[at + 1] = high;
        slots[at + 2] = line;
        this.#count++;
        return 0;
      }
      if (slots[at] === low && slots[at + 1] === high) return taken;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    this.#count = 0;
    for (let at = 0; at < old.length; at += 3) if (old[at + 2]! > 0) this.#insert(old[at]!, old[at + 1]!, old[at + 2]!);
  }
}

/** MurmurHash3's final mix: every input bit changes every output bit with a chance near one half. */
function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
