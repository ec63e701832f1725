/** Weighted sums of stored rows: what a lookup does. */
import { scratchOf, unpack, type Scratch } from './codec.ts';
import type { Elements, PortableRows } from './rows.ts';
import { addFour, addScaled } from './vectors.ts';

/** Rows of this many columns and fewer are taken 32 at a time, wider ones, which are their own read-ahead, four. */
const narrow = 2048;

/** Bytes that memory hands over at once. */
const lineBytes = 64;

/**
 * Rows are taken in blocks: JavaScript cannot fetch ahead, but it can read one element of every cache line of a block first,
 * reads that wait for memory together, and then add the rows, four in one pass.
 *
 * The same rows in the same order give the same bytes wherever they are stored: the sum of four is one expression, in f64,
 * rounded to f32 once.
 */
export class RowSum {
  readonly #width: number;
  /** Columns that share a factor: those of the narrowest group. */
  readonly #segment: number;
  readonly #segments: number;
  readonly #most: number;
  readonly #stores: PortableRows[] = [];
  readonly #rows: Elements[] = [];
  readonly #at: Int32Array;
  /** Weight times scale, for each row and segment. */
  readonly #factors: Float64Array;
  /** Where rows that are not f32 in memory are unpacked to. */
  #scratch: Scratch | null = null;
  #held = 0;
  touched = 0;

  /** @param segment columns that share a scale in every store, `width` where there are no scales */
  constructor(width: number, segment = width) {
    this.#width = width;
    this.#segment = segment;
    this.#segments = Math.ceil(width / segment);
    this.#most = width <= narrow ? 32 : 4;
    this.#at = new Int32Array(this.#most);
    this.#factors = new Float64Array(this.#most * this.#segments);
  }

  /**
   * Adds `w` times columns `[column, column + width)` of `store[row]` to `y[yAt ..]`, now or at `finish`; `y` and `yAt` stay
   * the same in between.
   */
  add(y: Float32Array, yAt: number, store: PortableRows, row: number, column: number, w: number): void {
    if (this.#held === this.#most) this.finish(y, yAt);
    const i = this.#held++;
    const at = store.seek(row) + (store.dtype === 'int4' ? column >> 1 : column);
    const { data, groupDims, scales, scalesAt } = store;
    this.#stores[i] = store;
    this.#rows[i] = data;
    this.#at[i] = at;
    if (groupDims === 0) this.#factors[i] = w;
    else {
      const [segment, segments] = [this.#segment, this.#segments];
      for (let s = 0; s < segments; s++) {
        const group = Math.floor((column + s * segment) / groupDims);
        this.#factors[i * segments + s] = w * scales[scalesAt + group]!;
      }
    }
    // The next row of a file may take the place of this one.
    if (store.home === 'mapped') this.#unpack(i);
    else this.touched = touch(store, at, this.#width);
  }

  /** Puts row i of the block into the scratch memory. */
  #unpack(i: number): void {
    const width = this.#width + (this.#width & 1);
    this.#scratch ??= scratchOf(this.#most * width);
    unpack(this.#stores[i]!, this.#scratch, i * width, this.#rows[i]!, this.#at[i]!, this.#width);
    this.#rows[i] = this.#scratch.floats;
    this.#at[i] = i * width;
  }

  /** Adds what is held. */
  finish(y: Float32Array, yAt: number): void {
    const held = this.#held;
    this.#held = 0;
    for (let i = 0; i < held; i++) if (!(this.#rows[i] instanceof Float32Array)) this.#unpack(i);
    const rows = this.#rows as Float32Array[];
    const [at, factors, segments] = [this.#at, this.#factors, this.#segments];
    for (let s = 0; s < segments; s++) {
      const first = s * this.#segment;
      const length = Math.min(this.#segment, this.#width - first);
      let i = 0;
      for (; i + 4 <= held; i += 4) {
        addFour(
          y,
          yAt + first,
          length,
          rows[i]!,
          at[i]! + first,
          factors[i * segments + s]!,
          rows[i + 1]!,
          at[i + 1]! + first,
          factors[(i + 1) * segments + s]!,
          rows[i + 2]!,
          at[i + 2]! + first,
          factors[(i + 2) * segments + s]!,
          rows[i + 3]!,
          at[i + 3]! + first,
          factors[(i + 3) * segments + s]!,
        );
      }
      for (; i < held; i++) addScaled(y, yAt + first, rows[i]!, at[i]! + first, factors[i * segments + s]!, length);
    }
  }
}

/** Reads one element of every cache line of a row. The sum is of no use but that the reads cannot be left out. */
function touch({ dtype, data, stride }: PortableRows, at: number, width: number): number {
  if (dtype === 'f32') return touchFloats(data as Float32Array, at, width);
  if (dtype === 'f16' || dtype === 'bf16') return touchShorts(data as Int16Array, at, width);
  return touchBytes(data as Int8Array, at, Math.min(width, stride));
}

function touchFloats(data: Float32Array, at: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i += lineBytes / 4) sum += data[at + i]!;
  return sum;
}

function touchShorts(data: Int16Array, at: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i += lineBytes / 2) sum |= data[at + i]!;
  return sum;
}

function touchBytes(data: Int8Array, at: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i += lineBytes) sum |= data[at + i]!;
  return sum;
}
