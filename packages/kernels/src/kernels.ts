/**
 * The one interface between Finetable and its arithmetic, with two implementations: `portable/` (TypeScript: short, the
 * definition of right) and `native/` (C++: fast). Everything above works with either and gets the same results within
 * rounding; each implementation alone gives the same bytes for any number of threads.
 *
 * Dimension letters: V rows of a table, D its dims, r rank, n places, u unique rows, b bags.
 *
 * Callers own every typed array; a kernel keeps none after it returns. Outputs are overwritten unless said otherwise.
 * Every call checks lengths, ranges and dtypes first and throws INVALID_ARGUMENT naming the argument (ID_OUT_OF_RANGE for a
 * row, CLOSED for a closed store); nothing is written then.
 */
import type { LookupPlan, Matrix, RowDtype } from '@finetable/core';
import type { SkippedSteps } from './skipped.ts';

/** What rows of a store hold: base dtypes, or `i32` for step counts beside factor rows. */
export type StoreDtype = RowDtype | 'i32';

/**
 * Rows in memory that JavaScript never sees as a typed array (Node 20 caps those at 4 GiB). Zero-filled when made;
 * memory is committed as rows are first written, so a store with room for every row of a huge table costs what is used.
 */
export interface RowStore {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: StoreDtype;
  /** As in `RowFormat`: columns that share a scale, 0 without scales. */
  readonly groupDims: number;
  /**
   * `ram`: ours to write. `mapped`: a read-only view of a file, shared with every reader of it. Such a file must not become
   * shorter while it is open: native code that reads past its new end is ended by the system (SIGBUS).
   */
  readonly home: 'ram' | 'mapped';
  /** Elements and scales in bytes; for `ram` an upper bound of what is committed. */
  readonly sizeBytes: number;
  readonly closed: boolean;
  /** Frees the rows. Safe to call twice; any later use throws CLOSED. */
  close(): void;
}

/** Where a table lies in a file: its elements, contiguous and row-major, as `RowFormat` has them. */
export interface FileRows {
  readonly path: string;
  readonly byteOffset: number;
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  /** For `int8` and `int4`: where `[rows, ceil(dim / groupDims)]` f32 scales lie. */
  readonly scales?: ScalesLocation | null;
}

/** Where the scales of quantised rows are in a file. */
export interface ScalesLocation {
  readonly path: string;
  readonly byteOffset: number;
  readonly groupDims: number;
}

/**
 * Rows `[firstRow, firstRow + rows)` and columns `[firstColumn, firstColumn + columns)` of a table. Columns of `int8` and
 * `int4` begin on a group of theirs or lie within one, and `int4` columns begin on an even one.
 */
export interface TablePart {
  readonly firstRow: number;
  readonly rows: number;
  readonly firstColumn: number;
  readonly columns: number;
}

/**
 * Part of a table in one store: element `[i, j]` of the store is element `[firstRow + i, firstColumn + j]` of the table.
 * Shards of one table share dtype, and those of one `firstColumn` have the same columns.
 */
export interface Shard {
  readonly store: RowStore;
  readonly firstRow: number;
  /** Default 0. */
  readonly firstColumn?: number;
}

/** Copies of rows that stand in for those of the shards: hot rows kept in RAM, rows fetched from a device. */
export interface Overlay {
  /** Whole rows, of the table's dtype and groups. */
  readonly rows: RowStore;
  /** `[u] i32`: the copy of each unique row of the plan, -1 where it is read from its shard. */
  readonly slots: Int32Array;
}

/**
 * A hash table from rows to slots: open addressing with linear probing from the row's Fibonacci hash. `[2 c] i32`, c a power
 * of two: the row at `2 i`, -1 where the entry is empty, and its slot at `2 i + 1`, so that both are on one cache line.
 */
export type SlotTable = Int32Array;

/** The trainable part of a lookup: touched rows of A in slots, and B. */
export interface Delta {
  /** A: `[capacity, r] f32`, one row per slot. With `b` null, `[capacity, D]`. */
  readonly factors: RowStore;
  /** `[u] i32`: the slot of each unique row of the plan, -1 where the row was never touched (A = 0). */
  readonly slots: Int32Array;
  /** B: `[r, D]`, r up to 4096; null means the identity (a `dense` group, r = D). */
  readonly b: Matrix | null;
  /** s: alpha / r or alpha / sqrt(r). */
  readonly scale: number;
}

