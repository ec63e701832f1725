/**
 * The memory of batches. The arrays of one lie side by side in one buffer, which goes from the thread that fills it to the loader's; what
 * the consumer gives back (`Loader.recycle`) goes out again with the next task. So batches that are recycled cost no fresh memory: every
 * page of that has to be zeroed, and V8 collects garbage after each 32 MiB of it, on the thread that trains.
 */
import type { PlanMemory } from '@finetable/core';
import { batchBuffers } from './assemble.ts';
import type { Batch } from './batch.ts';

/** Of one batch. Arrays come with whatever was in the memory before. */
export class BatchMemory implements PlanMemory {
  readonly #buffer: ArrayBuffer;
  #at = 0;

  constructor(buffer: ArrayBuffer) {
    this.#buffer = buffer;
  }

  /** Bytes asked for: more than there were where arrays lie elsewhere. */
  get sizeBytes(): number {
    return this.#at;
  }

  readonly i32 = (length: number): Int32Array<ArrayBuffer> => this.#take(Int32Array, length);
  readonly f32 = (length: number): Float32Array<ArrayBuffer> => this.#take(Float32Array, length);

  copy(values: Int32Array): Int32Array<ArrayBuffer>;
  copy(values: Uint32Array): Uint32Array<ArrayBuffer>;
  copy(values: Float32Array): Float32Array<ArrayBuffer>;
  copy(values: Float64Array): Float64Array<ArrayBuffer>;
  copy(values: Int32Array | Uint32Array | Float32Array | Float64Array): typeof values {
    const copied = this.#take(values.constructor as TypedArray<typeof values>, values.length);
    copied.set(values);
    return copied;
  }

  #take<T>(type: TypedArray<T>, length: number): T {
    const [at, bytes] = [this.#at, length * type.BYTES_PER_ELEMENT];
    // Each begins where an f64 may.
    this.#at += Math.ceil(bytes / 8) * 8;
    return at + bytes <= this.#buffer.byteLength
      ? new type(this.#buffer, at, length)
      : new type(new ArrayBuffer(bytes), 0, length);
  }
}

interface TypedArray<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer, byteOffset: number, length: number): T;
}

/** Memory for the batches that a thread makes: what it is sent, else new. */
export class MemorySource {
  #spare: ArrayBuffer[] = [];
  /** About what a batch takes. */
  #batchBytes = 0;

  /** For the batches of a task; what was left over from the last one is let go. */
  add(buffers: readonly ArrayBuffer[]): void {
    this.#spare = [...buffers];
  }

  next(): BatchMemory {
    for (let buffer = this.#spare.pop(); buffer; buffer = this.#spare.pop())
      if (buffer.byteLength >= this.#batchBytes) return new BatchMemory(buffer);
    return new BatchMemory(new ArrayBuffer(Math.ceil(1.125 * this.#batchBytes)));
  }

  /** Of a batch that is made: the next ones take about as much, or as those before. */
  took({ sizeBytes }: BatchMemory): void {
    this.#batchBytes = Math.max(sizeBytes, Math.floor(0.9 * this.#batchBytes));
  }
}

/** Buffers that consumers gave back. */
export class SpareMemory {
  readonly #most: number;
  /** A set: what is given back twice is there once. */
  readonly #buffers = new Set<ArrayBuffer>();

  /** @param most that are kept */
  constructor(most: number) {
    this.#most = most;
  }

  add(batch: Batch): void {
    for (const buffer of batchBuffers(batch)) if (this.#buffers.size < this.#most) this.#buffers.add(buffer);
  }

  /** Up to `count` of them, to be transferred. */
  take(count: number): ArrayBuffer[] {
    const taken: ArrayBuffer[] = [];
    for (const buffer of this.#buffers) {
      if (taken.length === count) break;
      this.#buffers.delete(buffer);
      // Whoever had it may have given it away.
      if (buffer.byteLength > 0) taken.push(buffer);
    }
    return taken;
  }
}
