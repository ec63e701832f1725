/** Weighted sums of stored rows: what a lookup does. */
import type { StoreDtype } from '../kernels.ts';
import { scratchOf, unpack, type Scratch } from './codec.ts';
import {
  addFourBfloats,
  addFourBytes,
  addFourFloats,
  addFourHalves,
  addFourNibbles,
  type SoughtRows,
} from './fours.ts';
import type { PortableRows } from './rows.ts';
import { addScaled } from './vectors.ts';

/** Rows of this many columns and fewer are taken 32 at a time, wider ones, which are their own read-ahead, four. */
const narrow = 2048;

/** Bytes that memory hands over at once. */
const lineBytes = 64;

/**
 * Rows are taken in blocks: JavaScript cannot fetch ahead, but it can read one element of every cache line of a block first,
 * reads that wait for memory together. Then it adds the rows, four in one pass.
 *
 * The same rows in the same order give the same bytes wherever they are stored: the sum of four is one expression, in f64,
 * rounded to f32 once.
 */
export class RowSum {
  readonly #width: number;
  /** Columns that share a factor: those of the narrowest group. */
  readonly #segment: number;
  readonly #segments: number;
  /** Rows of a block. */
  readonly #most: number;
  readonly #rows: SoughtRows;
  readonly #stores: PortableRows[] = [];
  /** `[segments, most]`: weight times scale. */
  readonly #factors: Float64Array;
  /** Where rows that are not f32 in memory are unpacked to, if they cannot be added as they are. */
  #scratch: Scratch | null = null;
  #held = 0;
  /** All held rows are stored as this; null where some were unpacked. */
  #dtype: StoreDtype | null = null;
  /** What `readLines` gave last: a result that is kept cannot be left out. */
  lastRead = 0;

  /** @param segment columns that share a scale in every store, `width` where there are no scales */
  constructor(width: number, segment = width) {
    this.#width = width;
    this.#segment = segment;
    this.#segments = Math.ceil(width / segment);
    this.#most = width <= narrow ? 32 : 4;
    this.#rows = { data: [], at: new Int32Array(this.#most) };
    this.#factors = new Float64Array(this.#most * this.#segments);
  }

  /**
   * Adds `w` times columns `[column, column + width)` of `store[row]` to `y[yAt ..]`, now or at `finish`; `y` and `yAt` stay
   * the same in between.
   */
  add(y: Float32Array, yAt: number, store: PortableRows, row: number, column: number, w: number): void {
    if (this.#held === this.#most) this.finish(y, yAt);
    const i = this.#held++;
    if (i === 0) this.#dtype = store.dtype;
    const at = store.seek(row);
    this.#stores[i] = store;
    this.#rows.data[i] = store.data;
    this.#rows.at[i] = at + (store.dtype === 'int4' ? column >> 1 : column);
    if (store.groupDims === 0) this.#factors[i] = w;
    else this.#setFactors(i, store, column, w);
    // The next row of a file may take the place of this one.
    if (store.home === 'mapped') this.#unpack(i);
  }

  #setFactors(i: number, { groupDims, scales, scalesAt }: PortableRows, column: number, w: number): void {
    for (let s = 0; s < this.#segments; s++) {
      const group = Math.floor((column + s * this.#segment) / groupDims);
      this.#factors[s * this.#most + i] = w * scales[scalesAt + group]!;
    }
  }

  /** Puts row i of the block into the scratch memory. */
  #unpack(i: number): void {
    const { data, at } = this.#rows;
    const width = this.#width + (this.#width & 1);
    this.#scratch ??= scratchOf(this.#most * width);
    if (data[i] === this.#scratch.floats) return;
    unpack(this.#stores[i]!, this.#scratch, i * width, data[i]!, at[i]!, this.#width);
    data[i] = this.#scratch.floats;
    at[i] = i * width;
    this.#dtype = null;
  }

  /** Adds what is held. */
  finish(y: Float32Array, yAt: number): void {
    const held = this.#held;
    this.#held = 0;
    if (held > 1 && this.#dtype) this.lastRead = readLines(this.#dtype, this.#rows, held, this.#width);
    // Rows of one sum have one type.
    if (!this.#dtype) for (let i = 0; i < held; i++) this.#unpack(i);
    const fours = held & ~3;
    for (let i = 0; i < fours; i += 4) this.#addFour(y, yAt, i);
    if (this.#dtype !== 'f32') for (let i = fours; i < held; i++) this.#unpack(i);
    const { data, at } = this.#rows as SoughtRows<Float32Array>;
    for (let i = fours; i < held; i++) {
      for (let s = 0, first = 0; s < this.#segments; s++, first += this.#segment) {
        const length = Math.min(this.#segment, this.#width - first);
        addScaled(y, yAt + first, data[i]!, at[i]! + first, this.#factors[s * this.#most + i]!, length);
      }
    }
  }

  #addFour(y: Float32Array, yAt: number, i: number): void {
    const x = this.#rows;
    const dtype = this.#dtype;
    const factors = this.#factors;
    for (let s = 0, first = 0; s < this.#segments; s++, first += this.#segment) {
      const length = Math.min(this.#segment, this.#width - first);
      const at = yAt + first;
      const f = s * this.#most + i;
      if (dtype === 'f16') addFourHalves(y, at, length, x as SoughtRows<Int16Array>, i, first, factors, f);
      else if (dtype === 'bf16') addFourBfloats(y, at, length, x as SoughtRows<Int16Array>, i, first, factors, f);
      else if (dtype === 'int8') addFourBytes(y, at, length, x as SoughtRows<Int8Array>, i, first, factors, f);
      else if (dtype === 'int4') addFourNibbles(y, at, length, x as SoughtRows<Int8Array>, i, first, factors, f);
      else addFourFloats(y, at, length, x as SoughtRows<Float32Array>, i, first, factors, f);
    }
  }
}

/**
 * Reads one element of every cache line of the rows, in a loop so small that many reads are under way at once. The sum is of
 * no use but that the reads cannot be left out.
 */
function readLines(dtype: StoreDtype, { data, at }: SoughtRows, count: number, width: number): number {
  if (dtype === 'f32') return readFloats(data as Float32Array[], at, count, width);
  if (dtype === 'f16' || dtype === 'bf16') return readShorts(data as Int16Array[], at, count, width);
  return readBytes(data as Int8Array[], at, count, dtype === 'int4' ? width >> 1 : width);
}

function readFloats(rows: readonly Float32Array[], at: Int32Array, count: number, width: number): number {
  let sum = 0;
  for (let r = 0; r < count; r++) {
    const row = rows[r]!;
    const first = at[r]!;
    for (let i = 0; i < width; i += lineBytes / 4) sum += row[first + i]!;
  }
  return sum;
}

function readShorts(rows: readonly Int16Array[], at: Int32Array, count: number, width: number): number {
  let sum = 0;
  for (let r = 0; r < count; r++) {
    const row = rows[r]!;
    const first = at[r]!;
    for (let i = 0; i < width; i += lineBytes / 2) sum |= row[first + i]!;
  }
  return sum;
}

function readBytes(rows: readonly Int8Array[], at: Int32Array, count: number, width: number): number {
  let sum = 0;
  for (let r = 0; r < count; r++) {
    const row = rows[r]!;
    const first = at[r]!;
    for (let i = 0; i < width; i += lineBytes) sum |= row[first + i]!;
  }
  return sum;
}