/** What a lookup adds to the base rows, and what DoRA needs of them and does to the sum. */
export interface LookupDelta extends Delta {
  /** `[b, D]`, overwritten: `out` as it was before the delta, in a lookup the pooled base rows. */
  readonly pooledBase?: Matrix | null;
  /** `[D]`: what every dim of `out` is multiplied by last, also in bags without touched rows; null: nothing. */
  readonly columns?: Float32Array | null;
}

/** A delta that finds the slots of its rows itself; the entries of its table are slots of `factors`. */
export interface ChosenDelta extends Omit<Delta, 'slots'> {
  readonly slots: SlotTable;
}

/** Rows of A that changed, beside the rows of the base that they belong to. */
export interface RowProducts {
  /** A table's rows, or those of a batch. */
  readonly base: RowStore | Matrix;
  /** `[n] i32`: of the base. */
  readonly rows: Int32Array;
  /** A as it is now, `[capacity, r] f32`. */
  readonly factors: RowStore;
  /** `[n] i32`: where it is, each once (which is not checked: slots of one plan are); -1 is passed over. */
  readonly slots: Int32Array;
  /** A as it was when it was last counted, shaped as `factors`; gets A as it is now. Null: zeros. */
  readonly counted: RowStore | null;
  /** `[r, D] f64`, added to: Σ dᵀ W, d being how a row of A differs. */
  readonly cross: Float64Array;
  /** `[r, r] f64`, added to: Σ AᵀA as it is less what it was. */
  readonly gram: Float64Array;
}

/** Deltas of which each bag has one at most: a batch for many adapters. */
export interface ChosenDeltas {
  readonly plan: LookupPlan;
  readonly deltas: readonly ChosenDelta[];
  /** `[b] i32`: which of `deltas` the bag has, -1 for none. */
  readonly bagDeltas: Int32Array;
  /** `[b, D]`, added to. */
  readonly out: Matrix;
}

/** A lookup of the bags of a plan in a table's shards, with a delta or without. */
export interface LookupArgs {
  /**
   * Ascending by `firstColumn`, then by `firstRow`. Each column group covers rows `[0, plan.tableRows)` without gaps, unless
   * the overlay has a copy of every row of the plan that no shard holds; then there may be gaps, or no shards.
   */
  readonly base: readonly Shard[];
  readonly overlay?: Overlay | null;
  readonly plan: LookupPlan;
  readonly delta?: LookupDelta | null;
  /** `[b, D]`, overwritten: E = Σ w W[id] + s Ā B, times `columns`. An empty bag gives zeros. */
  readonly out: Matrix;
  /** `[b, r]`, overwritten: Ā = Σ w A[id], kept for the gradient of B. Requires `delta` with a `b`. */
  readonly pooledFactors?: Matrix | null;
}

/** A search for the rows with the highest scores. */
export interface NearestArgs {
  /** As for `lookup`, covering `[0, tableRows)`. */
  readonly base: readonly Shard[];
  readonly tableRows: number;
  /** `[q, D]`. */
  readonly queries: Matrix;
  /** Scores: q·e, or q·e / (|q| |e|), 0 where either is zero. */
  readonly metric: 'dot' | 'cosine';
  /** Rows whose vector is e = W + s A B rather than W. */
  readonly delta?: TouchedRows | null;
  /** `[q, k] i32`, overwritten: per query the rows of the k highest scores, highest first, equal scores by ascending row. k <= tableRows. */
  readonly rows: Int32Array;
  /** `[q, k]`, overwritten. */
  readonly scores: Matrix;
}

/** The touched rows of an adapter. */
export interface TouchedRows extends Omit<Delta, 'slots'> {
  /** `[t] i32`, ascending. */
  readonly rows: Int32Array;
  /** `[t] i32`: the slot of each. */
  readonly slots: Int32Array;
}

/** A product of two matrices, either of them transposed or not. */
export interface MatmulArgs {
  readonly a: Matrix;
  readonly b: Matrix;
  /** `[M, N]`, overwritten. */
  readonly out: Matrix;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** Multiplies the product; default 1. */
  readonly scale?: number;
}

/** Sums of rows by the places of a plan. */
export interface SegmentSumArgs {
  readonly plan: LookupPlan;
  /** `[b, c]`: one row per bag. */
  readonly values: Matrix;
  /** `[k] i32` in [0, u): the unique rows whose sums are wanted; default: all, in order. */
  readonly uniques?: Int32Array | null;
  /** `[k, c]`, overwritten: for each of these, Σ over its places, in ascending order, of w · values[bag]. */
  readonly out: Matrix;
}

