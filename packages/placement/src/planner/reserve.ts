/** Working memory of a training job in RAM: what it takes beside the tables, part by part. Nothing here grows with V. */
import { stateColumns } from '@finetable/kernels';
import { expectedRows } from './frequencies.ts';
import { processBytes, workerBytes, type AdapterRequest, type PlanRequest, type TableRequest } from './types.ts';

export const rankOf = ({ kind, rank }: AdapterRequest, { dim }: TableRequest): number =>
  kind === 'dense' ? dim : (rank ?? 0);

/** Rows that the table's adapter is expected to hold. */
export function touchedRows(table: TableRequest): number {
  const { adapter, rows } = table;
  if (!adapter) return 0;
  if (adapter.touchedRows !== undefined) return Math.min(rows, adapter.touchedRows);
  return adapter.trainingIds === undefined ? rows : Math.ceil(expectedRows(table, adapter.trainingIds));
}

/** Of an adapter with `touched` rows: A, B and the slot map; and the optimiser's state of both. */
export function adapterBytes(table: TableRequest, touched: number): { adapter: number; optimizer: number } {
  const { adapter, dim } = table;
  if (!adapter) return { adapter: 0, optimizer: 0 };
  const rank = rankOf(adapter, table);
  const bValues = adapter.kind === 'dense' ? 0 : rank * dim;
  // A hash table of 8 bytes an entry, a power of two of them, at most 0.7 full; and the rows of the slots, growing by a quarter.
  let entries = 1024;
  while (touched > entries * 0.7) entries *= 2;
  const slots = 8 * entries + 4 * Math.max(512, Math.ceil(1.25 * touched));
  const state = (values: number): number => stateColumns(adapter.rule, values).reduce((sum, n) => sum + n, 0);
  const lastSteps = adapter.mode === 'exact' ? 1 : 0;
  return {
    adapter: 4 * (touched * rank + bValues) + slots,
    optimizer:
      touched * ((adapter.stateBytes ?? 4) * state(rank) + 4 * lastSteps) + (bValues > 0 ? 4 * state(bValues) : 0),
  };
}

/** The result is written from a copy: A with its rows and their slots, and B. */
export function writtenBytes(table: TableRequest, touched: number): number {
  const { adapter, dim } = table;
  if (!adapter) return 0;
  const rank = rankOf(adapter, table);
  return 4 * (touched * (rank + 2) + (adapter.kind === 'dense' ? 0 : rank * dim));
}

/** Arrays of a lookup plan with weights, lines and one label: 20 bytes a place, 8 a unique row, 16 a bag. */
export const batchBytes = (lookups: number, uniqueRows: number, bags: number): number =>
  20 * lookups + 8 * uniqueRows + 16 * bags + 8;

/** Vectors of this batch and the next, `[bags, D]`, the gradients of this one, and of an adapter the r-wide ones and the rows' gradients. */
export function matrixBytes(table: TableRequest, uniqueRows: number): number {
  const { adapter, bags, dim } = table;
  if (!adapter) return 4 * 2 * bags * dim;
  const rank = rankOf(adapter, table);
  const factored = adapter.kind === 'dense' ? 0 : 2 * bags * rank + rank * dim;
  return 4 * (3 * bags * dim + uniqueRows * (rank + 1) + factored);
}

/** @param uniqueRows expected in a batch, by table */
export function reservedBytes(request: PlanRequest, uniqueRows: readonly number[]): Record<string, number> {
  const { tables, workers = 0, prefetchBatches = 1, prefetchBytes = Infinity, taskBatches = 1 } = request;
  const reserved = {
    process: processBytes,
    'loader threads': workers * workerBytes,
    'batches in flight': 0,
    'batch matrices': 0,
    adapters: 0,
    'optimiser state': 0,
    'adapters as they are written': 0,
  };
  const threads = Math.max(1, workers);
  let batch = 0;
  tables.forEach((table, i) => {
    const lookups = table.bags * table.idsPerBag;
    const unique = Math.ceil(uniqueRows[i]!);
    batch += batchBytes(lookups, unique, table.bags);
    // Whoever makes a plan sorts (row, place) twice over.
    reserved['batches in flight'] += threads * 16 * lookups;
    reserved['batch matrices'] += matrixBytes(table, unique);
    const { adapter, optimizer } = adapterBytes(table, touchedRows(table));
    reserved.adapters += adapter;
    reserved['adapters as they are written'] += writtenBytes(table, touchedRows(table));
    reserved['optimiser state'] += optimizer;
  });
  const first = Math.min(prefetchBatches, threads * taskBatches) * batch;
  const ahead = Math.max(first, Math.min(prefetchBatches * batch, prefetchBytes));
  // Beyond those made ahead, one is being trained on and one pooled.
  reserved['batches in flight'] = Math.ceil(reserved['batches in flight'] + ahead + 2 * batch);
  return { ...reserved, ...request.otherBytes };
}
