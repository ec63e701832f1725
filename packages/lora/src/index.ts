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
export {
  Adapter,
  createAdapter,
  type AdapterGradients,
  type AdapterOptions,
  type AdapterRates,
  type DenseOptions,
  type LoraOptions,
} from './adapter.ts';
export { adapterTensors, loadAdapters, saveAdapters, type SaveAdaptersOptions } from './files.ts';
export { loadAdapterState, saveAdapterState } from './state.ts';
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
  type OptimizerOverrides,
  type OptimizerSpec,
  type StateDtype,
} from './optimizer.ts';
export { scheduleFactor, scheduleTypes, type Schedule } from './schedule.ts';
export { SlotMap } from './slots.ts';