/** What every rule has beside its own numbers. */
export interface RuleBase {
  readonly learningRate: number;
  readonly weightDecay: number;
  /** `l2`: g += wd w before all else. `decoupled`: w *= 1 - lr wd beside the step (Loshchilov and Hutter 2019). */
  readonly decay: 'l2' | 'decoupled';
}

/**
 * Update rules, g being the gradient summed per row. Epsilon is outside the root; bias corrections use the shared step.
 * - `sgd`: b = momentum b + g, w -= lr b; as PyTorch without dampening (momentum 0 keeps no b).
 * - `adagrad`: h += g², w -= lr g / (√h + ε) (Duchi, Hazan and Singer 2011).
 * - `rowwise-adagrad`: h += mean(g²) with one h a row (as FBGEMM).
 * - `adam`: m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g², w -= lr m̂ / (√v̂ + ε) (Kingma and Ba 2015).
 * - `rowwise-adam`: the same with one v a row, from mean(g²) (FBGEMM's partial row-wise Adam).
 */
export type UpdateRule =
  | (RuleBase & { readonly type: 'sgd'; readonly momentum: number })
  | (RuleBase & { readonly type: 'adagrad' | 'rowwise-adagrad'; readonly epsilon: number })
  | (RuleBase & {
      readonly type: 'adam' | 'rowwise-adam';
      readonly beta1: number;
      readonly beta2: number;
      readonly epsilon: number;
    });

/** Rows in slots with their optimiser state. */
export interface UpdatableRows {
  readonly parameters: RowStore;
  /**
   * As `stateColumns(rule, r)` has them: first momentum (b or m), then squares (h or v). `[capacity, c]`, all of one dtype:
   * f32, bf16 or f16. Arithmetic is in f32; 16-bit state is rounded at random from the f32 result, up in proportion to how near
   * the upper neighbour is, so that small steps are not lost. f16 holds no square below 6e-8: one that is not 0 is never
   * rounded to 0, and one above 65504 becomes that.
   */
  readonly state: readonly RowStore[];
  /**
   * Draws the rounding of 16-bit state, with the step, the slot and the element: results do not depend on threads. An integer
   * in [0, 2^53), default 0.
   */
  readonly roundingSeed?: number;
}

export interface UpdateRowsArgs extends UpdatableRows {
  readonly rule: UpdateRule;
  /** 1 for the first step. */
  readonly step: number;
  /** `[u] i32`, distinct, none -1. */
  readonly slots: Int32Array;
  /** `[u, r]`. */
  readonly gradients: Matrix;
  /** `[capacity, 1]` i32; set to `step` for these slots. Absent in lazy mode. */
  readonly lastSteps?: RowStore | null;
  /** The same as `addRowProducts` of these slots after the update, and less work. */
  readonly products?: UpdatedProducts | null;
}

/** As {@link RowProducts}, of the rows that an update moves: `rows` belong to its slots, `factors` are its parameters. */
export type UpdatedProducts = Omit<RowProducts, 'factors' | 'slots'>;

/**
 * Brings rows to where the dense optimiser would have them after step `step`: steps `lastSteps[slot] + 1 .. step` with a zero
 * gradient, then `lastSteps[slot] = step`. Many steps cost what one does, to about 1e-8 of how far they move a row; but adam,
 * adagrad and sgd with momentum, where their decay is L2, take them one by one.
 */
export interface ReplayRowsArgs extends UpdatableRows {
  readonly skipped: SkippedSteps;
  readonly step: number;
  /** `[m] i32`, distinct; -1 entries are passed over. */
  readonly slots: Int32Array;
  readonly lastSteps: RowStore;
}

/** A dense parameter, its gradient and its state. */
export interface UpdateDenseArgs {
  readonly rule: UpdateRule;
  readonly step: number;
  readonly parameters: Float32Array;
  /** As in {@link UpdatableRows}, f32, for one row of all parameters (one of squares where those are by row). */
  readonly state: readonly Float32Array[];
  readonly gradients: Float32Array;
}

/** Scores and classes, and where losses and gradients go. */
export interface CrossEntropyArgs {
  /** `[b, C]`. */
  readonly logits: Matrix;
  /** `[b] i32` in [0, C). */
  readonly labels: Int32Array;
  /** `[b]`, overwritten: -log softmax(logits)[label]. */
  readonly losses: Float32Array;
  /** `[b, C]`, overwritten where given: scale · (softmax - onehot). May be `logits` itself. */
  readonly gradient?: Matrix | null;
  /** Usually 1 / b. */
  readonly scale?: number;
}

