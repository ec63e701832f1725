/** The rows of a table in a file, decoded chunk by chunk; in constant memory for any table. */
import { FinetableError, matrix, range, rowBytes, rowScales, type Matrix } from '@finetable/core';
import { readChunks } from '@finetable/formats';
import type { FileRows, Kernels } from '@finetable/kernels';

/** f32 values of a chunk: 4 MiB. */
const chunkValues = 2 ** 20;

export const chunkRows = (dim: number): number => Math.max(1, Math.floor(chunkValues / dim));

/** The chunks, until the signal is aborted. @throws INTERRUPTED, at which atomic writers leave nothing */
export async function* untilAborted<T>(chunks: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  for await (const chunk of chunks) {
    if (signal.aborted) throw new FinetableError('INTERRUPTED', 'interrupted; nothing was written');
    yield chunk;
  }
}

/**
 * All rows in order, `[up to chunkRows, D]` at a time; a chunk is overwritten by the next one. The file is read, not mapped:
 * one that is cut short meanwhile is an error, and the pages read do not count as memory of this process.
 */
export async function* readRows(file: FileRows, kernels: Kernels): AsyncGenerator<Matrix> {
  const { rows, dim, dtype } = file;
  const perChunk = chunkRows(dim);
  const width = rowBytes(dtype, dim);
  const elements = readChunks(file.path, { byteOffset: file.byteOffset, byteLength: rows * width }, perChunk * width);
  if (dtype === 'f32') {
    for await (const { buffer, length } of elements) {
      yield matrix(length / width, dim, new Float32Array(buffer, 0, length / 4));
    }
    return;
  }
  const groupDims = file.scales?.groupDims ?? 0;
  const scaleBytes = 4 * rowScales({ dtype, dim, groupDims });
  const scales =
    file.scales &&
    readChunks(
      file.scales.path,
      { byteOffset: file.scales.byteOffset, byteLength: rows * scaleBytes },
      perChunk * scaleBytes,
    );
  const store = kernels.createRows(perChunk, dim, dtype, groupDims);
  const ids = range(perChunk);
  const values = matrix(perChunk, dim);
  try {
    for await (const chunk of elements) {
      const count = chunk.length / width;
      kernels.writeBytes(store, 0, chunk);
      const scaleChunk = await scales?.next();
      if (scaleChunk?.value) kernels.writeBytes(store, perChunk * width, scaleChunk.value);
      const out = matrix(count, dim, values.data.subarray(0, count * dim));
      kernels.gatherRows(store, ids.subarray(0, count), out);
      yield out;
    }
  } finally {
    store.close();
    await scales?.return();
  }
}
