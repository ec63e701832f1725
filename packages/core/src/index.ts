/**
 * The words that every Finetable package shares: jagged ids, lookup plans, matrices, element types, errors, random
 * numbers and byte sizes. No dependencies.
 *
 * @example
 * ```ts
 * const plan = makePlan(jagged([[5, 7], [5]]), 10, { pooling: 'mean' });
 * plan.uniqueRows; // Int32Array [5, 7]
 * ```
 * @module
 */
export {
  errorCodes,
  FinetableError,
  fromPlainError,
  isFinetableError,
  toPlainError,
  type ErrorCode,
  type ErrorDetails,
  type PlainError,
} from './errors.ts';
export { alone, type Collective } from './collective.ts';
export { checkOptionNames, type OptionNames } from './option-names.ts';
export { formatBytes, parseBytes } from './bytes.ts';
export {
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  rowBytes,
  rowDtypes,
  rowScales,
  storedRowBytes,
  tensorDtypeBytes,
  type RowDtype,
  type RowFormat,
  type TensorDtype,
} from './dtype.ts';
export { matrix, rowsOf, Scratch, type Matrix } from './matrix.ts';
export { HeUniformRows } from './he-uniform.ts';
export { permutation, philox, RandomStream } from './random.ts';
export { lowerBound, range, upperBound } from './range.ts';
export { checkJagged, jagged, type Jagged } from './jagged.ts';
export {
  makePlan,
  makeSharedPlan,
  planBags,
  planBuffers,
  planPlaces,
  poolings,
  type LookupPlan,
  type PlanMemory,
  type PlanOptions,
  type Pooling,
} from './plan.ts';
