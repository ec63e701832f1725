/**
 * Extracted examples, kept in memory that the threads share: what one epoch has read and parsed the next ones do not. An example is
 * kept as some words of 32 bits, written by whichever thread reads it first and never changed; where there is no more room for it, it is
 * read again each time. Batches are the same, byte for byte.
 */
import { Scratch } from '@finetable/core';
import type { ColumnShape, Extracted, ExtractedColumn } from './extract.ts';
import { nameIndex, type RecordPlaces } from './source/source.ts';

export interface CacheMemory {
  /** `[examples]`: the first word of each example, 0 of those that are not there. */
  readonly starts: Uint32Array<SharedArrayBuffer>;
  /** Of an example: their number, the file, the line (two words), then each column's. */
  readonly words: Int32Array<SharedArrayBuffer>;
  /** Words that are taken, examples that are there. */
  readonly counts: Int32Array<SharedArrayBuffer>;
  /** Of the source, in order. */
  readonly files: readonly string[];
  /** How many of the examples there can be batches of. */
  readonly wanted: number;
}

/** What typed arrays of Node.js 20 can hold. */
export const mostCacheBytes = 2 ** 32 - 8;

/** Null where `bytes` are not even enough for their places. What is not written yet takes no memory. */
export function cacheMemory(
  examples: number,
  wanted: number,
  files: readonly string[],
  bytes: number,
): CacheMemory | null {
  const words = Math.floor((bytes - 4 * examples) / 4);
  if (words < 2) return null;
  const counts = new Int32Array(new SharedArrayBuffer(8));
  counts[0] = 1; // A first word of 0 means that there is none.
  return {
    starts: new Uint32Array(new SharedArrayBuffer(4 * examples)),
    words: new Int32Array(new SharedArrayBuffer(4 * words)),
    counts,
    files,
    wanted,
  };
}

export function cacheUse(memory: CacheMemory | null): { readonly examples: number; readonly sizeBytes: number } {
  if (!memory) return { examples: 0, sizeBytes: 0 };
  const [words, examples] = [Atomics.load(memory.counts, 0), Atomics.load(memory.counts, 1)];
  return { examples, sizeBytes: 4 * (Math.min(words, memory.words.length) + memory.starts.length) };
}

/** Whether these examples are all there: then no thread reads them. */
export function isCached({ starts }: CacheMemory, numbers: Uint32Array): boolean {
  for (const number of numbers) if (Atomics.load(starts, number) === 0) return false;
  return true;
}

/** Some examples as words: of example i from `starts[i]` on. */
interface Encoded {
  readonly words: Int32Array;
  readonly starts: Uint32Array;
}

/** Of an example: how many words it has; file and whether its examples are rows rather than lines; the line. */
const placeWords = 4;

/** All examples side by side. @param from the first word of each in `words`, 0 where it is the next of those in `encoded` */
function gather(
  words: Int32Array,
  from: Uint32Array,
  missing: Uint32Array,
  encoded: Encoded,
): [Int32Array, Uint32Array] {
  let total = encoded.words.length;
  for (const first of from) if (first > 0) total += words[first]!;
  const all = new Int32Array(total);
  all.set(encoded.words);
  missing.forEach((i, k) => (from[i] = encoded.starts[k]!));
  let at = encoded.words.length;
  for (let i = 0, k = 0; i < from.length; i++) {
    if (missing[k] === i) {
      k++;
      continue;
    }
    const first = from[i]!;
    const size = words[first]!;
    for (let w = 0; w < size; w++) all[at + w] = words[first + w]!;
    from[i] = at;
    at += size;
  }
  return [all, from];
}

/** One per thread. */
export class ExampleCache {
  readonly #memory: CacheMemory;
  readonly #shapes: ReadonlyMap<string, ColumnShape>;
  readonly #numberOf: ReadonlyMap<string, number>;
  /** Of each column, for one batch. */
  readonly #columns: ReadonlyMap<string, Scratch>;

  constructor(memory: CacheMemory, shapes: ReadonlyMap<string, ColumnShape>) {
    this.#memory = memory;
    this.#shapes = shapes;
    this.#columns = new Map(Array.from(shapes.keys(), (key) => [key, new Scratch()]));
    this.#numberOf = new Map(memory.files.map((file, i) => [file, i]));
  }

