/**
 * Lookup, delta, gradient and optimiser kernels behind one interface.
 *
 * @example
 * ```ts
 * const kernels = loadKernels();
 * const store = kernels.createRows(3, 2, 'f32');
 * kernels.scatterRows(store, Int32Array.of(0, 1, 2), matrix(3, 2, Float32Array.of(1, 2, 3, 4, 5, 6)));
 * const out = matrix(1, 2);
 * const plan = makePlan(jagged([[0, 2]]), 3);
 * kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out }); // out.data: [6, 8]
 * store.close();
 * ```
 * @module
 */
export { kernelsStatus, loadKernels, type KernelsStatus, type LoadOptions } from './load.ts';
export { loadBuilt, type Built } from './native/built.ts';
export { stateColumns, type RuleForm } from './form.ts';
export { SkippedSteps } from './skipped.ts';
export type {
  BagDotsArgs,
  BagDotsBackwardArgs,
  CrossEntropyArgs,
  ChosenDelta,
  ChosenDeltas,
  Delta,
  FileRows,
  Kernels,
  LookupArgs,
  LookupDelta,
  MatmulArgs,
  NearestArgs,
  Overlay,
  PairDotsArgs,
  PairDotsBackwardArgs,
  ReplayRowsArgs,
  RowProducts,
  RuleBase,
  RowStore,
  ScalesLocation,
  SegmentSumArgs,
  Shard,
  SlotTable,
  StoreDtype,
  TablePart,
  TouchedRows,
  UpdatableRows,
  UpdateDenseArgs,
  UpdatedProducts,
  UpdateRowsArgs,
  UpdateRule,
} from './kernels.ts';
