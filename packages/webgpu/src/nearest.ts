/** Nearest rows on a GPU: the best of every block of rows come back and are merged here. */
import type { Matrix } from '@finetable/core';
import type { DeviceSearch } from '@finetable/placement';
import { Checks } from './failure.ts';
import { groupThreads, type Gpu, type Span } from './gpu.ts';
import { padMatrix } from './matrix.ts';
import type { RowPasses } from './rows.ts';
import { nearest, queriesTogether, rankedRows } from './shaders/nearest.ts';

/** Queries, a multiple of `queriesTogether`, and bytes of results that are asked for at a time: a GPU that is kept too long is taken away. */
const queriesAtOnce = 64;
const resultBytes = 2 ** 24;

/** Of a row and its order. */
const entryBytes = 8;

/** Below this a sum of squares is that of a zero vector, as in the kernels. */
const leastSquare = 2 ** -252;

/** @param rows of the table @param check called before each part of the search; throws where it is to end */
export async function searchRows(
  gpu: Gpu,
  { layout, passes }: RowPasses,
  rows: number,
  { queries, metric, rows: out, scores }: DeviceSearch,
  check: () => void,
): Promise<void> {
  const { quads } = layout;
  const k = scores.cols;
  const kept = Math.min(k, rankedRows);
  const checks = new Checks();
  for (let first = 0; first < queries.rows; first += queriesAtOnce) {
    const count = Math.min(queriesAtOnce, queries.rows - first);
    const padded = Math.ceil(count / queriesTogether) * queriesTogether;
    const asked = padMatrix(metric === 'dot' ? part(queries, first, count) : unit(part(queries, first, count)), 1, padded); // prettier-ignore
    const mostRows = rankedRows * Math.max(1, Math.floor(resultBytes / (padded * kept * entryBytes)));
    const best = Array.from({ length: count }, () => new BigUint64Array(0));
    for (const { shards, spans } of passes) {
      const end = Math.min(rows, (shards.first + shards.count) * shards.shardRows);
      for (let row = shards.first * shards.shardRows; row < end; row += mostRows) {
        check();
        const to = Math.min(end, row + mostRows);
        const blocks = Math.ceil((to - row) / rankedRows);
        const used: Span[] = [];
        try {
          const found = gpu.watch('nearest rows', checks, () => {
            const upload = gpu.upload([
              Int32Array.of(row, to, blocks, kept, quads, rankedRows, queriesTogether),
              asked,
            ]);
            used.push(upload.whole);
            const results = gpu.take(padded * blocks * kept * entryBytes);
            used.push(results);
            const work = gpu.begin();
            const groups = blocks * (padded / queriesTogether);
            work.run(nearest(layout, shards, metric), [...upload.spans, results, ...spans], groups * groupThreads);
            work.submit();
            return results;
          });
          const size = count * blocks * kept * entryBytes;
          await gpu.download([{ ...found, size }], checks, [(bytes) => merge(best, bytes, k)]);
        } finally {
          for (const span of used) gpu.give(span);
        }
      }
    }
    best.forEach((entries, i) => write(entries, out, scores, (first + i) * k));
  }
}

const part = ({ data, cols }: Matrix, first: number, count: number): Matrix => ({
  rows: count,
  cols,
  data: data.subarray(first * cols, (first + count) * cols),
});

/** Each row divided by its length. */
function unit({ data, rows, cols }: Matrix): Matrix {
  const out = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    let square = 0;
    for (let at = row * cols; at < (row + 1) * cols; at++) square += data[at]! * data[at]!;
    const factor = square < leastSquare ? 0 : 1 / Math.sqrt(square);
    for (let at = row * cols; at < (row + 1) * cols; at++) out[at] = factor * data[at]!;
  }
  return { rows, cols, data: out };
}

/** Adds results of the shader for every query to the best so far, the best first. */
function merge(best: BigUint64Array[], bytes: Uint8Array, k: number): void {
  const each = bytes.length / best.length;
  best.forEach((entries, i) => {
    const all = new BigUint64Array(entries.length + each / entryBytes);
    all.set(entries);
    new Uint8Array(all.buffer).set(bytes.subarray(i * each, (i + 1) * each), entries.byteLength);
    best[i] = all.sort().slice(0, k);
  });
}

function write({ buffer }: BigUint64Array, rows: Int32Array, scores: Matrix, at: number): void {
  const words = new Uint32Array(buffer);
  const bits = new Uint32Array(scores.data.buffer, scores.data.byteOffset, scores.data.length);
  for (let i = 0; i < scores.cols; i++) {
    const order = words[2 * i + 1]!;
    rows[at + i] = words[2 * i]!;
    bits[at + i] = order > 0x80000000 ? order : ~order & 0x7fffffff;
  }
}
