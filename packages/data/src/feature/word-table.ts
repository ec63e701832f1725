/**
 * Rows of words: what a Map of strings does, at half the time where there are a million of them. A Map goes to each string that it
 * compares, somewhere in memory; here hashes lie side by side in one array, and a word's letters are looked at only where its whole
 * hash is the same. Open addressing, linear probing; FNV-1a over UTF-16 code units with a last mixing step.
 */
export class WordTable {
  /** Pairs: hash, and 1 + number of the word; 0 where the slot is free. */
  readonly #slots: Int32Array;
  readonly #mask: number;
  /** Word i is `units[starts[i] .. starts[i + 1]]`. */
  readonly #starts: Int32Array;
  readonly #units: Uint16Array;
  readonly #rows: Int32Array;
  #count = 0;

  /** @param words later ones replace earlier ones that are the same */
  constructor(words: readonly string[], rowOf: (i: number) => number) {
    // At least a third of the slots is free.
    const slots = 2 ** Math.ceil(Math.log2((words.length + 1) * 1.5));
    this.#slots = new Int32Array(2 * slots);
    this.#mask = slots - 1;
    this.#starts = new Int32Array(words.length + 1);
    this.#rows = new Int32Array(words.length);
    this.#units = new Uint16Array(words.reduce((sum, { length }) => sum + length, 0));
    words.forEach((word, i) => this.#set(word, rowOf(i)));
  }

  /** -1 where it is not there. */
  row(word: string): number {
    const number = this.#slots[2 * this.#slotOf(word, hashOf(word)) + 1]!;
    return number === 0 ? -1 : this.#rows[number - 1]!;
  }

  #set(word: string, row: number): void {
    const hash = hashOf(word);
    const slot = this.#slotOf(word, hash);
    const number = this.#slots[2 * slot + 1]!;
    if (number > 0) {
      this.#rows[number - 1] = row;
      return;
    }
    const i = this.#count++;
    const start = this.#starts[i]!;
    for (let k = 0; k < word.length; k++) this.#units[start + k] = word.charCodeAt(k);
    this.#starts[i + 1] = start + word.length;
    this.#rows[i] = row;
    this.#slots[2 * slot] = hash;
    this.#slots[2 * slot + 1] = i + 1;
  }

  /** The slot of a word, or the free one where it would be. */
  #slotOf(word: string, hash: number): number {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const number = slots[2 * slot + 1]!;
      if (number === 0 || (slots[2 * slot] === hash && this.#is(number - 1, word))) return slot;
    }
  }

  #is(i: number, word: string): boolean {
    const start = this.#starts[i]!;
    const { length } = word;
    if (this.#starts[i + 1]! - start !== length) return false;
    const units = this.#units;
    for (let k = 0; k < length; k++) if (units[start + k] !== word.charCodeAt(k)) return false;
    return true;
  }
}

function hashOf(word: string): number {
  let hash = 0x811c9dc5 | 0;
  for (let k = 0; k < word.length; k++) hash = Math.imul(hash ^ word.charCodeAt(k), 0x01000193);
  // The low bits choose the slot, and FNV-1a's hold little of the first letters.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return hash ^ (hash >>> 12);
}
