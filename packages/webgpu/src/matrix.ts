/** Matrices on a GPU, and how f32 matrices go there and come back: columns filled up to fours with 0. */
import { FinetableError, type Matrix } from '@finetable/core';
import type { DeviceMatrix } from '@finetable/placement';
import type { Checks } from './failure.ts';
import type { Gpu, Span } from './gpu.ts';
import { quadsOf } from './layout.ts';

/** Bytes of a matrix of this shape on the device. */
export const matrixBytes = (rows: number, cols: number): number => 16 * rows * quadsOf(cols);

/** As it lies on the device, times `scale`. @param rows of the result, default its own; those that are not there are 0 */
export function padMatrix({ data, rows, cols }: Matrix, scale = 1, padded = rows): Float32Array {
  const width = 4 * quadsOf(cols);
  if (width === cols && scale === 1 && padded === rows) return data;
  const out = new Float32Array(padded * width);
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++) out[row * width + col] = scale * data[row * cols + col]!;
  return out;
}

/** The other way, into all of `out`. */
export function unpadMatrix(bytes: Uint8Array, { data, rows, cols }: Matrix, scale = 1): void {
  const width = 4 * quadsOf(cols);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, rows * width);
  if (width === cols && scale === 1) return data.set(values);
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++) data[row * cols + col] = scale * values[row * width + col]!;
}

/** A buffer that several matrices are parts of. */
interface Shared {
  readonly span: Span;
  uses: number;
}

export class WebgpuMatrix implements DeviceMatrix {
  readonly rows: number;
  readonly cols: number;
  readonly #gpu: Gpu;
  readonly #checks: Checks;
  readonly #shared: Shared;
  readonly #first: number;
  #disposed = false;

  /** @param shared the buffer of all rows; a span becomes the matrix's own */
  constructor(gpu: Gpu, checks: Checks, rows: number, cols: number, shared: Span | Shared, first = 0) {
    this.rows = rows;
    this.cols = cols;
    this.#gpu = gpu;
    this.#checks = checks;
    this.#shared = 'span' in shared ? shared : { span: shared, uses: 0 };
    this.#shared.uses++;
    this.#first = first;
  }

  /** Where its rows are; null on another device. @throws CLOSED */
  spanOn(gpu: Gpu): Span | null {
    if (this.#disposed) throw new FinetableError('CLOSED', `device "${this.#gpu.name}": the matrix is disposed`);
    const { span } = this.#shared;
    const offset = span.offset + matrixBytes(this.#first, this.cols);
    return gpu === this.#gpu ? { buffer: span.buffer, offset, size: matrixBytes(this.rows, this.cols) } : null;
  }

  async read(out: Matrix): Promise<void> {
    const span = this.spanOn(this.#gpu)!;
    if (span.size === 0) return this.#checks.settle();
    await this.#gpu.download([span], this.#checks, [(bytes) => unpadMatrix(bytes, out)]);
  }

  rowsOf(first: number, count: number): WebgpuMatrix {
    this.spanOn(this.#gpu);
    return new WebgpuMatrix(this.#gpu, this.#checks, count, this.cols, this.#shared, this.#first + first);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (--this.#shared.uses === 0) this.#gpu.give(this.#shared.span);
  }
}
