/** Weighted sums of stored rows: what a lookup does. */
import type { StoreDtype } from '../kernels.ts';
import { scratchOf, unpack, type Scratch } from './codec.ts';
import { addFourBfloats, addFourBytes, addFourFloats, addFourHalves, addFourNibbles } from './fours.ts';
import { RamRows, type Elements, type PortableRows } from './rows.ts';
import { addScaled } from './vectors.ts';

/** Rows of a block, but where they are wide. */
const mostRows = 256;

/** A block's rows as f32: what a core's first cache holds. */
const blockBytes = 2 ** 15;

/** Bytes that memory hands over at once. */
const lineBytes = 64;

/** Columns of a 32-bit word. */
const columnsPerWord = { f32: 1, i32: 1, f16: 2, bf16: 2, int8: 4, int4: 8 } as const;

// What is held of each row of the block. One sum at a time holds rows, so there is one of each; loops over constants are
// smaller, and more of their reads are under way at once.
const ids = new Int32Array(mostRows);
const weights = new Float64Array(mostRows);
/** Weights times scales. */
const factors = new Float64Array(mostRows);
/** Row i begins at `data[i][at[i]]` of a sum's `data`, its words at `words[i][wordsAt[i]]`, its scales likewise. */
const at = new Int32Array(mostRows);
const wordsAt = new Int32Array(mostRows);
const scalesAt = new Int32Array(mostRows);
/** Runs of rows of one store, and bags: the first row of each; which column of the run is the sum's first; where in y the bag's sum is. */
const runRows = new Int32Array(mostRows + 1);
const runColumns = new Int32Array(mostRows);
const bagRows = new Int32Array(mostRows + 2);
const bagAt = new Int32Array(mostRows + 1);

/**
 * Rows are taken in blocks, of many bags or of a part of one: JavaScript cannot fetch ahead, but it can read one element of
 * every cache line of a block first, and then the scales, reads that wait for memory together. Then it adds the rows, four in
 * one pass.
 *
 * The same rows in the same order give the same bytes wherever they are stored: the sum of four is one expression, in f64,
 * rounded to f32 once. Fours are counted from a bag's first row.
 *
 * A sum is finished before another begins.
 */
export class RowSum {
  readonly #y: Float32Array;
  readonly #width: number;
  /** Columns that share a factor: those of the narrowest group. */
  readonly #segment: number;
  /** Rows of a block, four or more. */
  readonly #most: number;
  readonly #data: Elements[] = [];
  readonly #words: Int32Array[] = [];
  readonly #scales: Float32Array[] = [];
  /** The store of each run. */
  readonly #stores: PortableRows[] = [];
  #runs = 0;
  #bags = 0;
  #held = 0;
  /** Rows of the last bag, those of earlier blocks too. */
  #place = 0;
  /** What rows of the block are stored as, but for those that were unpacked. */
  #dtype: StoreDtype = 'f32';
  /** Columns of a word where rows are added as words, else 0. */
  #perWord = 0;
  /** Where rows are unpacked to that cannot be added as they are. */
  #scratch: Scratch | null = null;
  #unpacked = false;
  /** Scales of rows that a next row may take the place of. */
  #keptScales: Float32Array | null = null;
  /** What `readLines` gave last: a result that is kept cannot be left out. */
  lastRead = 0;

  /**
   * @param y to add to, when a block is full and at `finish`
   * @param segment columns that share a scale in every store, `width` where there are no scales
   */
  constructor(y: Float32Array, width: number, segment = width) {
    this.#y = y;
    this.#width = width;
    this.#segment = segment;
    this.#most = Math.max(4, Math.min(mostRows, Math.floor(blockBytes / (4 * width))));
  }

