/**
 * A trainable delta over a frozen table: W + s A B, with A [V, r] and B [r, D].
 *
 * A starts at 0 and B at N(0, 1), so the delta starts at 0, and a row that no training example touched is exactly its base
 * row for ever. So A and its optimiser state hold touched rows only, packed in slots; nothing here is as long as V.
 * A `dense` adapter keeps a full D-wide delta per touched row instead (rank D, B the identity): over every row of a table
 * that is full fine-tuning, by the same machinery.
 *
 * Gradients, with g = ∂L/∂E: G = s g Bᵀ; ∂L/∂A[id] = Σ over the places of id of w G[bag]; ∂L/∂B = s Āᵀ g. (LoRA: Hu et al. 2021.)
 */
import {
  FinetableError,
  makePlan,
  matrix,
  planBags,
  RandomStream,
  range,
  Scratch,
  type LookupPlan,
  type Matrix,
} from '@finetable/core';
import {
  SkippedSteps,
  stateColumns,
  type Delta,
  type Kernels,
  type RowStore,
  type UpdateRule,
} from '@finetable/kernels';
import type { Nearest, NearestOptions, ShardedTable } from '@finetable/placement';
import { nearestAdapted } from './nearest.ts';
import { rateOf, ruleOf, type OptimizerSpec, type StateDtype } from './optimizer.ts';
import type { Schedule } from './schedule.ts';
import { SlotMap } from './slots.ts';

/** Settings that override the trainer's optimiser for this adapter. */
export interface AdapterRates {
  /** Step size of A, and of B unless that has its own. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

export interface LoraOptions extends AdapterRates {
  readonly kind?: 'lora' | undefined;
  /** r, from 1 to min(V, D). */
  readonly rank: number;
  /** The delta is scaled by alpha / rank. Default: rank (scale 1). */
  readonly alpha?: number | undefined;
  /** Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023). */
  readonly rsLora?: boolean | undefined;
  /** Draws B. Default 0. */
  readonly seed?: number | undefined;
  /** Step size of B (LoRA+: Hayou et al. 2024); 0 keeps B as it was drawn. */
  readonly learningRateB?: number | undefined;
}

export interface DenseOptions extends AdapterRates {
  /** A D-wide delta per touched row, scale 1. */
  readonly kind: 'dense';
}

export type AdapterOptions = LoraOptions | DenseOptions;

/** Gradients of one batch; views into memory that the next batch uses again. */
export interface AdapterGradients {
  /** `[u, r]` (dense: `[u, D]`), one row per unique row of the plan. */
  readonly rows: Matrix;
  /** `[r, D]`, or null where B is not trained. */
  readonly b: Matrix | null;
}

interface Training {
  /** Rules at the learning rates that the schedule multiplies. */
  readonly rowRule: UpdateRule;
  readonly bRule: UpdateRule;
  readonly optimizer: OptimizerSpec;
  readonly rowRateOf: (step: number) => number;
  readonly bRateOf: (step: number) => number;
  readonly skipped: SkippedSteps;
  readonly rowState: readonly RowStore[];
  readonly bState: readonly Float32Array[];
  /** Step up to which each slot's row is current; null in lazy mode. */
  readonly lastSteps: RowStore | null;
  step: number;
}

export class Adapter {
  readonly table: ShardedTable;
  readonly kind: 'lora' | 'dense';
  /** r; D for a dense adapter. */
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  readonly scale: number;
  /** `[r, D]`; null for a dense adapter, whose B is the identity. */
  readonly b: Matrix | null;
  #slots: SlotMap;
  #factors: RowStore;
  readonly #options: AdapterOptions;
  #training: Training | null = null;
  readonly #scratch = new Scratch();
  #slotScratch = new Int32Array(0);
  /** What `#current` found last. */
  #found: { readonly plan: LookupPlan; readonly slots: Int32Array } | null = null;
  /** The plan whose Ā lies in scratch. */
  #kept: LookupPlan | null = null;