/** Dot products of the vectors of one example with each other: the interactions of a DLRM (Naumov et al. 2019). */
export interface PairDotsArgs {
  /** F matrices `[b, D]`, F from 2 to 1024: vector i of each example. */
  readonly vectors: readonly Matrix[];
  /**
   * `[b, c]`: columns `[firstColumn, firstColumn + F (F - 1) / 2)` are overwritten, the others stay. Column `i (i - 1) / 2 + j` of them,
   * for j < i, is x_i · x_j.
   */
  readonly out: Matrix;
  /** Default 0. */
  readonly firstColumn?: number;
}

/** ∂L/∂dot of {@link PairDotsArgs}, and where the gradients go. */
export interface PairDotsBackwardArgs {
  readonly vectors: readonly Matrix[];
  /** As `PairDotsArgs.out`. */
  readonly gradient: Matrix;
  readonly firstColumn?: number;
  /** `[b, D]` for each of the vectors, overwritten: Σ_j g_ij x_j; null where it is not wanted. */
  readonly outs: readonly (Matrix | null)[];
}

/** One vector with each of several: a query with its candidates. */
export interface BagDotsArgs {
  /** `[b, D]`. */
  readonly x: Matrix;
  /** `[m, D]`. */
  readonly y: Matrix;
  /** `[b + 1] i32`, ascending from 0 to n. */
  readonly offsets: Int32Array;
  /** `[n] i32`, in `[0, m)`: the row p(j) of y; null: row j, n = m. */
  readonly places?: Int32Array | null;
  /** `[n]`, overwritten: x_i · y_p(j) for `offsets[i] <= j < offsets[i + 1]`. */
  readonly out: Float32Array;
}

/** ∂L/∂score of {@link BagDotsArgs}, and where the gradients go. */
export interface BagDotsBackwardArgs extends Omit<BagDotsArgs, 'out'> {
  /** `[n]`: g. */
  readonly gradient: Float32Array;
  /** `[b, D]`, overwritten: Σ_j g_j y_p(j), over the j of i. */
  readonly xOut?: Matrix | null;
  /** `[m, D]`, overwritten: row p is Σ_j g_j x_i, over the j with p(j) = p. */
  readonly yOut?: Matrix | null;
}

/** All computing on rows and matrices, in two implementations that agree: portable (the definition of right) and native. */
export interface Kernels {
  readonly name: 'portable' | 'native';
  /** One line for people: instruction set and threads. */
  readonly description: string;
  /** Threads a call may use, the calling one included. */
  readonly threads: number;
  /** The same kernels with another number of threads. Results do not depend on it. */
  withThreads(threads: number): Kernels;

  /**
   * A zero-filled store in RAM.
   * @param groupDims for `int4`: 32, 64, 128 or `dim` (the default)
   * @throws OUT_OF_MEMORY
   */
  createRows(rows: number, dim: number, dtype: StoreDtype, groupDims?: number): RowStore;
  /**
   * A table of a file, or part of it: mapped (read-only, nothing is read yet) or copied into RAM.
   * @throws NOT_FOUND, INVALID_FILE (too short), OUT_OF_MEMORY, IO
   */
  openRows(file: FileRows, home: 'ram' | 'mapped', part?: TablePart): RowStore;
  /** `out[i] = store[rows[i]]`, decoded to f32; not for `i32`. @throws ID_OUT_OF_RANGE */
  gatherRows(store: RowStore, rows: Int32Array, out: Matrix): void;
  /**
   * `store[rows[i]] = values[i]`, rounded to the store's dtype; a row given twice keeps its last value. RAM only, not for `i32`.
   * `int8` and `int4`: each group's scale is its largest absolute value / 127 or / 7, and elements are x / scale rounded to
   * the nearest, ties to even. @throws NON_FINITE where those meet NaN or infinity
   */
  scatterRows(store: RowStore, rows: Int32Array, values: Matrix): void;
  /**
   * Copies of raw stored bytes `[byteOffset, byteOffset + out.length)`, for fingerprints and checkpoints: all elements, row by
   * row without gaps, then all scales.
   */
  readBytes(store: RowStore, byteOffset: number, out: Uint8Array): void;
  /**
   * Copies of the raw stored bytes of rows, one row after the other; of dtypes without scales.
   * @param out `rows.length` rows long @throws ID_OUT_OF_RANGE
   */
  readRows(store: RowStore, rows: Int32Array, out: Uint8Array): void;
  /** The reverse of `readBytes`. RAM only. */
  writeBytes(store: RowStore, byteOffset: number, bytes: Uint8Array): void;

