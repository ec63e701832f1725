/** The inner loops: stored rows, weighted and added to a row of a matrix. */
import { f16ToF32 } from '@finetable/core';
import type { PortableRows } from './rows.ts';

/** The f32 value of every f16: 256 KiB. */
const halfValues = Float32Array.from({ length: 65536 }, (_, bits) => f16ToF32(bits));

/** `y[yAt + i] += w * x[xAt + i]`, rounded to f32 at each addition. */
export function addScaled(y: Float32Array, yAt: number, x: Float32Array, xAt: number, w: number, length: number): void {
  for (let i = 0; i < length; i++) y[yAt + i]! += w * x[xAt + i]!;
}

/** `y[yAt ..] = store[row]`, decoded. */
export function copyRow(y: Float32Array, yAt: number, store: PortableRows, row: number): void {
  const at = store.seek(row);
  const { data, dim } = store;
  if (store.dtype === 'f16') for (let i = 0; i < dim; i++) y[yAt + i] = halfValues[data[at + i]!]!;
  else for (let i = 0; i < dim; i++) y[yAt + i] = data[at + i]!;
}

/** `y[yAt + i] += Σ w x`, rounded to f32 once. */
function addFour(
  y: Float32Array,
  yAt: number,
  length: number,
  x0: Float32Array,
  at0: number,
  w0: number,
  x1: Float32Array,
  at1: number,
  w1: number,
  x2: Float32Array,
  at2: number,
  w2: number,
  x3: Float32Array,
  at3: number,
  w3: number,
): void {
  for (let i = 0; i < length; i++) {
    y[yAt + i] = y[yAt + i]! + w0 * x0[at0 + i]! + w1 * x1[at1 + i]! + w2 * x2[at2 + i]! + w3 * x3[at3 + i]!;
  }
}

/**
 * A row of a matrix product: `y[yAt ..] += scale · Σ_k x[xAt + k xStep] · b[k cols ..]` for k below `count`, four rows of b
 * at a time.
 */
export function addProduct(
  y: Float32Array,
  yAt: number,
  x: Float32Array,
  xAt: number,
  xStep: number,
  count: number,
  b: Float32Array,
  cols: number,
  scale: number,
): void {
  let k = 0;
  for (; k + 4 <= count; k += 4) {
    const [from, at] = [xAt + k * xStep, k * cols];
    addFour(
      y,
      yAt,
      cols,
      b,
      at,
      scale * x[from]!,
      b,
      at + cols,
      scale * x[from + xStep]!,
      b,
      at + 2 * cols,
      scale * x[from + 2 * xStep]!,
      b,
      at + 3 * cols,
      scale * x[from + 3 * xStep]!,
    );
  }
  for (; k < count; k++) addScaled(y, yAt, b, k * cols, scale * x[xAt + k * xStep]!, cols);
}

/**
 * Weighted sums of stored rows, taken four at a time: JavaScript cannot fetch ahead, but four rows read side by side wait
 * for memory together.
 */
export class RowSum {
  readonly #width: number;
  readonly #rows: Float32Array[];
  readonly #at = new Float64Array(4);
  readonly #weights = new Float64Array(4);
  /** Where rows that are not f32 in memory are decoded to. */
  readonly #decoded: readonly Float32Array[];
  #held = 0;

  constructor(width: number) {
    this.#width = width;
    this.#decoded = Array.from({ length: 4 }, () => new Float32Array(width));
    this.#rows = [...this.#decoded];
  }

  /** Adds `w * store[row]` to `y[yAt ..]`, now or at `finish`; `y` and `yAt` stay the same in between. */
  add(y: Float32Array, yAt: number, store: PortableRows, row: number, w: number): void {
    const i = this.#held;
    if (store.dtype === 'f32' && store.home === 'ram') {
      this.#at[i] = store.seek(row);
      this.#rows[i] = store.data as Float32Array;
    } else {
      this.#at[i] = 0;
      this.#rows[i] = this.#decoded[i]!;
      copyRow(this.#decoded[i]!, 0, store, row);
    }
    this.#weights[i] = w;
    this.#held = i + 1;
    if (i === 3) this.#flush(y, yAt);
  }

  #flush(y: Float32Array, yAt: number): void {
    const [at, w, rows] = [this.#at, this.#weights, this.#rows];
    addFour(
      y,
      yAt,
      this.#width,
      rows[0]!,
      at[0]!,
      w[0]!,
      rows[1]!,
      at[1]!,
      w[1]!,
      rows[2]!,
      at[2]!,
      w[2]!,
      rows[3]!,
      at[3]!,
      w[3]!,
    );
    this.#held = 0;
  }

  /** Adds what is left. */
  finish(y: Float32Array, yAt: number): void {
    for (let i = 0; i < this.#held; i++)
      addScaled(y, yAt, this.#rows[i]!, this.#at[i]!, this.#weights[i]!, this.#width);
    this.#held = 0;
  }
}
