/**
 * Where the rows of a frozen table live.
 *
 * @example
 * ```ts
 * const words = await openTable('vectors.safetensors', { placement: [{ home: 'ram', rows: 100_000 }, { home: 'mapped' }] });
 * words.rows; // V
 * words.close();
 * ```
 * @module
 */
export { createTable, openTable, ShardedTable, type Home, type OpenTableOptions, type ShardSpec } from './table.ts';
export { nearestRows, type Metric, type Nearest, type NearestOptions } from './nearest.ts';
export { findRows } from './source.ts';