  constructor(table: ShardedTable, options: AdapterOptions) {
    this.table = table;
    this.#options = options;
    this.kind = options.kind ?? 'lora';
    if (this.kind !== 'lora' && this.kind !== 'dense') {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${table.name}: kind ${JSON.stringify(this.kind)}; allowed: lora, dense`,
      );
    }
    if (options.kind === 'dense') {
      this.rank = table.dim;
      this.alpha = table.dim;
      this.rsLora = false;
      this.scale = 1;
      this.b = null;
    } else {
      const { rank, alpha = rank, rsLora = false, seed = 0 } = options;
      checkRank(rank, table);
      if (!Number.isFinite(alpha) || alpha <= 0) {
        throw new FinetableError('INVALID_ARGUMENT', `${table.name}: alpha ${alpha}; allowed: a number above 0`);
      }
      this.rank = rank;
      this.alpha = alpha;
      this.rsLora = rsLora;
      this.scale = rsLora ? alpha / Math.sqrt(rank) : alpha / rank;
      this.b = matrix(rank, table.dim);
      new RandomStream(seed, `${table.name}/B`).fillNormal(this.b.data);
    }
    this.#slots = new SlotMap(this.#kernels);
    this.#factors = this.#kernels.createRows(table.rows, this.rank, 'f32');
  }

  /** Which slot holds which touched row. */
  get slots(): SlotMap {
    return this.#slots;
  }

  /** `[V, r]` with memory for touched slots only. Owned by the adapter. */
  get factors(): RowStore {
    return this.#factors;
  }

  /** Draws how 16-bit optimiser state is rounded. */
  get #roundingSeed(): number {
    return this.#options.kind === 'dense' ? 0 : (this.#options.seed ?? 0);
  }

  get #kernels(): Kernels {
    return this.table.kernels;
  }

  /** Rows that training has touched. */
  get touchedRows(): number {
    return this.#slots.size;
  }

  /** Steps taken since training began. */
  get step(): number {
    return this.#training?.step ?? 0;
  }

  /** Bytes in use: A and B, the slot map, and the optimiser's state. None of it grows with V. */
  get memory(): { readonly adapterBytes: number; readonly slotBytes: number; readonly optimizerBytes: number } {
    const bBytes = this.b?.data.byteLength ?? 0;
    const training = this.#training;
    const perRow = training ? [...training.rowState, ...(training.lastSteps ? [training.lastSteps] : [])] : [];
    const rowBytes = perRow.reduce((sum, store) => sum + store.sizeBytes / store.rows, 0);
    const bStateBytes = training?.bState.reduce((sum, state) => sum + state.byteLength, 0) ?? 0;
    return {
      adapterBytes: this.touchedRows * this.rank * 4 + bBytes,
      slotBytes: this.#slots.sizeBytes,
      optimizerBytes: this.touchedRows * rowBytes + bStateBytes,
    };
  }

  /**
   * Gives the adapter an optimiser with fresh state; where it has the same one already, training goes on.
   * @throws INVALID_ARGUMENT for bad settings, or where it is being trained with others
   */
  startTraining(optimizer: OptimizerSpec): void {
    const { learningRate, weightDecay } = this.#options;
    const rowRule = ruleOf(optimizer, { learningRate, weightDecay });
    const learningRateB = this.#options.kind === 'dense' ? 0 : (this.#options.learningRateB ?? learningRate);
    const bRule = ruleOf(optimizer, { learningRate: learningRateB, weightDecay });
    const had = this.#training;
    if (!had) {
      this.#training = this.#freshTraining(rowRule, bRule, optimizer);
    } else if (
      JSON.stringify([had.rowRule, had.bRule, settingsOf(had.optimizer)]) !==
      JSON.stringify([rowRule, bRule, settingsOf(optimizer)])
    ) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${this.table.name}: the adapter is being trained with other settings (${had.optimizer.type}, learning rate ${had.rowRule.learningRate}); to train with new ones, save it and load it`,
        { table: this.table.name },
      );
    }
  }

  #freshTraining(rowRule: UpdateRule, bRule: UpdateRule, optimizer: OptimizerSpec): Training {
    const kernels = this.#kernels;
    const bCount = this.b?.data.length ?? 0;
    const { exact, stateDtype } = settingsOf(optimizer);
    const rowRateOf = rateOf(optimizer, rowRule.learningRate);
    return {
      rowRule,
      bRule,
      optimizer,
      rowRateOf,
      bRateOf: rateOf(optimizer, bRule.learningRate),
      skipped: new SkippedSteps(rowRule, rowRateOf),
      rowState: stateColumns(rowRule, this.rank).map((cols) => kernels.createRows(this.table.rows, cols, stateDtype)),
      bState: bRule.learningRate === 0 ? [] : stateColumns(bRule, bCount).map((cols) => new Float32Array(cols)),
      lastSteps: exact ? kernels.createRows(this.table.rows, 1, 'i32') : null,
      step: 0,
    };
  }

  /** E = Σ w (W + s A B)[id] into `out` (`[b, D]`, overwritten). With `keep`, what `gradients` needs is kept. */
  lookup(plan: LookupPlan, out: Matrix, keep = false): void {
    const delta = this.delta(this.#current(plan));
    this.table.lookup(plan, out, delta, this.#pooledFactors(plan, keep));
    if (keep) this.#kept = plan;
  }

  /** The rest of a `lookup` whose base rows `table.pool` has put into `out`; the same bytes as `lookup`. */
  addDelta(plan: LookupPlan, out: Matrix, keep = false): void {
    const delta = this.delta(this.#current(plan));
    this.#kernels.addDelta({ plan, delta, out, pooledFactors: this.#pooledFactors(plan, keep) });
    if (keep) this.#kept = plan;
  }

  #pooledFactors(plan: LookupPlan, keep: boolean): Matrix | null {
    return keep && this.b && this.#trainsB ? this.#scratch.matrix('pooled', planBags(plan), this.rank) : null;
  }

  /** False where B keeps the values it was drawn with; Ā is not needed then. */
  get #trainsB(): boolean {
    return this.#training?.bRule.learningRate !== 0;
  }

  /** The delta for unique rows in these slots. */
  delta(slots: Int32Array): Delta {
    return { factors: this.#factors, slots, b: this.b, scale: this.scale };
  }

  /**
   * Gradients of A's rows and B from `gradient` = ∂L/∂E (`[b, D]`), after `lookup(plan, …, true)` of the same plan.
   * Duplicates are summed.
   * @throws INVALID_ARGUMENT where the last lookup that kept something was of another plan
   */
  gradients(plan: LookupPlan, gradient: Matrix): AdapterGradients {
    const kernels = this.#kernels;
    const u = plan.uniqueRows.length;
    const rows = this.#scratch.matrix('rows', u, this.rank);
    if (!this.b) {
      kernels.segmentSum({ plan, values: gradient, out: rows });
      return { rows, b: null };
    }
    const bags = planBags(plan);
    const projected = this.#scratch.matrix('projected', bags, this.rank);
    kernels.matmul({ a: gradient, b: this.b, out: projected, transposeB: true, scale: this.scale });
    kernels.segmentSum({ plan, values: projected, out: rows });
    if (!this.#trainsB) return { rows, b: null };
    if (this.#kept !== plan) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${this.table.name}: gradients of a plan that was not the last one looked up with keep = true`,
      );
    }
    const b = this.#scratch.matrix('b', this.rank, this.table.dim);
    const pooled = this.#scratch.matrix('pooled', bags, this.rank);
    kernels.matmul({ a: pooled, b: gradient, out: b, transposeA: true, scale: this.scale });
    return { rows, b };
  }

  /** One optimiser step with these gradients; rows seen for the first time get their slots here. */
  update(plan: LookupPlan, gradients: AdapterGradients): void {
    const training = this.#training;
    if (!training)
      throw new FinetableError('INVALID_ARGUMENT', `${this.table.name}: startTraining comes before update`);
    const kernels = this.#kernels;
    const slots = this.#current(plan);
    this.#slots.insertMissing(plan.uniqueRows, slots);
    const step = training.step + 1;
    kernels.updateRows({
      rule: { ...training.rowRule, learningRate: training.rowRateOf(step) },
      step,
      parameters: this.#factors,
      state: training.rowState,
      roundingSeed: this.#roundingSeed,
      slots,
      gradients: gradients.rows,
      lastSteps: training.lastSteps,
    });
    if (this.b && gradients.b) {
      kernels.updateDense({
        rule: { ...training.bRule, learningRate: training.bRateOf(step) },
        step,
        parameters: this.b.data,
        state: training.bState,
        gradients: gradients.b.data,
      });
    }
    training.step = step; // only now: gradients that a kernel refused are no step
  }

  /** Brings every touched row to the current step, as exporting needs. */
  settle(): void {
    this.#catchUp(range(this.touchedRows));
  }

  /** The adapted rows e = W + s A B of these ids, `[ids.length, D]`, newly allocated. @throws ID_OUT_OF_RANGE */
  vectors(ids: Int32Array): Matrix {
    const out = matrix(ids.length, this.table.dim);
    this.lookup(makePlan({ values: ids, offsets: range(ids.length + 1) }, this.table.rows), out);
    return out;
  }

  /**
   * The k nearest rows of each query (`[q, D]`) in the adapted table, which is never merged; see `ShardedTable.nearest`.
   * Until it settles, the adapter must not be trained.
   * @throws what `ShardedTable.nearest` does
   */
  async nearest(queries: Matrix, k: number, options: NearestOptions = {}): Promise<Nearest> {
    this.settle();
    return nearestAdapted(this, queries, k, options);
  }

  /** @internal The optimiser and its state, for checkpoints. */
  get training(): Training | null {
    return this.#training;
  }

  /** @internal Forgets every row and all optimiser state, then gives `rows` their slots in this order, as reading a file does. */
  reset(rows: Int32Array, step: number): void {
    this.close();
    this.#slots = new SlotMap(this.#kernels);
    this.#slots.insertMissing(rows, new Int32Array(rows.length).fill(-1));
    this.#factors = this.#kernels.createRows(this.table.rows, this.rank, 'f32');
    this.#found = null;
    if (!this.#training) return;
    const { rowRule, bRule, optimizer } = this.#training;
    this.#training = { ...this.#freshTraining(rowRule, bRule, optimizer), step };
  }

  /** Frees factors and state; the table stays open. */
  close(): void {
    this.#factors.close();
    this.#training?.rowState.forEach((store) => store.close());
    this.#training?.lastSteps?.close();
  }

  /** Steps that were skipped for these slots' rows, applied. */
  #catchUp(slots: Int32Array): void {
    const training = this.#training;
    if (!training?.lastSteps || training.step === 0) return;
    this.#kernels.replayRows({
      skipped: training.skipped,
      step: training.step,
      parameters: this.#factors,
      state: training.rowState,
      roundingSeed: this.#roundingSeed,
      slots,
      lastSteps: training.lastSteps,
    });
  }

  /**
   * The slots of a plan's unique rows, those rows brought to the current step; once while the plan stays the same: an update
   * of it leaves its rows current, and one of another plan comes through here.
   */
  #current(plan: LookupPlan): Int32Array {
    const found = this.#found;
    if (found?.plan === plan) return found.slots;
    const u = plan.uniqueRows.length;
    if (this.#slotScratch.length < u) this.#slotScratch = new Int32Array(u);
    const slots = this.#slotScratch.subarray(0, u);
    this.#slots.find(plan.uniqueRows, slots);
    this.#catchUp(slots);
    this.#found = { plan, slots };
    return slots;
  }
}

/** A new adapter whose delta is 0. @throws INVALID_ARGUMENT for a rank outside 1 .. min(V, D) or a bad alpha */
export function createAdapter(table: ShardedTable, options: AdapterOptions): Adapter {
  return new Adapter(table, options);
}

/** Of an optimiser, beside its rule. */
function settingsOf({ mode, schedule, stateDtype = 'f32' }: OptimizerSpec): {
  exact: boolean;
  stateDtype: StateDtype;
  schedule: Schedule | null;
} {
  return { exact: mode !== 'lazy', stateDtype, schedule: schedule ?? null };
}

function checkRank(rank: number, { name, rows, dim }: ShardedTable): void {
  const most = Math.min(rows, dim);
  if (!Number.isInteger(rank) || rank < 1 || rank > most) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${name}: rank ${rank}; allowed: an integer from 1 to ${most}, the smaller of the table's ${rows} rows and ${dim} dims`,
      { table: name, rank },
    );
  }
}
