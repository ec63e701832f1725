/** Words and vectors gathered into blocks, the same for text and binary files. */
import { FinetableError } from '@finetable/core';
import { decodeUtf8, show } from '../io.ts';
import { SeenWords } from './seen.ts';

/** Some words and their vectors, as they come from a file. */
export interface WordBlock {
  readonly words: string[];
  /** `[words.length, D] f32`; its own memory, the receiver's to keep. */
  readonly values: Float32Array;
}

/** What to do with a word that came before. */
export type Duplicates = 'refuse' | 'skip';

/** f32 values in a block: 4 MiB. */
const blockValues = 2 ** 20;

export class BlockBuilder {
  readonly #path: string;
  readonly #dim: number;
  readonly #rows: number;
  readonly #unit: string;
  readonly #duplicates: Duplicates;
  readonly #seen = new SeenWords();
  #words: string[] = [];
  /** Null between blocks. */
  #values: Float32Array | null = null;

  /** @param unit what errors count: `line` or `word` */
  constructor(path: string, dim: number, unit: 'line' | 'word', duplicates: Duplicates) {
    this.#path = path;
    this.#dim = dim;
    this.#unit = unit;
    this.#duplicates = duplicates;
    this.#rows = Math.max(1, Math.floor(blockValues / dim));
  }

  /** Where the next vector goes: D values from `offset`. */
  get values(): Float32Array {
    return (this.#values ??= new Float32Array(this.#rows * this.#dim));
  }
  get offset(): number {
    return this.#words.length * this.#dim;
  }
  get isFull(): boolean {
    return this.#words.length === this.#rows;
  }
  get isEmpty(): boolean {
    return this.#words.length === 0;
  }

  /** Takes the word in `bytes[begin, end)`, whose vector is at `offset`. @param number of the line or word, from 1 */
  add(bytes: Uint8Array, begin: number, end: number, number: number): void {
    const first = this.#seen.add(bytes, begin, end, number);
    if (first > 0 && this.#duplicates === 'skip') return;
    const word = decodeWord(bytes, begin, end);
    if (word === null) this.refuse(number, 'the word is not UTF-8');
    if (first > 0) {
      this.refuse(
        number,
        `the word ${show(word)} came before, in ${this.#unit} ${first}; remove one, or ask for duplicates to be skipped`,
      );
    }
    this.#words.push(word!);
  }

  refuse(number: number, message: string): never {
    throw new FinetableError('INVALID_DATA', `${this.#path}: ${this.#unit} ${number}: ${message}`, {
      file: this.#path,
      [this.#unit]: number,
    });
  }

  /** What was gathered; a new block begins. */
  take(): WordBlock {
    const block = { words: this.#words, values: this.values.subarray(0, this.offset) };
    this.#words = [];
    this.#values = null;
    return block;
  }
}

function decodeWord(bytes: Uint8Array, begin: number, end: number): string | null {
  let text = '';
  for (let i = begin; i < end; i++) {
    const c = bytes[i]!;
    if (c >= 0x80) return decodeUtf8(bytes.subarray(begin, end));
    text += String.fromCharCode(c);
  }
  return text;
}
