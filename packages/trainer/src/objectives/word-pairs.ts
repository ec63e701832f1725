/**
 * What word vectors are compared with: for each token of a batch the words around it, and negatives. All drawn by counter-based random numbers from the
 * batch's own tokens, so that a batch gives the same ones whatever threads and workers there are, and nothing is the size of the vocabulary.
 */
import { RandomStream, upperBound, type Scratch } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { WordVectorOptions } from './skipgram.ts';

/** A batch's tokens, by their places in it. */
export interface Tokens {
  /** `[tokens]`: the text that each is of. */
  readonly textOf: Int32Array;
  /** `[tokens + 1]`: those around token i are `around[offsets[i]]` to `around[offsets[i + 1] - 1]`; none, where it was not kept. */
  readonly offsets: Int32Array;
  readonly around: Int32Array;
}

export interface Candidates {
  /** `[tokens + 1]`. */
  readonly offsets: Int32Array;
  readonly places: Int32Array;
  /** By candidate, 1 of a truth; of a negative minus how often it counts. */
  readonly times: Float32Array;
}

export class WordPairs {
  readonly #architecture: 'skipgram' | 'cbow';
  readonly #options: WordVectorOptions;
  readonly #scratch: Scratch;
  /** Of all words, 0 without counts. */
  readonly #total: number;

  constructor(architecture: 'skipgram' | 'cbow', options: WordVectorOptions, scratch: Scratch) {
    this.#architecture = architecture;
    this.#options = options;
    this.#scratch = scratch;
    let total = 0;
    for (let row = 0; row < (options.counts?.length ?? 0); row++) total += options.counts![row]!;
    this.#total = total;
  }

  /** Tokens that are kept, with the kept ones around them. */
  tokens(batch: Batch, textOffsets: Int32Array, rows: Int32Array): Tokens {
    const { window = 5, seed = 0 } = this.#options;
    const random = new RandomStream(seed, `${this.#architecture}/${batch.epoch}/${batch.index}`);
    const count = rows.length;
    const textOf = this.#scratch.integers('textOf', count);
    const offsets = this.#scratch.integers('around/offsets', count + 1);
    const around = this.#scratch.integers('around', 2 * window * count);
    const kept = this.#scratch.integers('kept', count);
    let words = 0;
    offsets[0] = 0;
    for (let text = 0; text < batch.size; text++) {
      const [first, end] = [textOffsets[text]!, textOffsets[text + 1]!];
      let keptCount = 0;
      for (let at = first; at < end; at++) {
        textOf[at] = text;
        if (random.uint32(2 * at) < 2 ** 32 * this.#keeps(rows[at]!)) kept[keptCount++] = at;
      }
      for (let at = first, i = 0; at < end; at++) {
        if (i < keptCount && kept[i] === at) {
          const reach = 1 + random.below(2 * at + 1, window);
          const last = Math.min(keptCount - 1, i + reach);
          for (let k = Math.max(0, i - reach); k <= last; k++) if (k !== i) around[words++] = kept[k]!;
          i++;
        }
        offsets[at + 1] = words;
      }
    }
    return { textOf, offsets, around: around.subarray(0, words) };
  }

  /** What each center is compared with. */
  candidates(batch: Batch, { offsets: aroundOffsets, around }: Tokens, rows: Int32Array): Candidates {
    const { negatives = 5 } = this.#options;
    const skips = this.#architecture === 'skipgram';
    const negative = this.#negatives(batch, rows);
    const most = (skips ? around.length : rows.length) + negatives * rows.length;
    const offsets = this.#scratch.integers('offsets', rows.length + 1);
    const places = this.#scratch.integers('places', most);
    const times = this.#scratch.matrix('times', 1, most).data;
    let count = 0;
    offsets[0] = 0;
    for (let at = 0; at < rows.length; at++) {
      const [first, end] = [aroundOffsets[at]!, aroundOffsets[at + 1]!];
      if (end > first) {
        const truths = count;
        if (skips) for (let k = first; k < end; k++) places[count++] = around[k]!;
        else places[count++] = at;
        const truthsEnd = count;
        times.fill(1, truths, truthsEnd);
        draw: for (let k = 0; k < negatives; k++) {
          const place = negative(at * negatives + k);
          // What is wanted is no negative.
          for (let j = truths; j < truthsEnd; j++) if (rows[places[j]!] === rows[place]) continue draw;
          places[count] = place;
          times[count++] = truths - truthsEnd;
        }
      }
      offsets[at + 1] = count;
    }
    return { offsets, places: places.subarray(0, count), times };
  }

  #keeps(row: number): number {
    const { counts, subsample } = this.#options;
    if (subsample === undefined) return 1;
    const ratio = (subsample * this.#total) / Math.max(1, counts![row]!);
    return Math.sqrt(ratio) + ratio;
  }

  /** The place of the i-th negative. */
  #negatives(batch: Batch, rows: Int32Array): (i: number) => number {
    const { counts, exponent = 0.75, seed = 0 } = this.#options;
    const random = new RandomStream(seed, `${this.#architecture}/negatives/${batch.epoch}/${batch.index}`);
    const here = new Map<number, number>();
    if (!counts) for (const row of rows) here.set(row, (here.get(row) ?? 0) + 1);
    const ends = new Float64Array(rows.length);
    let total = 0;
    rows.forEach((row, place) => {
      total += Math.max(1, counts ? counts[row]! : here.get(row)!) ** (exponent - 1);
      ends[place] = total;
    });
    return (i) => upperBound(ends, (random.uint32(i) / 2 ** 32) * total);
  }
}
