/**
 * A low-rank adapter over a frozen table: forward, backward and optimiser for touched rows only.
 *
 * @example
 * ```ts
 * const adapter = createAdapter(words, { rank: 8, alpha: 16 });
 * adapter.startTraining(adamw({ learningRate: 0.001 }));
 * adapter.lookup(plan, out, true);
 * adapter.update(plan, adapter.gradients(plan, gradientOfOut));
 * await saveAdapters('adapters/intents', [adapter]);
 * ```
 * @module
 */
export { Adapter, createAdapter, gradientArrays, type AdapterGradients, type AdapterOrigin } from './adapter.ts';
export { combineAdapters, type WeightedAdapter } from './combine/adapters.ts';
export { combineLowRank, type CombineOptions, type Dropped, type Elected, type Trimmed } from './combine/combine.ts';
export { type LowRank, type WeightedDelta } from './combine/lowrank.ts';
export { type MajoritySign } from './combine/merge.ts';
export {
  adapterOf,
  adapterTensors,
  loadAdapterOf,
  loadAdapters,
  saveAdapters,
  type LoadAdaptersOptions,
  type SaveAdaptersOptions,
} from './files.ts';
export { GradientSum } from './gradient-sum.ts';
export { RowGroup, type GroupGradients, type GroupTraining, type PlanRows, type RowWatcher } from './group.ts';
export type {
  AdapterInit,
  AdapterOptions,
  AdapterRates,
  DenseOptions,
  FactorOptions,
  GroupOptions,
  LoraOptions,
  SharedOptions,
} from './options.ts';
export { createAdapters, type Pattern, type PatternOptions } from './patterns.ts';
export { RowSet, type RowRange, type RowSelection } from './row-set.ts';
export { ChangedRows } from './merge/changed-rows.ts';
export { mergeAdapter, unmergeTable, type MergedTable, type MergeOptions, type RewriteOptions } from './merge/merge.ts';
export { AdapterSnapshot, loadAdapterState, saveAdapterState } from './state.ts';
export {
  adagrad,
  adam,
  adamw,
  optimizerTypes,
  rateOf,
  rowwiseAdagrad,
  rowwiseAdam,
  ruleOf,
  sgd,
  type AdagradOptions,
  type AdamNumbers,
  type AdamOptions,
  type ChosenDecay,
  type Common as OptimizerCommon,
  type OptimizerOverrides,
  type OptimizerSpec,
  type SgdOptions,
  type StateDtype,
} from './optimizer.ts';
export { AdapterSet } from './set.ts';
export { scheduleFactor, scheduleTypes, type Common as ScheduleCommon, type Schedule } from './schedule.ts';
export { SlotMap } from './slots.ts';
