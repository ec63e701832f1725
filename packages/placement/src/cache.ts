/**
 * The hot-row cache: copies in RAM of the rows that are read most often, of those that are mapped or on a device. Rows never
 * change, so neither does the cache once it is filled, and every result is the same with and without it.
 */
import {
  FinetableError,
  parseBytes,
  storedRowBytes,
  type LookupPlan,
  type RowFormat,
  lowerBound,
} from '@finetable/core';
import type { Kernels, SlotTable } from '@finetable/kernels';
import type { OverlayRows } from './overlay.ts';
import type { RawRows } from './raw.ts';

/** How many rows a cache has room for. */
export interface CacheOptions {
  /** What its rows and their slot table may take: bytes, or text such as `64MiB`. */
  readonly bytes: number | string;
  /** How often each row is read (`[V]`, 0 or more): the cache is filled with the rows of the highest counts when the table opens. */
  readonly counts?: ArrayLike<number> | undefined;
  /**
   * Without `counts`: the lookups whose rows are counted before the cache is filled, in the background, once. Default 64.
   * Counting keeps to rows that were seen, and to 4 times as many as the cache holds (at least 65536).
   */
  readonly warmUpBatches?: number | undefined;
}

/** Exact, since the table was opened. */
export interface CacheStatistics {
  /** Unique rows of lookups that were read from the cache. */
  readonly hits: number;
  /** Those that were not, of the rows that have a part that is mapped or on a device; rows in RAM are neither. */
  readonly misses: number;
  /** Rows in it now; 0 until it is filled. */
  readonly rows: number;
  /** Bytes of these rows and the slot table. */
  readonly bytes: number;
}

const maximumLoad = 0.7;
const counterRows = 65536;

/** Rows `[begin, end)`. */
export interface RowRange {
  readonly begin: number;
  readonly end: number;
}

/** Copies in RAM of rows that are looked up often, in front of mapped and device parts. */
export class HotRowCache {
  /** Rows that it has room for. */
  readonly capacity: number;
  readonly #format: RowFormat;
  readonly #kernels: Kernels;
  /** Rows worth a copy, ascending. */
  readonly #ranges: readonly RowRange[];
  readonly #entries: number;
  readonly #totals = { hits: 0, misses: 0 };
  #counter: RowCounter | null = null;
  #warmUpBatches: number;
  /** Null until the cache is filled. */
  #slots: SlotTable | null = null;
  #rows = 0;
  #filling: Promise<void> | null = null;
  #failure: Error | null = null;
  #closed = false;