  /** Bag lookup fused with the delta. A bag without touched rows gets no delta. */
  lookup(args: LookupArgs): void;
  /**
   * Adds the delta alone to base rows pooled before: `lookup` without a delta followed by this gives the same bytes as
   * `lookup` with it.
   */
  addDelta(args: { plan: LookupPlan; delta: LookupDelta; out: Matrix; pooledFactors?: Matrix | null }): void;
  /** As `addDelta`, with a delta of each bag's own choice. */
  addChosen(args: ChosenDeltas): void;
  /**
   * As `lookup`, off the JavaScript thread where the implementation has other threads. Until it settles the arrays must not be
   * changed or transferred; a store that is closed meanwhile is freed when it has settled. Bad arguments are thrown at once.
   */
  lookupAsync(args: LookupArgs): Promise<void>;
  /** Adds gradients of places to their unique rows, in one fixed order. */
  segmentSum(args: SegmentSumArgs): void;
  /** Adds products of table rows and rows of a delta to sums by column. */
  addRowProducts(args: RowProducts): void;
  /** Exact nearest rows of an adapted table that is never merged; as `lookupAsync` where it runs. */
  nearest(args: NearestArgs): Promise<void>;
  /** `out[i]` = the slot of `rows[i]` (`[u] i32`, each 0 or more) in a slot table, -1 where it has none. */
  findSlots(table: SlotTable, rows: Int32Array, out: Int32Array): void;
  /**
   * Puts the rows whose `slots[i]` is -1, as `findSlots` left it, into the table with slots `first`, `first + 1`, …, and
   * writes those to `slots`. Rows are distinct. @returns how many were put @throws INVALID_ARGUMENT where the table is full
   */
  insertSlots(table: SlotTable, rows: Int32Array, slots: Int32Array, first: number): number;
  /** One step of an update rule on the rows of a store. */
  updateRows(args: UpdateRowsArgs): void;
  /** Takes the steps that rows have missed. */
  replayRows(args: ReplayRowsArgs): void;
  /** One step of an update rule on a dense parameter. */
  updateDense(args: UpdateDenseArgs): void;

  /** `out = scale · op(a) op(b)`; at most one of the two transposed. */
  matmul(args: MatmulArgs): void;
  /** Adds `row` (`[cols]`) to every row of `x`, in place. */
  addToRows(x: Matrix, row: Float32Array): void;
  /** Multiplies every row of `x` by `row` (`[cols]`), element by element, in place. */
  scaleColumns(x: Matrix, row: Float32Array): void;
  /** `out[c] = Σ_i x[i, c]`. */
  sumRows(x: Matrix, out: Float32Array): void;
  /** `out[c] = Σ_i x[i, c] y[i, c]`. */
  columnDots(x: Matrix, y: Matrix, out: Float32Array): void;
  /** Losses and gradients of softmax(scores) with one class each. */
  softmaxCrossEntropy(args: CrossEntropyArgs): void;
  /** Dot products of all pairs of vectors of each example. */
  pairDots(args: PairDotsArgs): void;
  /** Gradients of `pairDots`. */
  pairDotsBackward(args: PairDotsBackwardArgs): void;
  /** Dot products of a vector with each of its bag. */
  bagDots(args: BagDotsArgs): void;
  /** Gradients of `bagDots`. */
  bagDotsBackward(args: BagDotsBackwardArgs): void;
  /** Divides each row by its Euclidean norm, in place; a zero row stays zero. `norms` (`[rows]`) is overwritten. */
  normalizeRows(x: Matrix, norms: Float32Array): void;
  /** Turns `gradient` (of normalised rows `y`) into that of the rows before, in place: (g - (g·y) y) / norm; 0 for a zero row. */
  normalizeRowsBackward(y: Matrix, norms: Float32Array, gradient: Matrix): void;
  /** Σ x², in f64, in a fixed order. */
  sumSquares(x: Float32Array): number;
  /** Multiplies in place. */
  scaleInPlace(x: Float32Array, factor: number): void;
  /** Index of the first NaN or infinity, or -1. */
  firstNonFinite(x: Float32Array): number;
}
