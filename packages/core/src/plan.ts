/**
 * The lookup plan: everything about a batch's ids that any later step needs, made once, in a loader worker. Base lookup,
 * delta, gradient sums and row optimisers all read it; nothing sorts or hashes the batch again.
 *
 * Unique rows are found with a least-significant-digit radix sort of (id, place), which is stable, so the places of a row
 * come in ascending order and every sum over them has one fixed order.
 */
import { FinetableError } from './errors.ts';
import { checkJagged, type Jagged } from './jagged.ts';
import { sortByRow } from './sort.ts';

/** How a bag's rows become one vector. All are weighted sums; the factors are folded into `LookupPlan.weights`. */
export type Pooling =
  /** Σ w x */
  | 'sum'
  /** Σ w x / Σ w; an empty bag gives zeros */
  | 'mean'
  /** Σ w x / sqrt(Σ w²) */
  | 'sqrtn';

/** How the vectors of a bag become one: their sum, their mean, or their sum over the root of their number. */
export const poolings: readonly Pooling[] = ['sum', 'mean', 'sqrtn'];

/**
 * The plan of `b` bags, `n` places and `u` unique rows of a table with `tableRows` rows.
 *
 * For bags [[5, 7], [5]]: `placeRows` [5, 7, 5], `uniqueRows` [5, 7], `placeUnique` [0, 1, 0], `groupOffsets` [0, 2, 3], `groupPlaces` [0, 2, 1],
 * `groupBags` [0, 1, 0].
 */
export interface LookupPlan {
  /** The V that every id was checked against. */
  readonly tableRows: number;
  /** `[b + 1] i32`: bag i holds places `offsets[i] .. offsets[i + 1]`. */
  readonly offsets: Int32Array;
  /** `[n] f32`, pooling folded in; null means that every weight is 1. */
  readonly weights: Float32Array | null;
  /** `[n] i32`: the row of each place, in [0, tableRows). */
  readonly placeRows: Int32Array;
  /** `[u] i32`, ascending: the rows of `placeRows`, each once. */
  readonly uniqueRows: Int32Array;
  /** `[n] i32`: `uniqueRows[placeUnique[place]]` is `placeRows[place]`. */
  readonly placeUnique: Int32Array;
  /** `[u + 1] i32`: unique row j stands at `groupPlaces[groupOffsets[j] .. groupOffsets[j + 1]]`, ascending. */
  readonly groupOffsets: Int32Array;
  /** `[n] i32`: places grouped by unique row. */
  readonly groupPlaces: Int32Array;
  /** `[n] i32`: the bag of each grouped place. */
  readonly groupBags: Int32Array;
}

/** Where a plan's arrays lie. What is in them before does not matter. */
export interface PlanMemory {
  /** `[length]` integers. */
  readonly i32: (length: number) => Int32Array;
  /** `[length]` numbers. */
  readonly f32: (length: number) => Float32Array;
}

const newMemory: PlanMemory = {
  i32: (length) => new Int32Array(length),
  f32: (length) => new Float32Array(length),
};

/** How a lookup plan pools, and what it is called in errors. */
export interface PlanOptions {
  /** Default `sum`. One for all bags. */
  readonly pooling?: Pooling;
  /** The table's name, for errors. */
  readonly table?: string;
}

/** The number of bags of a plan. */
export const planBags = (plan: LookupPlan): number => plan.offsets.length - 1;
/** The number of places of a plan: ids of all bags together. */
export const planPlaces = (plan: LookupPlan): number => plan.placeRows.length;

/**
 * Makes the plan of `ids` over a table of `tableRows` rows. The plan keeps `ids.values` and `ids.offsets`, and for `sum` also
 * `ids.weights`, as they are, without a copy: whoever changes them changes the plan, and whoever transfers
 * {@link planBuffers} gives them away too.
 * @throws ID_OUT_OF_RANGE naming bag, place, id and table; INVALID_ARGUMENT for bad offsets, non-finite weights, or a mean
 *   over weights that add up to 0
 */
export function makePlan(ids: Jagged, tableRows: number, options: PlanOptions = {}): LookupPlan {
  const table = options.table ?? 'table';
  checkJagged(ids, table);
  checkIds(ids, tableRows, table);
  const { pooling = 'sum' } = options;
  if (ids.weights) checkWeights(ids.weights, table);
  const weights = pooling === 'sum' ? (ids.weights ?? null) : new Float32Array(ids.values.length);
  if (weights && pooling !== 'sum') poolWeights(ids, pooling, table, weights);
  return planChecked(ids.values, ids.offsets, weights, tableRows, newMemory);
}

/**
 * One plan over several jagged features of one table, feature after feature: the bags of `features[0]` come first.
 * Pooling is each feature's own. Nothing of `features` is kept.
 */