  /** The rows added from now on are a bag's, whose sum is `y[yAt ..]`. */
  begin(yAt: number): void {
    // A bag without rows gives its place to the next one.
    if (this.#bags === 0 || bagRows[this.#bags - 1]! < this.#held) this.#bags++;
    bagRows[this.#bags - 1] = this.#held;
    bagAt[this.#bags - 1] = yAt;
    this.#place = 0;
  }

  /** Adds `w` times columns `[column, column + width)` of `store[row]`, now or later. */
  add(store: PortableRows, row: number, column: number, w: number): void {
    if (this.#held > this.#most - 4 && (this.#place & 3) === 0) this.#addBlock();
    const last = this.#runs - 1;
    if (last < 0 || this.#stores[last] !== store || runColumns[last] !== column) {
      this.#stores[this.#runs] = store;
      runColumns[this.#runs] = column;
      runRows[this.#runs++] = this.#held;
    }
    ids[this.#held] = row;
    weights[this.#held] = w;
    this.#held++;
    this.#place++;
  }

  /** Adds what is held. */
  finish(): void {
    this.#addBlock();
    this.#bags = 0;
  }

  #addBlock(): void {
    const held = this.#held;
    if (held === 0) return;
    runRows[this.#runs] = held;
    bagRows[this.#bags] = held;
    this.#dtype = this.#stores[0]!.dtype;
    this.#perWord = this.#columnsPerWord(this.#stores[0]!);
    for (let run = 0; run < this.#runs; run++) this.#seekRun(run);
    this.lastRead = this.#readLines();
    if (this.#dtype !== 'f32' && this.#perWord === 0) for (let i = 0; i < held; i++) this.#unpack(i, this.#dtype);
    for (let column = 0; column < this.#width; column += this.#segment) {
      const weighted = this.#weigh(column) ? factors : weights;
      for (let bag = 0; bag < this.#bags; bag++) this.#addBag(bag, column, weighted);
    }
    // The last bag may have more rows.
    bagRows[0] = 0;
    bagAt[0] = bagAt[this.#bags - 1]!;
    this.#bags = 1;
    this.#runs = 0;
    this.#held = 0;
    this.#unpacked = false;
  }

  #columnsPerWord(store: PortableRows): number {
    const columns = columnsPerWord[store.dtype];
    // Halves are added two words at a time.
    const step = store.dtype === 'f16' ? 2 * columns : columns;
    return store.inWords && this.#width % step === 0 && this.#segment % step === 0 ? columns : 0;
  }

  #seekRun(run: number): void {
    const store = this.#stores[run]!;
    const { dtype } = store;
    const [first, end, column] = [runRows[run]!, runRows[run + 1]!, runColumns[run]!];
    const skip = dtype === 'int4' ? column >> 1 : column;
    if (!(store instanceof RamRows)) {
      for (let i = first; i < end; i++) this.#keep(i, store, column, skip);
      return;
    }
    store.seekRows(ids, first, end, this.#data, at);
    if (skip > 0) for (let i = first; i < end; i++) at[i]! += skip;
    if (store.groupDims > 0) store.seekScales(ids, first, end, this.#scales, scalesAt);
    const fits = dtype === this.#dtype && (this.#perWord === 0 || (store.inWords && column % this.#perWord === 0));
    if (!fits) for (let i = first; i < end; i++) this.#unpack(i, dtype);
    else if (this.#perWord > 0) {
      store.seekWords(ids, first, end, this.#words);
      const shift = this.#perWord === 2 ? 1 : 2;
      for (let i = first; i < end; i++) wordsAt[i] = at[i]! >> shift;
    }
  }

  /** Seeks row i and takes what is needed of it, since the next row of a file may take its place. */
  #keep(i: number, store: PortableRows, column: number, skip: number): void {
    at[i] = store.seek(ids[i]!) + skip;
    this.#data[i] = store.data;
    this.#unpack(i, store.dtype);
    if (store.groupDims === 0) return;
    const segments = Math.ceil(this.#width / this.#segment);
    this.#keptScales ??= new Float32Array(this.#most * segments);
    const group = Math.floor(column / store.groupDims);
    const last = Math.floor((column + this.#width - 1) / store.groupDims);
    for (let g = group; g <= last; g++) this.#keptScales[i * segments + g - group] = store.scales[store.scalesAt + g]!;
    this.#scales[i] = this.#keptScales;
    scalesAt[i] = i * segments - group;
  }

  /** Puts row i of the block into the scratch memory, as f32. */
  #unpack(i: number, dtype: StoreDtype): void {
    const width = this.#width + (this.#width & 1);
    this.#scratch ??= scratchOf(this.#most * width);
    if (this.#data[i] === this.#scratch.floats) return;
    unpack(dtype, this.#scratch, i * width, this.#data[i]!, at[i]!, this.#width);
    this.#data[i] = this.#scratch.floats;
    this.#words[i] = this.#scratch.bits;
    at[i] = wordsAt[i] = i * width;
    this.#unpacked = true;
  }

  /** What is read is of no use but that the reads cannot be left out. */
  #readLines(): number {
    const data = this.#data;
    let read = 0;
    for (let first = 0, end; first < this.#held; first = end) {
      end = first + 1;
      while (end < this.#held && data[end] === data[first]) end++;
      read += this.#readRows(first, end);
    }
    return read;
  }

  /** Of rows `[first, end)`, all in one array. */
  #readRows(first: number, end: number): number {
    const [dtype, data] = [this.#dtype, this.#data[first]];
    if (dtype === 'f32') return readFloats(data as Float32Array, first, end, this.#width);
    if (this.#perWord > 0) return readWords(this.#words[first]!, first, end, this.#width / this.#perWord);
    if (this.#unpacked) return 0;
    if (dtype === 'f16' || dtype === 'bf16') return readShorts(data as Int16Array, first, end, this.#width);
    return readBytes(data as Int8Array, first, end, dtype === 'int4' ? this.#width >> 1 : this.#width);
  }

  /** Factors for the columns from `column` on; false where they are the weights. */
  #weigh(column: number): boolean {
    let scaled = false;
    for (let run = 0; run < this.#runs; run++) scaled ||= this.#stores[run]!.groupDims > 0;
    for (let run = 0; scaled && run < this.#runs; run++) {
      const { groupDims } = this.#stores[run]!;
      const [first, end] = [runRows[run]!, runRows[run + 1]!];
      if (groupDims === 0) for (let i = first; i < end; i++) factors[i] = weights[i]!;
      else multiplyScales(this.#scales, Math.floor((runColumns[run]! + column) / groupDims), first, end);
    }
    return scaled;
  }

  /** Adds a bag's rows of the block: the columns of a segment. */
  #addBag(bag: number, column: number, weighted: Float64Array): void {
    const yAt = bagAt[bag]! + column;
    const length = Math.min(this.#segment, this.#width - column);
    const end = bagRows[bag + 1]!;
    let i = bagRows[bag]!;
    for (; i + 4 <= end; i += 4) this.#addFour(yAt, column, length, i, weighted);
    for (; i < end; i++) {
      if (this.#dtype !== 'f32') this.#unpack(i, this.#dtype);
      addScaled(this.#y, yAt, this.#data[i] as Float32Array, at[i]! + column, weighted[i]!, length);
    }
  }

  #addFour(yAt: number, column: number, length: number, i: number, weighted: Float64Array): void {
    const y = this.#y;
    const words = this.#words;
    const dtype = this.#unpacked && this.#unpackFour(i) ? 'f32' : this.#dtype;
    if (dtype === 'f16') addFourHalves(y, yAt, length, words, wordsAt, i, column / 2, weighted);
    else if (dtype === 'bf16') addFourBfloats(y, yAt, length, words, wordsAt, i, column / 2, weighted);
    else if (dtype === 'int8') addFourBytes(y, yAt, length, words, wordsAt, i, column / 4, weighted);
    else if (dtype === 'int4') addFourNibbles(y, yAt, length, words, wordsAt, i, column / 8, weighted);
    else addFourFloats(y, yAt, length, this.#data as Float32Array[], at, i, column, weighted);
  }

  /** Where one of the four rows from row i on was unpacked, all are. */
  #unpackFour(i: number): boolean {
    const data = this.#data;
    const floats = this.#scratch!.floats;
    if (data[i] !== floats && data[i + 1] !== floats && data[i + 2] !== floats && data[i + 3] !== floats) return false;
    for (let row = i; row < i + 4; row++) this.#unpack(row, this.#dtype);
    return true;
  }
}

// These read one element of every cache line of rows `[first, end)` of x, the first line of all rows before the second of any:
// inner loops so small that many reads are under way at once.

function readFloats(x: Float32Array, first: number, end: number, width: number): number {
  let sum = 0;
  for (let c = 0; c < width; c += lineBytes / 4) for (let i = first; i < end; i++) sum += x[at[i]! + c]!;
  return sum;
}

function readWords(x: Int32Array, first: number, end: number, width: number): number {
  let sum = 0;
  for (let c = 0; c < width; c += lineBytes / 4) for (let i = first; i < end; i++) sum |= x[wordsAt[i]! + c]!;
  return sum;
}

function readShorts(x: Int16Array, first: number, end: number, width: number): number {
  let sum = 0;
  for (let c = 0; c < width; c += lineBytes / 2) for (let i = first; i < end; i++) sum |= x[at[i]! + c]!;
  return sum;
}

function readBytes(x: Int8Array, first: number, end: number, width: number): number {
  let sum = 0;
  for (let c = 0; c < width; c += lineBytes) for (let i = first; i < end; i++) sum |= x[at[i]! + c]!;
  return sum;
}

/** Weights times scales, for rows `[first, end)`. */
function multiplyScales(scales: readonly Float32Array[], group: number, first: number, end: number): void {
  for (let i = first; i < end; i++) factors[i] = weights[i]! * scales[i]![scalesAt[i]! + group]!;
}
