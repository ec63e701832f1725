/** The nearest rows of a table whose rows are multiplied by matrices before they are compared. */
import { matrix, range, type Matrix } from '@finetable/core';
import type { Adapter } from '@finetable/lora';
import { createTable, type ShardedTable } from '@finetable/placement';

/** f32 values of rows that are made at a time: 16 MiB. */
const partValues = 2 ** 22;

interface Asked {
  /** `[q, D]`. */
  readonly vectors: Matrix;
  readonly metric: 'dot' | 'cosine';
  readonly transforms: readonly Matrix[];
}

/**
 * Rows `[q, k]`, the nearest first, exactly. With q (W M)ᵀ = (q Mᵀ) Wᵀ inner products need no transformed row; cosines, which need their
 * lengths, make all of them, some at a time.
 * @param k at most the table's rows
 */
export async function nearestTransformed(
  table: ShardedTable,
  adapter: Adapter | undefined,
  { vectors, metric, transforms }: Asked,
  k: number,
): Promise<Int32Array> {
  const { kernels, rows } = table;
  if (metric === 'dot') {
    let queries = vectors;
    for (const transform of [...transforms].reverse())
      queries = product((out) => kernels.matmul({ a: queries, b: transform, out, transposeB: true }), queries);
    return (await (adapter ?? table).nearest(queries, k, { metric })).rows;
  }
  let best = Array.from({ length: vectors.rows }, (): { row: number; score: number }[] => []);
  const most = Math.max(1, Math.floor(partValues / table.dim));
  for (let first = 0; first < rows; first += most) {
    const ids = range(Math.min(most, rows - first)).map((i) => first + i);
    let part = adapter ? adapter.vectors(ids) : await table.gatherAsync(ids);
    for (const transform of transforms) part = product((out) => kernels.matmul({ a: part, b: transform, out }), part);
    const made = createTable('transformed', part, { kernels });
    try {
      const width = Math.min(k, part.rows);
      const found = await made.nearest(vectors, width, { metric });
      best = best.map((known, i) => {
        for (let at = i * width; at < (i + 1) * width; at++)
          known.push({ row: first + found.rows[at]!, score: found.scores.data[at]! });
        // A stable sort: of equals, the row that comes first.
        return known.sort((a, b) => b.score - a.score).slice(0, k);
      });
    } finally {
      made.close();
    }
  }
  return Int32Array.from(best.flatMap((found) => found.map(({ row }) => row)));
}

function product(into: (out: Matrix) => void, { rows, cols }: Matrix): Matrix {
  const out = matrix(rows, cols);
  into(out);
  return out;
}
