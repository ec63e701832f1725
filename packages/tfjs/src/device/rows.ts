/** Rows in tensors: as many as the backend's limit asks for, each a range of whole rows. */
import { setImmediate } from 'node:timers/promises';
import type { Tensor2D } from '@tensorflow/tfjs';
import {
  FinetableError,
  lowerBound,
  rowBytes,
  rowScales,
  type LookupPlan,
  type RowDtype,
  type RowFormat,
} from '@finetable/core';
import { loadKernels, type FileRows, type TablePart } from '@finetable/kernels';
import type { DeviceLookup, DeviceRows } from '@finetable/placement';
import { tf } from '../load.ts';
import { Decoder, rowWords } from './decode.ts';
import { failure } from './failure.ts';
import { TfjsLookup } from './lookup.ts';
import type { Traffic } from './traffic.ts';

/** Rows `[firstRow, endRow)`. */
interface Shard {
  readonly firstRow: number;
  readonly endRow: number;
  /** `[n, rowWords]`: f32, or int32 words of the stored bytes. */
  readonly elements: Tensor2D;
  /** `[n, rowScales] f32`. */
  readonly scales: Tensor2D | null;
}

/** Bytes of a file that are read before other work gets its turn. */
const blockBytes = 2 ** 24;

/** @returns bytes that rows of this format take in tensors */
export function tensorRowBytes(format: RowFormat): number {
  return 4 * (rowWords(format) + rowScales(format));
}

export class TfjsRows implements DeviceRows {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  readonly groupDims: number;
  readonly sizeBytes: number;
  readonly begin?: (plan: LookupPlan) => DeviceLookup;
  readonly #device: string;
  readonly #traffic: Traffic;
  readonly #decoder: Decoder;
  readonly #shards: readonly Shard[];
  #closed = false;

