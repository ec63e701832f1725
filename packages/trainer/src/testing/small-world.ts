/** A table and examples so small that a test trains on them in no time: three classes, learnable only by moving rows. */
import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { matrix, RandomStream } from '@finetable/core';
import { openLoader, type DataSpec, type Loader, type LoaderOptions } from '@finetable/data';
import { createTable, type ShardedTable } from '@finetable/placement';

export const V = 60;
export const D = 5;

/** Lines of three `ids` with the same remainder by 3, which is the `class`, and a `name`. */
export async function writeExamples(file: string, count: number, seed: number): Promise<void> {
  const random = new RandomStream(seed, basename(file));
  const lines = Array.from({ length: count }, (_, i) => {
    const ids = Array.from({ length: 3 }, (_, j) => random.below(i * 3 + j, V / 3) * 3 + (i % 3));
    return JSON.stringify({ ids, class: `c${i % 3}`, name: `example-${i}` });
  });
  await writeFile(file, `${lines.join('\n')}\n`);
}

/** In batches of 8, in this thread, in the file's order. */
export function openExamples(
  file: string,
  options: Partial<LoaderOptions> = {},
  spec: Partial<DataSpec> = {},
): Promise<Loader> {
  return openLoader(
    {
      source: { file },
      features: { history: { table: 'items', column: 'ids' } },
      labels: { class: { column: 'class', classes: ['c0', 'c1', 'c2'] } },
      tables: { items: { rows: V } },
      ...spec,
    },
    { batchSize: 8, workers: 0, seed: 3, ...options },
  );
}

/** `items`, `[V, D]`: of `values`, or random. */
export function smallTable(values?: Float32Array): ShardedTable {
  const m = matrix(V, D);
  if (values) m.data.set(values);
  else new RandomStream(1, 'table').fillNormal(m.data, 0.1);
  return createTable('items', m);
}
