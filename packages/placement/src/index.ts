/**
 * Where the rows of a frozen table live, and where they should: `planPlacement`.
 *
 * @example
 * ```ts
 * const words = await openTable('vectors.safetensors', { placement: [{ home: 'ram', rows: 100_000 }, { home: 'mapped' }] });
 * words.rows; // V
 * words.close();
 * ```
 * @module
 */
export { createTable, openTable, type OpenTableOptions } from './open.ts';
export { growTable, type GrowSpec, type SampledInit } from './grow.ts';
export type { FileWatch } from './watch.ts';
export type { FetchedRows } from './fetched.ts';
export { ShardedTable, type TableExtras } from './table.ts';
export type {
  Device,
  DeviceDelta,
  DeviceGradients,
  DeviceLookup,
  DeviceMatrix,
  DevicePackage,
  DeviceRows,
  DeviceSearch,
  OfferedDevice,
} from './device.ts';
export type { DevicePart, Home, OpenPart, ShardSpec } from './parts.ts';
export type { CacheOptions, CacheStatistics, HotRowCache } from './cache.ts';
export { nearestRows, type Metric, type Nearest, type NearestOptions } from './nearest.ts';
export { findRows, type TableOrigin } from './source.ts';
export { StoredRows } from './stored.ts';
export { planPlacement } from './planner/plan.ts';
export { systemMemory, type SystemMemory } from './planner/system-memory.ts';
export type {
  AdapterRequest,
  Bandwidths,
  DeviceKind,
  DeviceRequest,
  DeviceTotal,
  Frequencies,
  PlacementPlan,
  PlannedCache,
  PlannedShard,
  PlannedTable,
  PlanRequest,
  TableRequest,
} from './planner/types.ts';
