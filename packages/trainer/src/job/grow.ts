/** Rows that a job adds to its tables. */
import { resolve } from 'node:path';
import { FinetableError, matrix } from '@finetable/core';
import { readNpyF32, readNpyHeader } from '@finetable/formats';
import { growTable, type ShardedTable } from '@finetable/placement';
import type { Job } from './schema.ts';

type Grow = NonNullable<Job['tables'][string]['grow']>;

/** How many rows. @throws INVALID_FILE for vectors in another shape; what `readNpyHeader` throws */
export async function grownRows(grow: Grow | undefined, folder: string): Promise<number> {
  if (!grow) return 0;
  if ('meanOf' in grow) return grow.meanOf.length;
  if ('count' in grow) return grow.count;
  return (await vectorsShape(resolve(folder, grow.vectors)))[0];
}

/** The table with the rows of its job; it is closed in favour of that, also where this fails. */
export async function growByJob(table: ShardedTable, grow: Grow, folder: string): Promise<ShardedTable> {
  try {
    if (!('vectors' in grow)) return await growTable(table, grow);
    const path = resolve(folder, grow.vectors);
    const [rows, dim] = await vectorsShape(path);
    return await growTable(table, { vectors: matrix(rows, dim, await readNpyF32(path)) });
  } finally {
    table.close();
  }
}

async function vectorsShape(path: string): Promise<readonly [rows: number, dim: number]> {
  const { shape } = await readNpyHeader(path);
  const [rows, dim] = shape;
  if (shape.length === 2 && rows !== undefined && dim !== undefined) return [rows, dim];
  throw new FinetableError('INVALID_FILE', `${path} has shape [${shape.join(', ')}]; new rows are [rows, dims]`, {
    file: path,
  });
}
