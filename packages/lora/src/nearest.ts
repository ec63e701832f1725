/** Nearest rows of an adapted table. */
import type { Matrix } from '@finetable/core';
import { nearestRows, type Nearest, type NearestOptions } from '@finetable/placement';
import type { Adapter } from './adapter.ts';

/** @param adapter its rows at the current step */
export function nearestAdapted(
  { table, slots: map, factors, b, scale }: Adapter,
  queries: Matrix,
  k: number,
  options: NearestOptions,
): Promise<Nearest> {
  const rows = map.rows.slice().sort();
  const slots = new Int32Array(rows.length);
  map.find(rows, slots);
  return nearestRows(table, queries, k, options, rows.length > 0 ? { rows, slots, factors, b, scale } : null);
}