  private constructor(
    device: string,
    rows: number,
    format: RowFormat,
    shards: readonly Shard[],
    decoder: Decoder,
    traffic: Traffic,
    computes: boolean,
  ) {
    this.rows = rows;
    this.dim = format.dim;
    this.dtype = format.dtype;
    this.groupDims = format.groupDims;
    this.sizeBytes = rows * tensorRowBytes(format) + decoder.sizeBytes;
    this.#device = device;
    this.#traffic = traffic;
    this.#decoder = decoder;
    this.#shards = shards;
    if (computes) this.begin = (plan) => new TfjsLookup(this.#device, this, plan, this.#traffic);
  }

  /**
   * Copies part of a file's table into tensors of at most `tensorBytes`; an array of that size is in RAM meanwhile.
   * @throws as `Kernels.openRows`; OUT_OF_MEMORY
   */
  static async open(
    device: string,
    file: FileRows,
    part: TablePart,
    tensorBytes: number,
    traffic: Traffic,
    computes: boolean,
  ): Promise<TfjsRows> {
    const { dtype, scales } = file;
    const groupDims = Math.min(scales?.groupDims ?? 0, part.columns);
    const format: RowFormat = { dtype, dim: part.columns, groupDims };
    const words = rowWords(format);
    const scaleCount = rowScales(format);
    const most = Math.floor(tensorBytes / (4 * Math.max(words, scaleCount)));
    if (most < 1) {
      const message = `device "${device}": a row takes ${4 * words} bytes, a tensor at most ${tensorBytes}`;
      throw new FinetableError('OUT_OF_MEMORY', message, { device });
    }
    const store = loadKernels().openRows(file, 'mapped', part);
    const shards: Shard[] = [];
    const bytes = rowBytes(dtype, part.columns);
    const scaleBytes = 4 * scaleCount;
    const read = async (to: Uint8Array, from: number, size: number, stride: number, count: number): Promise<void> => {
      const step = Math.max(1, Math.floor(blockBytes / size));
      const block = size === stride ? null : new Uint8Array(Math.min(step, count) * size);
      for (let row = 0; row < count; row += step) {
        const n = Math.min(step, count - row);
        const target = block ? block.subarray(0, n * size) : to.subarray(row * stride, (row + n) * stride);
        loadKernels().readBytes(store, from + row * size, target);
        if (block) for (let i = 0; i < n; i++) to.set(block.subarray(i * size, (i + 1) * size), (row + i) * stride);
        await setImmediate();
      }
    };
    let decoder: Decoder | null = null;
    try {
      decoder = new Decoder(format);
      for (let firstRow = 0; firstRow < part.rows; firstRow += most) {
        const count = Math.min(most, part.rows - firstRow);
        const elements = dtype === 'f32' ? new Float32Array(count * words) : new Int32Array(count * words);
        await read(new Uint8Array(elements.buffer), firstRow * bytes, bytes, 4 * words, count);
        const own = scaleCount === 0 ? null : new Float32Array(count * scaleCount);
        if (own) {
          const from = part.rows * bytes + firstRow * scaleBytes;
          await read(new Uint8Array(own.buffer), from, scaleBytes, scaleBytes, count);
        }
        const shard = { firstRow, endRow: firstRow + count, elements: resident(elements, words), scales: own && resident(own, scaleCount) }; // prettier-ignore
        shards.push(shard);
        await touch(shard);
      }
      return new TfjsRows(device, part.rows, format, shards, decoder, traffic, computes);
    } catch (error) {
      decoder?.dispose();
      for (const shard of shards) disposeShard(shard);
      throw failure(device, 'rows could not be loaded', error);
    } finally {
      store.close();
    }
  }

  /** @param rows `[u] i32`, ascending, at least one @returns `[u, D]`; to be called in `tf.tidy` */
  values(rows: Int32Array): Tensor2D {
    this.#checkOpen();
    const { elements, scales } = this.#gather(rows);
    return this.#decoder.decode(elements, scales);
  }

  /** All rows, `[V, D]`, where they are one tensor of f32; null elsewhere. */
  get whole(): Tensor2D | null {
    this.#checkOpen();
    const [shard, ...others] = this.#shards;
    return this.dtype === 'f32' && others.length === 0 ? shard!.elements : null;
  }

  async fetch(rows: Int32Array, out: Uint8Array): Promise<void> {
    this.#checkOpen();
    if (rows.length === 0) return;
    const width = rowBytes(this.dtype, this.dim);
    const stride = 4 * rowWords(this);
    // Not in `tf.tidy`, which does not wait.
    const gathered = tf.tidy(() => {
      const { elements, scales } = this.#gather(rows);
      return scales ? [elements, scales] : [elements];
    });
    try {
      const [elements, scales] = await Promise.all(gathered.map((tensor) => this.#traffic.download(tensor)));
      const bytes = bytesOf(elements!);
      if (width === stride) out.set(bytes);
      else for (let i = 0; i < rows.length; i++) out.set(bytes.subarray(i * stride, i * stride + width), i * width);
      if (scales) out.set(bytesOf(scales), rows.length * width);
    } catch (error) {
      throw failure(this.#device, 'rows could not be read', error);
    } finally {
      for (const tensor of gathered) tensor.dispose();
    }
  }

  /** To be called in `tf.tidy`. */
  #gather(rows: Int32Array): { readonly elements: Tensor2D; readonly scales: Tensor2D | null } {
    const elements: Tensor2D[] = [];
    const scales: Tensor2D[] = [];
    for (const shard of this.#shards) {
      const begin = lowerBound(rows, shard.firstRow);
      const end = lowerBound(rows, shard.endRow);
      if (begin === end) continue;
      const index = this.#traffic.ints(rows.slice(begin, end).map((row) => row - shard.firstRow));
      elements.push(tf.gather(shard.elements, index));
      if (shard.scales) scales.push(tf.gather(shard.scales, index));
    }
    const whole = (parts: Tensor2D[]): Tensor2D => (parts.length === 1 ? parts[0]! : tf.concat(parts, 0));
    return { elements: whole(elements), scales: scales.length > 0 ? whole(scales) : null };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#decoder.dispose();
    for (const shard of this.#shards) disposeShard(shard);
  }

  #checkOpen(): void {
    if (!this.#closed) return;
    throw new FinetableError('CLOSED', `device "${this.#device}": the rows are closed`, { device: this.#device });
  }
}

function resident(values: Int32Array | Float32Array, cols: number): Tensor2D {
  const dtype = values instanceof Int32Array ? 'int32' : 'float32';
  return tf.keep(tf.tensor2d(values, [values.length / cols, cols], dtype));
}

/** Backends may copy a tensor to the device only when it is first read: whether there is room shows then. */
async function touch({ elements, scales }: Shard): Promise<void> {
  for (const tensor of [elements, scales]) {
    if (!tensor) continue;
    const row = tf.gather(tensor, [0]);
    await row.data();
    row.dispose();
  }
}

function disposeShard({ elements, scales }: Shard): void {
  elements.dispose();
  scales?.dispose();
}

const bytesOf = (values: ArrayBufferView): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