  /** Whether nothing has to be read any more. */
  get complete(): boolean {
    const { counts, wanted } = this.#memory;
    return Atomics.load(counts, 1) >= wanted;
  }

  /**
   * What is there, and what `extract` makes of the others, in arrays that are good until the next read.
   * @param numbers of the examples
   * @param extract those that are not there, by their places in `numbers`; null: all
   * @throws as `extract`
   */
  async read(numbers: Uint32Array, extract: (places: Uint32Array | null) => Promise<Extracted>): Promise<Extracted> {
    const { words, starts } = this.#memory;
    const from = new Uint32Array(numbers.length);
    let missingCount = 0;
    for (let i = 0; i < from.length; i++) {
      from[i] = Atomics.load(starts, numbers[i]!);
      if (from[i] === 0) missingCount++;
    }
    if (missingCount === 0) return this.#decode(words, from);
    const missing = new Uint32Array(missingCount);
    for (let i = 0, k = 0; i < from.length; i++) if (from[i] === 0) missing[k++] = i;
    const whole = missing.length === numbers.length;
    const found = await extract(whole ? null : missing);
    const sizes = this.#sizes(found, missing.length);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const first = this.#take(total);
    if (first === 0 && whole) return found;
    const encoded = this.#encode(found, sizes, total);
    if (first > 0) {
      words.set(encoded.words, first);
      // After their words are there: who sees a start may read on.
      let added = 0;
      // Another thread may have read an example for the next epoch meanwhile; it counts once.
      for (let k = 0; k < missing.length; k++)
        if (Atomics.compareExchange(starts, numbers[missing[k]!]!, 0, first + encoded.starts[k]!) === 0) added++;
      Atomics.add(this.#memory.counts, 1, added);
    }
    if (whole) return found;
    return this.#decode(...gather(words, from, missing, encoded));
  }

  /** @returns the first of as many words that no other thread has, 0 where there is no room */
  #take(count: number): number {
    const { words, counts } = this.#memory;
    if (Atomics.load(counts, 0) + count > words.length) return 0;
    const first = Atomics.add(counts, 0, count);
    return first + count > words.length ? 0 : first;
  }

  #sizes({ columns }: Extracted, size: number): Uint32Array {
    const sizes = new Uint32Array(size).fill(placeWords);
    for (const column of columns.values()) {
      for (let i = 0; i < size; i++) sizes[i]! += wordsOf(column, i);
    }
    return sizes;
  }

  #encode({ places, columns }: Extracted, sizes: Uint32Array, total: number): Encoded {
    const words = new Int32Array(total);
    const starts = new Uint32Array(sizes.length);
    for (let i = 1; i < sizes.length; i++) starts[i] = starts[i - 1]! + sizes[i - 1]!;
    const { files, fileOf, lines, unit } = places;
    const numberOf = files.map((file) => this.#numberOf.get(file)!);
    const at = starts.slice();
    for (let i = 0; i < at.length; i++) {
      words[at[i]!] = sizes[i]!;
      words[at[i]! + 1] = 2 * numberOf[fileOf ? fileOf[i]! : 0]! + (unit === 'row' ? 1 : 0);
      words[at[i]! + 2] = lines[i]!;
      words[at[i]! + 3] = lines[i]! / 2 ** 32;
      at[i]! += placeWords;
    }
    for (const column of columns.values()) encodeColumn(column, words, at);
    return { words, starts };
  }

  /** @param from the first word of each, which are overwritten */
  #decode(words: Int32Array, from: Uint32Array): Extracted {
    const places = this.#places(words, from);
    for (let i = 0; i < from.length; i++) from[i]! += placeWords;
    const columns = new Map<string, ExtractedColumn>();
    for (const [key, shape] of this.#shapes)
      columns.set(key, decodeColumn(shape, words, from, this.#columns.get(key)!));
    return { places, columns };
  }

  #places(words: Int32Array, at: Uint32Array): RecordPlaces {
    const { files } = this.#memory;
    const names: string[] = [];
    const fileOf = files.length > 1 ? new Uint32Array(at.length) : null;
    const lines = new Float64Array(at.length);
    for (let i = 0; i < at.length; i++) {
      const first = at[i]! + 1;
      lines[i] = words[first + 2]! * 2 ** 32 + (words[first + 1]! >>> 0);
      if (fileOf) fileOf[i] = nameIndex(names, files[words[first]! >> 1]!);
    }
    const unit = (words[at[0]! + 1]! & 1) === 1 ? 'row' : 'line';
    return { files: fileOf ? names : [files[0]!], fileOf, unit, lines };
  }
}

