/**
 * In which order an epoch takes its examples: a pure function of the source's blocks, the seed and the epoch, so that any part of
 * any epoch can be made at any time, the same for any number of workers.
 */
import { FinetableError, permutation, upperBound } from '@finetable/core';
import { distinctOrder, type Keys } from './distinct.ts';
import { rankOf, selectRows, type Selection } from './selection.ts';
import type { SourceIndex } from './source/source.ts';

export interface OrderOptions {
  readonly shuffle: boolean;
  readonly seed: number;
  /** Examples that are shuffled as a whole. */
  readonly window: number;
  /** Of the selected examples, which must not meet in a batch; null where all may. */
  readonly distinct?: { readonly keys: Keys; readonly batchSize: number } | null | undefined;
}

export class ExampleOrder {
  /** Examples of an epoch. */
  readonly examples: number;
  readonly #options: OrderOptions;
  readonly #selection: Selection | null;
  /** `[blocks + 1]`: the first place of each block among the selected examples, and the end. */
  readonly #blocks: Float64Array;
  /** What was permuted last: tasks come one after the other. */
  #blockOrder: { epoch: number; order: Uint32Array; firsts: Float64Array } | null = null;
  readonly #windows = new Map<string, Uint32Array>();

  /** @throws INVALID_DATA where nothing is selected */
  constructor(index: SourceIndex, selection: Selection | null, options: OrderOptions) {
    this.examples = selection ? selection.count : index.examples;
    this.#options = options;
    this.#selection = selection;
    if (this.examples === 0) {
      throw new FinetableError('INVALID_DATA', `${index.files[0]!.file}: none of its examples is in this split`);
    }
    const whole = this.examples <= options.window;
    if (options.distinct && !whole) {
      const message = `${this.examples} examples of which no batch has two alike are put in order together, and shuffleWindow is ${options.window}; allowed: a shuffleWindow from ${this.examples} (up to 48 bytes an example)`;
      throw new FinetableError('INVALID_ARGUMENT', `distinct: ${message}`, { path: 'shuffleWindow' });
    }
    this.#blocks = whole ? Float64Array.of(0, this.examples) : blocksOf(index, selection);
  }

  /** Numbers of the examples at places `begin .. end` of an epoch, newly allocated. */
  rows(epoch: number, begin: number, end: number): Uint32Array {
    const rows = new Uint32Array(end - begin);
    const { shuffle, window, distinct } = this.#options;
    for (let place = begin; place < end;) {
      const number = Math.floor(place / window);
      const first = number * window;
      const stop = Math.min(end, first + window);
      if (shuffle || distinct)
        rows.set(this.#window(epoch, number).subarray(place - first, stop - first), place - begin);
      else for (let i = place; i < stop; i++) rows[i - begin] = i;
      place = stop;
    }
    if (this.#selection) selectRows(this.#selection, rows);
    return rows;
  }

  /** Places among the selected examples of one window, shuffled. */
  #window(epoch: number, number: number): Uint32Array {
    const key = `${epoch}/${number}`;
    let shuffled = this.#windows.get(key);
    if (shuffled) return shuffled;
    const { shuffle, seed, window, distinct } = this.#options;
    const begin = number * window;
    const size = Math.min(window, this.examples - begin);
    const whole = this.examples <= window;
    shuffled = shuffle
      ? permutation(size, seed, whole ? `shuffle/${epoch}` : `shuffle/${epoch}/${number}`)
      : Uint32Array.from({ length: size }, (_, i) => i);
    if (distinct) shuffled = distinctOrder(shuffled, distinct.keys, distinct.batchSize);
    if (!whole) {
      const places = this.#places(epoch, begin, size);
      for (let i = 0; i < size; i++) shuffled[i] = places[shuffled[i]!]!;
    }
    // A task may reach from one window into the next.
    if (this.#windows.size > 1) this.#windows.delete(this.#windows.keys().next().value!);
    this.#windows.set(key, shuffled);
    return shuffled;
  }

  /** Places `begin .. begin + size` of an epoch whose blocks are shuffled and whose examples are not. */
  #places(epoch: number, begin: number, size: number): Uint32Array {
    const { order, firsts } = this.#shuffledBlocks(epoch);
    const places = new Uint32Array(size);
    let block = upperBound(firsts, begin) - 1;
    for (let i = 0; i < size;) {
      const inBlock = begin + i - firsts[block]!;
      const count = Math.min(firsts[block + 1]! - firsts[block]! - inBlock, size - i);
      const first = this.#blocks[order[block]!]! + inBlock;
      for (let j = 0; j < count; j++) places[i + j] = first + j;
      i += count;
      block++;
    }
    return places;
  }

  #shuffledBlocks(epoch: number): { readonly order: Uint32Array; readonly firsts: Float64Array } {
    if (this.#blockOrder?.epoch === epoch) return this.#blockOrder;
    const count = this.#blocks.length - 1;
    const order = permutation(count, this.#options.seed, `shuffle/${epoch}/blocks`);
    const firsts = new Float64Array(count + 1);
    order.forEach((block, i) => (firsts[i + 1] = firsts[i]! + this.#blocks[block + 1]! - this.#blocks[block]!));
    this.#blockOrder = { epoch, order, firsts };
    return this.#blockOrder;
  }
}

/** The first place of each block among the selected examples. */
function blocksOf({ files }: SourceIndex, selection: Selection | null): Float64Array {
  const out: number[] = [];
  let first = 0;
  for (const { blocks, examples } of files) {
    for (const block of blocks.subarray(0, -1)) out.push(selection ? rankOf(selection, first + block) : first + block);
    first += examples;
  }
  return Float64Array.from([...out, selection ? selection.count : first]);
}