  /** @throws INVALID_ARGUMENT */
  constructor(
    table: string,
    tableRows: number,
    format: RowFormat,
    ranges: readonly RowRange[],
    options: CacheOptions,
    kernels: Kernels,
  ) {
    const { bytes, counts, warmUpBatches = 64 } = options;
    if (!Number.isInteger(warmUpBatches) || warmUpBatches < 1) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${table}: cache.warmUpBatches ${warmUpBatches}; allowed: an integer of 1 or more`,
        { table },
      );
    }
    if (counts) checkCounts(table, counts, tableRows);
    this.#format = format;
    this.#kernels = kernels;
    this.#ranges = ranges;
    this.#warmUpBatches = warmUpBatches;
    const worthIt = ranges.reduce((sum, { begin, end }) => sum + end - begin, 0);
    const room = roomOf(parseBytes(bytes, `${table}: cache.bytes`), storedRowBytes(format), worthIt);
    this.capacity = room.rows;
    this.#entries = room.entries;
    if (!counts && this.capacity > 0)
      this.#counter = new RowCounter(kernels, Math.min(tableRows, Math.max(counterRows, 4 * this.capacity)));
  }

  get stats(): CacheStatistics {
    const bytes = this.#slots ? this.#rows * storedRowBytes(this.#format) + this.#slots.byteLength : 0;
    return { ...this.#totals, rows: this.#rows, bytes };
  }

  /** Settles when a fill that is under way, if any, is done. */
  async settled(): Promise<void> {
    await this.#filling?.catch(() => undefined);
  }

  /**
   * @internal `out[i]` = the copy of each unique row of a plan, -1 where there is none. @returns how many there are
   * @throws what filling failed with
   */
  find({ uniqueRows }: LookupPlan, out: Int32Array): number {
    if (this.#failure) throw this.#failure;
    if (!this.#slots) {
      out.fill(-1);
      return 0;
    }
    this.#kernels.findSlots(this.#slots, uniqueRows, out);
    let hits = 0;
    for (let i = 0; i < out.length; i++) if (out[i]! >= 0) hits++;
    return hits;
  }

  /** @internal A lookup of `plan` has been done, `hits` of its rows read from here. */
  count(plan: LookupPlan, hits: number, raw: RawRows, overlay: OverlayRows): void {
    let cold = 0;
    for (const { begin, end } of this.#ranges)
      cold += lowerBound(plan.uniqueRows, end) - lowerBound(plan.uniqueRows, begin);
    this.#totals.hits += hits;
    this.#totals.misses += cold - hits;
    if (!this.#counter) return;
    this.#counter.add(plan);
    if (--this.#warmUpBatches > 0) return;
    const rows = this.#counter.highest(this.#ranges, this.capacity);
    this.#counter = null;
    this.#filling = this.#fill(rows, raw, overlay);
    // Of nobody's waiting; the next lookup throws it.
    this.#filling.catch((error: unknown) => (this.#failure = error as Error));
  }

  /** @internal Fills the cache with the rows of the highest counts. */
  async fillByCounts(counts: ArrayLike<number>, raw: RawRows, overlay: OverlayRows): Promise<void> {
    await this.#fill(highestOf(counts, this.#ranges, this.capacity), raw, overlay);
  }

  /** Copies `rows` (ascending), some at a time, so that whatever else waits for the JavaScript thread gets it. */
  async #fill(rows: Int32Array, raw: RawRows, overlay: OverlayRows): Promise<void> {
    if (rows.length === 0) return;
    for (let begin = 0, count = 256; begin < rows.length;) {
      await new Promise(setImmediate);
      const chunk = rows.subarray(begin, begin + count);
      const bytes = new Uint8Array(raw.sizeBytes(chunk.length));
      const began = performance.now();
      const reading = raw.read(chunk, bytes);
      // What a store holds has been read by now; devices take their time elsewhere.
      const milliseconds = performance.now() - began;
      await reading;
      if (this.#closed) return;
      overlay.write(begin, bytes, chunk.length);
      begin += chunk.length;
      if (milliseconds > 8) count = Math.max(16, count / 2);
      else if (milliseconds < 2) count = Math.min(2 ** 14, count * 2);
    }
    const slots = new Int32Array(2 * this.#entries).fill(-1);
    this.#kernels.insertSlots(slots, rows, new Int32Array(rows.length).fill(-1), 0);
    this.#slots = slots;
    this.#rows = rows.length;
  }

  /** @internal */
  close(): void {
    this.#closed = true;
    this.#slots = null;
    this.#rows = 0;
  }
}

/** The most rows that fit, `limit` at most, and the entries of their slot table. */
function roomOf(bytes: number, rowBytes: number, limit: number): { rows: number; entries: number } {
  let best = { rows: 0, entries: 1 };
  for (let entries = 2; 8 * entries < bytes && entries <= 2 ** 30; entries *= 2) {
    const rows = Math.min(limit, Math.floor(entries * maximumLoad), Math.floor((bytes - 8 * entries) / rowBytes));
    if (rows > best.rows) best = { rows, entries };
  }
  return best;
}

function checkCounts(table: string, counts: ArrayLike<number>, rows: number): void {
  if (counts.length !== rows) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${table}: cache.counts has ${counts.length} values; allowed: one for each of the ${rows} rows`,
      { table },
    );
  }
  for (let row = 0; row < rows; row++) {
    if (counts[row]! >= 0) continue;
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${table}: cache.counts[${row}] is ${counts[row]}; allowed: numbers of 0 or more`,
      { table, row },
    );
  }
}

/** How often rows were read, of those seen first; memory is bounded by their number. */
class RowCounter {
  readonly #kernels: Kernels;
  readonly #limit: number;
  #table: SlotTable = new Int32Array(2 * 2048).fill(-1);
  #rows = new Int32Array(1024);
  #counts = new Float64Array(1024);
  #size = 0;

  constructor(kernels: Kernels, limit: number) {
    this.#kernels = kernels;
    this.#limit = limit;
  }

  /** Adds each row's places. */
  add({ uniqueRows, groupOffsets }: LookupPlan): void {
    const slots = new Int32Array(uniqueRows.length);
    this.#kernels.findSlots(this.#table, uniqueRows, slots);
    const unseen = uniqueRows.filter((_, i) => slots[i]! < 0).subarray(0, this.#limit - this.#size);
    for (let i = 0; i < slots.length; i++) {
      if (slots[i]! >= 0) this.#counts[slots[i]!]! += groupOffsets[i + 1]! - groupOffsets[i]!;
    }
    this.#reserve(this.#size + unseen.length);
    const first = this.#size;
    this.#kernels.insertSlots(this.#table, unseen, new Int32Array(unseen.length).fill(-1), first);
    this.#rows.set(unseen, first);
    this.#size += unseen.length;
    for (let i = 0, slot = first; slot < this.#size; i++) {
      if (slots[i]! < 0) this.#counts[slot++] = groupOffsets[i + 1]! - groupOffsets[i]!;
    }
  }

  /** The `count` rows of these ranges that were read most, ascending. */
  highest(ranges: readonly RowRange[], count: number): Int32Array {
    const rows = new Int32Array(this.#size);
    const counts = new Float64Array(this.#size);
    let found = 0;
    for (let slot = 0; slot < this.#size; slot++) {
      const row = this.#rows[slot]!;
      if (!ranges.some(({ begin, end }) => row >= begin && row < end)) continue;
      rows[found] = row;
      counts[found++] = this.#counts[slot]!;
    }
    return highest(rows.subarray(0, found), counts.subarray(0, found), count);
  }

  #reserve(count: number): void {
    if (count > this.#rows.length) {
      const length = Math.min(this.#limit, Math.max(count, 2 * this.#rows.length));
      const rows = new Int32Array(length);
      const counts = new Float64Array(length);
      rows.set(this.#rows);
      counts.set(this.#counts);
      [this.#rows, this.#counts] = [rows, counts];
    }
    let entries = this.#table.length / 2;
    if (count <= entries * maximumLoad) return;
    while (count > entries * maximumLoad) entries *= 2;
    this.#table = new Int32Array(2 * entries).fill(-1);
    const known = this.#rows.subarray(0, this.#size);
    this.#kernels.insertSlots(this.#table, known, new Int32Array(this.#size).fill(-1), 0);
  }
}

/** The `count` rows of these ranges with the highest counts above 0, ascending. */
function highestOf(counts: ArrayLike<number>, ranges: readonly RowRange[], count: number): Int32Array {
  let length = 0;
  for (const { begin, end } of ranges) for (let row = begin; row < end; row++) if (counts[row]! > 0) length++;
  const rows = new Int32Array(length);
  const values = new Float64Array(length);
  let at = 0;
  for (const { begin, end } of ranges) {
    for (let row = begin; row < end; row++) {
      if (!(counts[row]! > 0)) continue;
      rows[at] = row;
      values[at++] = counts[row]!;
    }
  }
  return highest(rows, values, count);
}

/** The `count` rows with the highest counts, ascending; of equal ones those that come first. */
function highest(rows: Int32Array, counts: Float64Array, count: number): Int32Array {
  if (rows.length <= count) return rows.sort();
  if (count === 0) return new Int32Array(0);
  const least = kthHighest(counts.slice(), count);
  let equal = count;
  for (const value of counts) if (value > least) equal--;
  const chosen = rows.filter((_, i) => counts[i]! > least || (counts[i] === least && equal-- > 0));
  return chosen.sort();
}

/** The k-th highest value (k from 1), by Hoare's selection; `values` change their order. */
function kthHighest(values: Float64Array, k: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >>> 1]!;
    let i = low;
    let j = high;
    while (i <= j) {
      while (values[i]! > pivot) i++;
      while (values[j]! < pivot) j--;
      if (i > j) break;
      [values[i], values[j]] = [values[j]!, values[i]!];
      i++;
      j--;
    }
    if (k - 1 <= j) high = j;
    else if (k - 1 >= i) low = i;
    else break;
  }
  return values[k - 1]!;
}