function wordsOf(column: ExtractedColumn, i: number): number {
  switch (column.kind) {
    case 'bags': {
      const { offsets, weights } = column.bags;
      const count = offsets[i + 1]! - offsets[i]!;
      return 1 + (weights ? 2 : 1) * count;
    }
    case 'cells':
      return column.width;
    case 'texts':
      return 1 + Math.ceil(column.texts[i]!.length / 2);
    default:
      return column satisfies never;
  }
}

/** @param at where each example goes on; afterwards behind what was written */
function encodeColumn(column: ExtractedColumn, words: Int32Array, at: Uint32Array): void {
  switch (column.kind) {
    case 'bags': {
      const { values, offsets, weights } = column.bags;
      const weightBits = weights && bitsOf(weights);
      for (let i = 0; i < at.length; i++) {
        let to = at[i]!;
        words[to++] = offsets[i + 1]! - offsets[i]!;
        for (let j = offsets[i]!; j < offsets[i + 1]!; j++) words[to++] = values[j]!;
        if (weightBits) for (let j = offsets[i]!; j < offsets[i + 1]!; j++) words[to++] = weightBits[j]!;
        at[i] = to;
      }
      return;
    }
    case 'cells': {
      const [bits, { width }] = [bitsOf(column.cells), column];
      for (let i = 0; i < at.length; i++) for (let c = 0; c < width; c++) words[at[i]!++] = bits[i * width + c]!;
      return;
    }
    case 'texts': {
      const bytes = Buffer.from(words.buffer);
      column.texts.forEach((text, i) => {
        words[at[i]!] = text.length;
        bytes.write(text, 4 * at[i]! + 4, 'utf16le');
        at[i]! += wordsOf(column, i);
      });
      return;
    }
    default:
      column satisfies never;
  }
}

/** @param at as of `encodeColumn` */
function decodeColumn(shape: ColumnShape, words: Int32Array, at: Uint32Array, scratch: Scratch): ExtractedColumn {
  const size = at.length;
  switch (shape.kind) {
    case 'bags': {
      const offsets = scratch.integers('offsets', size + 1);
      offsets[0] = 0;
      for (let i = 0; i < size; i++) offsets[i + 1] = offsets[i]! + words[at[i]!++]!;
      const values = scratch.integers('values', offsets[size]!);
      decodeBags(words, at, offsets, values);
      if (!shape.weighted) return { kind: 'bags', bags: { values, offsets } };
      const weights = scratch.matrix('weights', 1, values.length).data;
      decodeBags(words, at, offsets, bitsOf(weights));
      return { kind: 'bags', bags: { values, offsets, weights } };
    }
    case 'cells': {
      const { dtype, width } = shape;
      const cells =
        dtype === 'i32' ? scratch.integers('cells', size * width) : scratch.matrix('cells', size, width).data;
      const bits = bitsOf(cells);
      for (let i = 0, to = 0; i < size; i++) {
        const end = at[i]! + width;
        for (let place = at[i]!; place < end; place++) bits[to++] = words[place]!;
        at[i] = end;
      }
      return { kind: 'cells', cells, width };
    }
    case 'texts': {
      const texts = Array.from(at, (first, i) => {
        const length = words[first]!;
        at[i] = first + 1 + Math.ceil(length / 2);
        return Buffer.from(words.buffer, words.byteOffset + 4 * first + 4, 2 * length).toString('utf16le');
      });
      return { kind: 'texts', texts };
    }
    default:
      return shape satisfies never;
  }
}

function decodeBags(words: Int32Array, at: Uint32Array, offsets: Int32Array, out: Int32Array): void {
  let to = 0;
  for (let i = 0; i < at.length; i++) {
    let place = at[i]!;
    for (const end = offsets[i + 1]!; to < end; to++) out[to] = words[place++]!;
    at[i] = place;
  }
}

function bitsOf({ buffer, byteOffset, length }: Int32Array | Float32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length);
}
