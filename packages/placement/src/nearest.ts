/** Exact nearest rows of a table, adapted or not: what is asked for checked, and the answer as arrays. */
import { FinetableError, matrix, type Matrix } from '@finetable/core';
import type { TouchedRows } from '@finetable/kernels';
import type { ShardedTable } from './table.ts';

/** `dot`: q·e. `cosine`: q·e / (|q| |e|), 0 where either is zero. */
export type Metric = 'dot' | 'cosine';

/** How rows are compared. */
export interface NearestOptions {
  /** Default `cosine`. */
  readonly metric?: Metric | undefined;
  /** `[q] i32`: a row that is not a result of each query, such as the one it was made from; -1 for none. */
  readonly exclude?: Int32Array | undefined;
}

/** The rows that were found. */
export interface Nearest {
  /** `[q, k] i32`: per query the rows of the highest scores, highest first; equal scores by ascending row, NaN last. */
  readonly rows: Int32Array;
  /** `[q, k]`. */
  readonly scores: Matrix;
}

/**
 * The `k` rows with the highest scores for each of `queries` `[q, D] f32`, exactly, over the whole table with `delta` where there is one. The result is the caller's.
 * @throws UNSUPPORTED for rows on devices
 */
export async function nearestRows(
  table: ShardedTable,
  queries: Matrix,
  k: number,
  { metric = 'cosine', exclude }: NearestOptions,
  delta: TouchedRows | null,
): Promise<Nearest> {
  const { name, kernels } = table;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${name}: ${message}`, { table: name });
  };
  if (queries.cols !== table.dim) {
    throw new FinetableError('MISMATCH', `${name}: queries of ${queries.cols} dims; the table has ${table.dim}`, {
      table: name,
    });
  }
  const device = delta ? null : table.deviceOfAll;
  if (table.needsFetch && !device?.nearest) {
    const what = delta
      ? 'rows on devices cannot be searched with an adapter'
      : 'these rows on devices cannot be searched';
    throw new FinetableError('UNSUPPORTED', `${name}: ${what}; open the table without`, { table: name });
  }
  if (metric !== 'dot' && metric !== 'cosine') refuse(`metric must be dot or cosine, found ${String(metric)}`);
  const most = table.rows - (exclude ? 1 : 0);
  if (!Number.isSafeInteger(k) || k < 1 || k > most) refuse(`k ${k}; allowed: 1 to ${most}, the rows to choose from`);
  if (exclude && exclude.length !== queries.rows)
    refuse(`exclude has ${exclude.length} rows; needed: one for each of ${queries.rows} queries`);
  const bad = kernels.firstNonFinite(queries.data);
  if (bad >= 0) {
    const [query, dim] = [Math.floor(bad / queries.cols), bad % queries.cols];
    throw new FinetableError('NON_FINITE', `${name}: query ${query} holds ${queries.data[bad]} at dim ${dim}`, {
      table: name,
      query,
      dim,
    });
  }
  const asked = exclude ? k + 1 : k;
  const rows = new Int32Array(queries.rows * asked);
  const scores = matrix(queries.rows, asked);
  if (device?.nearest) await device.nearest({ queries, metric, rows, scores });
  else await kernels.nearest({ base: table.shards, tableRows: table.rows, queries, metric, delta, rows, scores });
  return exclude ? without(exclude, { rows, scores }) : { rows, scores };
}

/** One result less for each query: the row it excludes, or the last. */
function without(exclude: Int32Array, { rows, scores }: Nearest): Nearest {
  const asked = scores.cols;
  const kept: Nearest = {
    rows: new Int32Array(rows.length - exclude.length),
    scores: matrix(exclude.length, asked - 1),
  };
  let to = 0;
  exclude.forEach((row, query) => {
    const first = query * asked;
    const found = rows.subarray(first, first + asked).indexOf(row);
    const dropped = first + (found < 0 ? asked - 1 : found);
    for (let i = first; i < first + asked; i++) {
      if (i === dropped) continue;
      kept.rows[to] = rows[i]!;
      kept.scores.data[to++] = scores.data[i]!;
    }
  });
  return kept;
}
