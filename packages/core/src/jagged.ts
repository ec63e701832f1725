/** Jagged ids: bags of different lengths in flat arrays, as TorchRec's KeyedJaggedTensor and FBGEMM have them. */
import { FinetableError } from './errors.ts';

/**
 * `b` bags over `n` places. Bag `i` holds places `offsets[i] .. offsets[i + 1]`.
 *
 * Two bags, ids 5 and 7 in the first and 5 in the second:
 * `{ values: [5, 7, 5], offsets: [0, 2, 3] }`. An unpooled sequence is bags of one: `offsets: [0, 1, 2, 3]`.
 */
export interface Jagged {
  /** `[n] i32` row ids. */
  readonly values: Int32Array;
  /** `[b + 1] i32`, ascending from 0 to n. */
  readonly offsets: Int32Array;
  /** `[n] f32`, one weight per place; absent means 1. */
  readonly weights?: Float32Array | undefined;
}

/**
 * Checks types, lengths and offsets. Ids are checked against a table when a plan is made.
 * @throws INVALID_ARGUMENT
 */
export function checkJagged(ids: Jagged, where: string): void {
  const { values, offsets, weights } = ids;
  const n = values.length;
  const fail = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${where}: ${message}`);
  };
  checkType(values, 'Int32Array', `${where}: values`);
  checkType(offsets, 'Int32Array', `${where}: offsets`);
  if (weights) checkType(weights, 'Float32Array', `${where}: weights`);
  if (offsets.length === 0) fail('offsets are empty; [0] describes no bags');
  if (offsets[0] !== 0) fail(`offsets start at ${offsets[0]}, must start at 0`);
  for (let i = 1; i < offsets.length; i++) {
    if (offsets[i]! < offsets[i - 1]!)
      fail(`offsets[${i}] is ${offsets[i]}, below offsets[${i - 1}] = ${offsets[i - 1]}`);
  }
  if (offsets[offsets.length - 1] !== n)
    fail(`offsets end at ${offsets[offsets.length - 1]}, must end at the number of ids, ${n}`);
  if (weights && weights.length !== n) fail(`${weights.length} weights for ${n} ids`);
}

/** By tag, not by `instanceof`, which refuses arrays from another realm (a `vm` context, as test runners use). */
function checkType(array: Int32Array | Float32Array, tag: 'Int32Array' | 'Float32Array', what: string): void {
  if (array[Symbol.toStringTag] !== tag) throw new FinetableError('INVALID_ARGUMENT', `${what} must be of type ${tag}`);
}

/**
 * Each list one bag. `jagged([[5, 7], [5]])` is the example above. `weights` has the same shape as `bags`.
 * @throws INVALID_ARGUMENT for ids that are not integers or weights of another shape; ID_OUT_OF_RANGE for ids outside i32
 */
export function jagged(bags: readonly (readonly number[])[], weights?: readonly (readonly number[])[]): Jagged {
  const offsets = new Int32Array(bags.length + 1);
  bags.forEach((bag, i) => (offsets[i + 1] = offsets[i]! + bag.length));
  const values = new Int32Array(offsets[bags.length]!);
  bags.forEach((bag, i) => {
    bag.forEach((id, j) => {
      if (!Number.isInteger(id)) {
        throw new FinetableError('INVALID_ARGUMENT', `bag ${i}, place ${j}: id ${id} is not an integer`);
      }
      // An id beyond i32 would wrap, perhaps into a valid one.
      values[offsets[i]! + j] = id > 0x7fffffff || id < 0 ? outOfRange(i, j, id) : id;
    });
  });
  if (!weights) return { values, offsets };
  if (weights.length !== bags.length) {
    throw new FinetableError('INVALID_ARGUMENT', `weights for ${weights.length} bags, found ${bags.length} bags`);
  }
  bags.forEach((bag, i) => {
    if (weights[i]!.length !== bag.length) {
      throw new FinetableError('INVALID_ARGUMENT', `bag ${i}: ${weights[i]!.length} weights for ${bag.length} ids`);
    }
  });
  return { values, offsets, weights: Float32Array.from(weights.flat()) };
}

function outOfRange(bag: number, place: number, id: number): never {
  throw new FinetableError('ID_OUT_OF_RANGE', `bag ${bag}, place ${place}: id ${id}; allowed: 0 to 2147483647`, {
    bag,
    place,
    id,
  });
}
