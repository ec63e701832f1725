/** Rows in storage buffers: as many as the adapter's limits ask for, each a range of whole rows. */
import { setImmediate } from 'node:timers/promises';
import { FinetableError, formatBytes, lowerBound, rowBytes, type LookupPlan, type RowDtype, type RowFormat } from '@finetable/core'; // prettier-ignore
import { loadKernels, type FileRows, type TablePart } from '@finetable/kernels';
import type { DeviceLookup, DeviceRows, DeviceSearch } from '@finetable/placement';
import { Checks } from './failure.ts';
import type { Gpu, Span } from './gpu.ts';
import { layoutOf, packRows, unpackRows, type RowLayout } from './layout.ts';
import { WebgpuLookup } from './lookup.ts';
import { searchRows } from './nearest.ts';
import type { Shards } from './shaders/decode.ts';
import { gather } from './shaders/gather.ts';

/** The shards of a table, so many at a time as a shader may see. */
export interface RowPasses {
  readonly layout: RowLayout;
  readonly passes: readonly { readonly shards: Shards; readonly spans: readonly Span[] }[];
}

/** Bytes that are loaded or fetched at a time: other work gets its turn in between, and no buffer for them is larger. */
const blockBytes = 2 ** 24;

/** What a shader that sums rows needs beside them: offsets, sums, list, through, weights. */
const otherBindings = 5;

/** Most shards that a shader sees: more are read in another pass, which costs the ids once more and is compiled much faster. */
const mostTogether = 4;

export interface RowOptions {
  /** Most bytes of a buffer. */
  readonly bufferBytes: number;
  readonly computes: boolean;
}

/** @param shards all but the last with as many rows as the first @param bindings that a shader may have */
export function passesOf(layout: RowLayout, shards: readonly Span[], bindings: number): RowPasses {
  const together = Math.max(1, Math.min(mostTogether, bindings - otherBindings));
  const passes = [];
  for (let first = 0; first < shards.length; first += together) {
    const spans = shards.slice(first, first + together);
    const all = spans.length === shards.length;
    passes.push({ spans, shards: { shardRows: rowsOf(layout, shards[0]!), first, count: spans.length, all } });
  }
  return { layout, passes };
}

const rowsOf = ({ rowWords }: RowLayout, { size }: Span): number => size / (4 * rowWords);

/** Bytes that rows of this format take on the device. */
export const deviceRowBytes = (format: RowFormat): number => 4 * layoutOf(format).rowWords;

export class WebgpuRows implements DeviceRows {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  readonly groupDims: number;
  readonly sizeBytes: number;
  readonly begin?: (plan: LookupPlan) => DeviceLookup;
  readonly nearest?: (search: DeviceSearch) => Promise<void>;
  readonly #gpu: Gpu;
  readonly #layout: RowLayout;
  readonly #shards: readonly Span[];
  /** Rows of every shard but the last. */
  readonly #shardRows: number;
  #closed = false;