export function makeSharedPlan(
  features: readonly { readonly ids: Jagged; readonly pooling: Pooling }[],
  tableRows: number,
  table: string,
  memory: PlanMemory = newMemory,
): LookupPlan {
  let bags = 0;
  let places = 0;
  for (const { ids } of features) {
    checkJagged(ids, table);
    checkIds(ids, tableRows, table);
    if (ids.weights) checkWeights(ids.weights, table);
    bags += ids.offsets.length - 1;
    places += ids.values.length;
  }
  const values = memory.i32(places);
  const offsets = memory.i32(bags + 1);
  const weights = features.some(({ ids, pooling }) => isWeighted(ids, pooling)) ? memory.f32(places) : null;
  let bag = 0;
  let place = 0;
  offsets[0] = 0;
  for (const { ids, pooling } of features) {
    const count = ids.values.length;
    values.set(ids.values, place);
    if (weights) poolWeights(ids, pooling, table, weights.subarray(place, place + count));
    for (let i = 1; i < ids.offsets.length; i++) offsets[++bag] = place + ids.offsets[i]!;
    place += count;
  }
  return planChecked(values, offsets, weights, tableRows, memory);
}

function checkIds({ values, offsets }: Jagged, tableRows: number, table: string): void {
  if (!Number.isInteger(tableRows) || tableRows < 1 || tableRows > 0x7fffffff) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${table}: ${tableRows} rows; allowed: an integer from 1 to 2147483647`,
      { table },
    );
  }
  for (let place = 0; place < values.length; place++) {
    const id = values[place]!;
    if (id < 0 || id >= tableRows) {
      let bag = 0;
      while (offsets[bag + 1]! <= place) bag++;
      throw new FinetableError(
        'ID_OUT_OF_RANGE',
        `${table}: id ${id} in bag ${bag} at place ${place - offsets[bag]!}; allowed: 0 to ${tableRows - 1}`,
        { table, id, bag, place: place - offsets[bag]!, rows: tableRows },
      );
    }
  }
}

/** Whether not every weight is 1. */
const isWeighted = ({ weights }: Jagged, pooling: Pooling): boolean => pooling !== 'sum' || weights !== undefined;

/** Writes the place weights with pooling folded in. */
function poolWeights({ offsets, weights }: Jagged, pooling: Pooling, table: string, out: Float32Array): void {
  if (pooling === 'sum') {
    if (weights) out.set(weights);
    else out.fill(1);
    return;
  }
  for (let bag = 0; bag + 1 < offsets.length; bag++) {
    const begin = offsets[bag]!;
    const end = offsets[bag + 1]!;
    let total = weights ? 0 : end - begin;
    if (weights)
      for (let place = begin; place < end; place++)
        total += pooling === 'mean' ? weights[place]! : weights[place]! ** 2;
    if (total === 0 && end > begin) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${table}: ${pooling} pooling of bag ${bag}, whose weights add up to 0`,
        { table, bag },
      );
    }
    const factor = 1 / (pooling === 'mean' ? total : Math.sqrt(total));
    if (!weights) {
      for (let place = begin; place < end; place++) out[place] = factor;
      continue;
    }
    for (let place = begin; place < end; place++) {
      out[place] = weights[place]! * factor;
      // Weights that all but cancel out can pass the largest f32.
      if (!Number.isFinite(out[place])) {
        throw new FinetableError(
          'NON_FINITE',
          `${table}: ${pooling} pooling of bag ${bag}, whose weights add up to ${total}`,
          { table, bag },
        );
      }
    }
  }
}

function checkWeights(weights: Float32Array, table: string): void {
  for (let place = 0; place < weights.length; place++) {
    if (Number.isFinite(weights[place])) continue;
    throw new FinetableError('NON_FINITE', `${table}: weight ${weights[place]} at place ${place}`, { table, place });
  }
}

function planChecked(
  placeRows: Int32Array,
  offsets: Int32Array,
  weights: Float32Array | null,
  tableRows: number,
  memory: PlanMemory,
): LookupPlan {
  const n = placeRows.length;
  const { work, pairs, free } = sortByRow(placeRows, tableRows);
  // Stays within the free half: n of its 2n numbers.
  for (let bag = 0, place = 0; bag + 1 < offsets.length; bag++) {
    for (const end = offsets[bag + 1]!; place < end; place++) work[free + place] = bag;
  }

  let unique = 0;
  for (let i = 0, last = -1; i < n; i++) {
    const row = work[pairs + 2 * i]!;
    if (row !== last) unique++;
    last = row;
  }
  const uniqueRows = memory.i32(unique);
  const groupOffsets = memory.i32(unique + 1);
  const placeUnique = memory.i32(n);
  const groupPlaces = memory.i32(n);
  const groupBags = memory.i32(n);
  for (let i = 0, u = -1, last = -1; i < n; i++) {
    const row = work[pairs + 2 * i]!;
    const place = work[pairs + 2 * i + 1]!;
    if (row !== last) {
      last = row;
      uniqueRows[++u] = row;
      groupOffsets[u] = i;
    }
    placeUnique[place] = u;
    groupPlaces[i] = place;
    groupBags[i] = work[free + place]!;
  }
  groupOffsets[unique] = n;
  return { tableRows, offsets, weights, placeRows, uniqueRows, placeUnique, groupOffsets, groupPlaces, groupBags };
}

/** The buffers of a plan, each once, to be transferred to another thread rather than copied. */
export function planBuffers(plan: LookupPlan): ArrayBuffer[] {
  const { offsets, placeRows, uniqueRows, placeUnique, groupOffsets, groupPlaces, groupBags, weights } = plan;
  const arrays = [
    offsets,
    placeRows,
    uniqueRows,
    placeUnique,
    groupOffsets,
    groupPlaces,
    groupBags,
    ...(weights ? [weights] : []),
  ];
  return [...new Set(arrays.map((array) => array.buffer as ArrayBuffer))];
}
