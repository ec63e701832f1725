/** Streams of a table's bytes: cut at whole values, in another element type, ended by a signal. */
import { f16ToF32, f32ToF16, FinetableError } from '@finetable/core';

/** The chunks, until the signal is aborted. @throws INTERRUPTED, at which atomic writers leave nothing */
export async function* untilAborted<T>(chunks: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  for await (const chunk of chunks) {
    if (signal.aborted) throw new FinetableError('INTERRUPTED', 'interrupted; nothing was written');
    yield chunk;
  }
}

/** Cut anew, so that none ends inside a value, and each with memory of its own, from which typed arrays can be made. */
export async function* wholeValues(
  chunks: AsyncIterable<Uint8Array>,
  valueBytes: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let rest = new Uint8Array(0);
  for await (const chunk of chunks) {
    const bytes = new Uint8Array(rest.length + chunk.length);
    bytes.set(rest);
    bytes.set(chunk, rest.length);
    const whole = bytes.length - (bytes.length % valueBytes);
    rest = bytes.slice(whole);
    if (whole > 0) yield bytes.subarray(0, whole);
  }
}

export async function* widened(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const { buffer, length } of wholeValues(chunks, 2)) {
    const half = new Uint16Array(buffer, 0, length / 2);
    const values = new Float32Array(half.length);
    for (let i = 0; i < half.length; i++) values[i] = f16ToF32(half[i]!);
    yield new Uint8Array(values.buffer);
  }
}

/** @param cols values in a row, for the message @throws NON_FINITE for a number that f16 does not hold */
export async function* narrowed(
  chunks: AsyncIterable<Uint8Array>,
  cols: number,
  path: string,
): AsyncGenerator<Uint8Array> {
  let done = 0;
  for await (const { buffer, length } of wholeValues(chunks, 4)) {
    const values = new Float32Array(buffer, 0, length / 4);
    yield new Uint8Array(toHalf(values, (i) => `${path}: row ${Math.floor((done + i) / cols)}`).buffer);
    done += values.length;
  }
}

/** @param where what an error calls the place of value i @throws NON_FINITE for a number that f16 does not hold */
export function toHalf(values: Float32Array, where: (i: number) => string): Uint16Array<ArrayBuffer> {
  const half = new Uint16Array(values.length);
  for (let i = 0; i < half.length; i++) {
    half[i] = f32ToF16(values[i]!);
    if ((half[i]! & 0x7fff) === 0x7c00 && Number.isFinite(values[i])) {
      throw new FinetableError(
        'NON_FINITE',
        `${where(i)}: ${values[i]} does not fit f16; allowed: up to 65504. Keep f32`,
      );
    }
  }
  return half;
}