  private constructor(gpu: Gpu, rows: number, layout: RowLayout, shards: readonly Span[], computes: boolean) {
    const { format, rowWords } = layout;
    this.rows = rows;
    this.dim = format.dim;
    this.dtype = format.dtype;
    this.groupDims = format.groupDims;
    this.sizeBytes = 4 * rowWords * rows;
    this.#gpu = gpu;
    this.#layout = layout;
    this.#shards = shards;
    this.#shardRows = rowsOf(layout, shards[0]!);
    if (!computes) return;
    const passes = passesOf(layout, shards, gpu.adapter.maxBindings);
    this.begin = (plan) => {
      this.#checkOpen();
      return new WebgpuLookup(this.#gpu, passes, plan);
    };
    this.nearest = (search) => searchRows(gpu, passes, rows, search, () => this.#checkOpen());
  }

  /**
   * Copies part of a file's table into buffers.
   * @throws as `Kernels.openRows`; OUT_OF_MEMORY; IO where the device fails
   */
  static async open(
    gpu: Gpu,
    file: FileRows,
    part: TablePart,
    { bufferBytes, computes }: RowOptions,
  ): Promise<WebgpuRows> {
    const { dtype, scales } = file;
    const groupDims = Math.min(scales?.groupDims ?? 0, part.columns);
    const layout = layoutOf({ dtype, dim: part.columns, groupDims });
    const stride = 4 * layout.rowWords;
    const most = Math.floor(Math.min(bufferBytes, gpu.maxSpanBytes) / stride);
    if (most < 1) {
      const message = `device "${gpu.name}": a row takes ${formatBytes(stride)}, a buffer at most ${formatBytes(Math.min(bufferBytes, gpu.maxSpanBytes))}`;
      throw new FinetableError('OUT_OF_MEMORY', message, { device: gpu.name });
    }
    const store = loadKernels().openRows(file, 'mapped', part);
    const shards: Span[] = [];
    const checks = new Checks();
    const width = rowBytes(dtype, part.columns);
    const scaleBytes = 4 * layout.scales;
    const count = Math.max(1, Math.floor(blockBytes / stride));
    const block = new Uint8Array(Math.min(count, most, part.rows) * stride);
    try {
      for (let first = 0; first < part.rows; first += most) {
        const rows = Math.min(most, part.rows - first);
        const shard = gpu.watch('rows could not be loaded', checks, () => gpu.make(rows * stride));
        shards.push(shard);
        await checks.settle();
        for (let at = 0; at < rows; at += count) {
          const n = Math.min(count, rows - at);
          const elements = new Uint8Array(n * width);
          const ownScales = new Uint8Array(n * scaleBytes);
          loadKernels().readBytes(store, (first + at) * width, elements);
          if (scaleBytes > 0) loadKernels().readBytes(store, part.rows * width + (first + at) * scaleBytes, ownScales);
          const packed = block.subarray(0, n * stride);
          packRows(layout, elements, ownScales, packed);
          await gpu.watch('rows could not be loaded', checks, () => gpu.write(shard, at * stride, packed));
          await checks.settle();
          await setImmediate();
        }
      }
      return new WebgpuRows(gpu, part.rows, layout, shards, computes);
    } catch (error) {
      for (const shard of shards) gpu.drop(shard);
      throw error;
    } finally {
      store.close();
    }
  }

  async fetch(rows: Int32Array, out: Uint8Array): Promise<void> {
    const most = Math.max(1, Math.floor(blockBytes / (4 * this.#layout.rowWords)));
    for (let first = 0; first < rows.length; first += most)
      await this.#fetchBlock(rows.subarray(first, first + most), (bytes, at) =>
        unpackRows(this.#layout, bytes, out, first + at, rows.length),
      );
  }

  /** @param use gets the packed rows of each shard, and which of `rows` is the first of them */
  async #fetchBlock(rows: Int32Array, use: (bytes: Uint8Array, first: number) => void): Promise<void> {
    this.#checkOpen();
    const { rowWords } = this.#layout;
    const checks = new Checks();
    const gpu = this.#gpu;
    const parts: { readonly words: Span; readonly first: number }[] = [];
    try {
      gpu.watch('rows could not be gathered', checks, () => {
        const work = gpu.begin();
        this.#shards.forEach((shard, s) => {
          const firstRow = s * this.#shardRows;
          const first = lowerBound(rows, firstRow);
          const end = lowerBound(rows, firstRow + this.#shardRows);
          if (first === end) return;
          const index = gpu.upload([rows.subarray(first, end).map((row) => row - firstRow)]);
          const words = gpu.take(4 * rowWords * (end - first));
          parts.push({ words, first });
          work.release(index.whole);
          work.run(gather(rowWords), [index.spans[0]!, shard, words], rowWords * (end - first));
        });
        work.submit();
      });
      const spans = parts.map(({ words }) => words);
      const uses = parts.map(
        ({ first }) =>
          (bytes: Uint8Array) =>
            use(bytes, first),
      );
      await gpu.download(spans, checks, uses);
    } finally {
      for (const { words } of parts) gpu.give(words);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const shard of this.#shards) this.#gpu.drop(shard);
  }

  #checkOpen(): void {
    if (!this.#closed) return;
    throw new FinetableError('CLOSED', `device "${this.#gpu.name}": the rows are closed`, { device: this.#gpu.name });
  }
}
