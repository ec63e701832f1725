/**
 * The rows of an adapter that share a rank and a B: their touched rows of A, packed in slots, and the optimiser's state of both
 * factors. An adapter is one group or several; every row of the table is in at most one.
 */
import {
  FinetableError,
  HeUniformRows,
  matrix,
  planBags,
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
  type SlotTable,
  type UpdatedProducts,
  type UpdateRule,
} from '@finetable/kernels';
import { loraScale } from '@finetable/formats';
import type { DeviceDelta, ShardedTable } from '@finetable/placement';
import { checkFactors } from './check.ts';
import { initialB } from './init.ts';
import { rateOf, ruleOf, type OptimizerSpec, type StateDtype } from './optimizer.ts';
import type { FactorOptions, LoraOptions } from './options.ts';
import type { RowSet } from './row-set.ts';
import type { Schedule } from './schedule.ts';
import { membersOf, type BaseRows } from './plans.ts';
import type { RowsSnapshot } from './snapshot.ts';
import { SlotMap } from './slots.ts';

/** The part of a plan that an update reads. */
export type PlanRows = Pick<LookupPlan, 'uniqueRows'>;

/** Gradients of one batch; views into memory that the next batch uses again. */
export interface GroupGradients {
  /** Which unique rows of the plan the group has, as indices; null: all. */
  readonly members: Int32Array | null;
  /** `[k, r]`, one row per member; null where A is not trained. */
  readonly rows: Matrix | null;
  /** `[r, D]`, or null where B is not trained. */
  readonly b: Matrix | null;
}

/** What DoRA does to gradients, and what it wants of them. */
export interface ScaledColumns {
  /** `[D]`: what every dim of E was multiplied by last. */
  readonly columns: Float32Array;
  /** `[D]`: gets Σ over bags of g · Δ added, Δ being what the group's delta added to them. */
  readonly dots: Float32Array;
}

/** What a group of rows is trained with. */
export interface GroupTraining {
  /** Rules at the learning rates that the schedule multiplies. */
  readonly rowRule: UpdateRule;
  readonly bRule: UpdateRule;
  readonly optimizer: OptimizerSpec;
  /** The learning rate of rows by step. */
  readonly rowRateOf: (step: number) => number;
  /** The learning rate of B by step. */
  readonly bRateOf: (step: number) => number;
  readonly skipped: SkippedSteps;
  readonly rowState: readonly RowStore[];
  readonly bState: readonly Float32Array[];
  /** Step up to which each slot's row is current; null where that is every step: in lazy mode, of rules that rest, and without training of A. */
  readonly lastSteps: RowStore | null;
}

/** Told of what the optimiser did. */
export interface RowWatcher {
  /**
   * What an update of these rows is to count as it goes; null: nothing, `updated` is to be called after it.
   * @param pooled the same rows as a lookup left them; null: it did not
   */
  products(group: RowGroup, rows: Int32Array, pooled: BaseRows | null): UpdatedProducts | null;
  /** Its rows `rows` of the table, in `slots`, were moved. */
  updated(group: RowGroup, rows: Int32Array, slots: Int32Array): void;
}

/** Rows of an adapter that share their factors: slots for touched rows of A, and B, or a dense delta. */
export class RowGroup {
  readonly table: ShardedTable;
  /** `rest`: the rows that no other group has. */
  readonly name: string;
  /** The rows that may be trained. */
  readonly members: RowSet;
  readonly kind: 'lora' | 'dense';
  /** r; D of a dense group. */
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  readonly scale: number;
  /** `[r, D]`; null of a dense group, whose B is the identity. */
  readonly b: Matrix | null;
  /** A of rows without a slot; null: 0. */
  readonly untouched: HeUniformRows | null;
  readonly options: FactorOptions;
  /** Draws how 16-bit optimiser state is rounded. */
  readonly #seed: number;
  #slots: SlotMap;
  #factors: RowStore;
  #training: GroupTraining | null = null;
  #watcher: RowWatcher | null = null;
  /** @internal Readers of rows as they were, told before these change. */
  readonly snapshots = new Set<RowsSnapshot>();
  /** The step that every touched row was last brought to. */
  #settled = 0;
  readonly #scratch = new Scratch();
  #slotScratch = new Int32Array(0);
  /** What `#current` found last. */
  #found: { readonly plan: PlanRows; readonly slots: Int32Array } | null = null;

  /**
   * @param where names the group in errors
   * @param mostRank of LoRA factors
   */
  constructor(
    table: ShardedTable,
    name: string,
    members: RowSet,
    options: FactorOptions,
    seed: number,
    where: string,
    mostRank: number,
  ) {
    this.table = table;
    this.name = name;
    this.members = members;
    this.options = options;
    this.#seed = seed;
    checkFactors(options, table, mostRank, where, name);
    this.kind = options.kind ?? 'lora';
    if (options.kind === 'dense') {
      this.rank = table.dim;
      this.alpha = table.dim;
      this.rsLora = false;
      this.scale = 1;
      this.b = null;
      this.untouched = null;
    } else {
      const { rank, alpha = rank, rsLora = false, init = 'sparse' } = options;
      this.rank = rank;
      this.alpha = alpha;
      this.rsLora = rsLora;
      this.scale = loraScale({ alpha, rank, rsLora });
      const stream = `${table.name}${name === 'rest' ? '' : `/${name}`}`;
      const given = init instanceof HeUniformRows ? init : null;
      this.b = initialB(table, rank, init instanceof HeUniformRows ? 'keras' : init, seed, `${stream}/B`);
      this.untouched = given ?? (init === 'keras' ? new HeUniformRows(seed, `${stream}/A`, table.rows, rank) : null);
    }
    this.#slots = new SlotMap(this.#kernels);
    this.#factors = this.#kernels.createRows(this.#capacity, this.rank, 'f32');
  }

  /** Which slot holds which touched row. */
  get slots(): SlotMap {
    return this.#slots;
  }

  /** A: `[members.count, r]` with memory for touched slots only. Owned by the group. */
  get factors(): RowStore {
    return this.#factors;
  }

  get #kernels(): Kernels {
    return this.table.kernels;
  }

  /** Slots that may be needed; stores have a row at least. */
  get #capacity(): number {
    return Math.max(1, this.members.count);
  }

  /** Rows that training has touched. */
  get touchedRows(): number {
    return this.#slots.size;
  }

  get training(): GroupTraining | null {
    return this.#training;
  }

  /** False where A keeps the values it has. */
  get trainsA(): boolean {
    return this.#training?.rowRule.learningRate !== 0;
  }

  /** False where B keeps the values it has; Ā is not needed then. */
  get trainsB(): boolean {
    return this.b !== null && this.#training?.bRule.learningRate !== 0;
  }

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

  /** Tells `watcher` of every later update of A. */
  watch(watcher: RowWatcher): void {
    this.#watcher = watcher;
  }

  /** As `Adapter.startTraining`, of this group. */
  startTraining(optimizer: OptimizerSpec): void {
    const { learningRate, weightDecay } = this.options;
    const lora: Partial<LoraOptions> = this.options.kind === 'dense' ? {} : this.options;
    const rowRule = ruleOf(optimizer, { learningRate: lora.freeze === 'A' ? 0 : learningRate, weightDecay });
    const learningRateB = this.b === null || lora.freeze === 'B' ? 0 : (lora.learningRateB ?? learningRate);
    const bRule = ruleOf(optimizer, { learningRate: learningRateB, weightDecay });
    const { mode } = settingsOf(optimizer);
    if (this.untouched && mode === 'exact' && rowRule.learningRate > 0 && rowRule.weightDecay > 0) {
      throw new FinetableError(
        'UNSUPPORTED',
        `${this.table.name}: weightDecay ${rowRule.weightDecay} in exact mode shrinks rows that no batch holds too, and of init "keras" those take no memory; allowed: mode "lazy", weightDecay 0, or freeze "A"`,
        { table: this.table.name, group: this.name },
      );
    }
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

  #freshTraining(rowRule: UpdateRule, bRule: UpdateRule, optimizer: OptimizerSpec): GroupTraining {
    const kernels = this.#kernels;
    const { mode, stateDtype } = settingsOf(optimizer);
    const rowRateOf = rateOf(optimizer, rowRule.learningRate);
    const count = this.#capacity;
    const bCount = this.b?.data.length ?? 0;
    const trained = rowRule.learningRate !== 0;
    const skipped = new SkippedSteps(rowRule, rowRateOf);
    return {
      rowRule,
      bRule,
      optimizer,
      rowRateOf,
      bRateOf: rateOf(optimizer, bRule.learningRate),
      skipped,
      rowState: (trained ? stateColumns(rowRule, this.rank) : []).map((cols) =>
        kernels.createRows(count, cols, stateDtype),
      ),
      bState: bRule.learningRate === 0 ? [] : stateColumns(bRule, bCount).map((cols) => new Float32Array(cols)),
      lastSteps: mode === 'exact' && trained && !skipped.rests ? kernels.createRows(count, 1, 'i32') : null,
    };
  }

  /** The delta of a plan's unique rows, those at the current step. */
  delta(plan: LookupPlan, step: number): Delta {
    return { factors: this.#factors, slots: this.#current(plan, step), b: this.b, scale: this.scale };
  }

  /** The delta of a plan's unique rows for a device that computes; views into memory that the next batch uses again. */
  deviceDelta(plan: LookupPlan, step: number): DeviceDelta {
    const members = this.members.indicesOf(plan.uniqueRows);
    return { members, factors: this.#planRows(plan, members, step), b: this.b, scale: this.scale };
  }

  /** A of a plan's members at this step, `[k, r]`; a view into memory that the next call uses again. */
  #planRows(plan: PlanRows, members: Int32Array | null, step: number): Matrix {
    const all = this.#current(plan, step);
    const slots = members ? members.map((i) => all[i]!) : all;
    const a = this.#scratch.matrix('current', slots.length, this.rank);
    this.#kernels.gatherRows(this.#factors, slots.map((slot) => Math.max(slot, 0)), a); // prettier-ignore
    slots.forEach((slot, i) => slot < 0 && a.data.fill(0, i * this.rank, (i + 1) * this.rank));
    return a;
  }

  /** Where a device puts the gradients of that delta; what is trained of it. */
  deviceGradients({ members, factors }: DeviceDelta): GroupGradients {
    return {
      members,
      rows: this.trainsA ? this.#scratch.matrix('rows', factors.rows, this.rank) : null,
      b: this.trainsB ? this.#scratch.matrix('b', this.rank, this.table.dim) : null,
    };
  }

  /**
   * The slots of all rows, those of a batch at the current step; valid until the group is trained. Where A does not start at 0, rows
   * of the batch without a slot get one for good.
   * @param rows of the batch, ascending, each once
   */
  slotTable(rows: () => Int32Array, step: number): SlotTable {
    const start = this.untouched;
    if (start || this.#lags(step)) {
      const all = rows();
      const members = this.members.indicesOf(all);
      const own = members ? members.map((i) => all[i]!) : all;
      const slots = new Int32Array(own.length);
      this.#slots.find(own, slots);
      this.#catchUp(slots, step);
      if (start) {
        const missing = own.filter((_, i) => slots[i]! < 0);
        this.#slots.insertMissing(own, slots);
        const first = this.touchedRows - missing.length;
        this.#kernels.scatterRows(this.#factors, range(missing.length).map((i) => first + i), start.of(missing)); // prettier-ignore
        this.#found = null;
      }
    }
    return this.#slots.table;
  }

  /** Where a lookup leaves Ā, `[b, r]`, for the gradients of B and of magnitudes; null where that is not wanted. */
  pooledFactors(plan: LookupPlan): Matrix | null {
    const wanted = this.trainsB || (this.b !== null && this.#watcher !== null);
    return wanted ? this.#scratch.matrix('pooled', planBags(plan), this.rank) : null;
  }

  /**
   * Gradients of A's rows and B from `gradient` = ∂L/∂E (`[b, D]`), after a lookup of the same plan with `pooledFactors`.
   * Duplicates are summed.
   * @param scaling null: E was not multiplied
   */
  gradients(plan: LookupPlan, gradient: Matrix, step: number, scaling: ScaledColumns | null): GroupGradients {
    const members = this.members.indicesOf(plan.uniqueRows);
    if (!this.b) return { members, rows: this.#denseGradient(plan, members, gradient, step, scaling), b: null };
    const kernels = this.#kernels;
    let rows: Matrix | null = null;
    if (this.trainsA) {
      const b = scaling ? this.#scaled(this.b, scaling.columns) : this.b;
      const values = this.#scratch.matrix('projected', planBags(plan), this.rank);
      kernels.matmul({ a: gradient, b, out: values, transposeB: true, scale: this.scale });
      rows = this.#scratch.matrix('rows', (members ?? plan.uniqueRows).length, this.rank);
      kernels.segmentSum({ plan, values, uniques: members, out: rows });
    }
    const pooled = this.pooledFactors(plan);
    if (!pooled) return { members, rows, b: null };
    const b = this.#scratch.matrix('b', this.rank, this.table.dim);
    kernels.matmul({ a: pooled, b: gradient, out: b, transposeA: true, scale: this.scale });
    if (scaling) {
      this.#addDots(b, this.b, scaling.dots);
      kernels.scaleColumns(b, scaling.columns);
    }
    return { members, rows, b: this.trainsB ? b : null };
  }

  /** Of A where B is the identity. */
  #denseGradient(
    plan: LookupPlan,
    members: Int32Array | null,
    values: Matrix,
    step: number,
    scaling: ScaledColumns | null,
  ): Matrix | null {
    if (!this.trainsA && !scaling) return null;
    const rows = this.#scratch.matrix('rows', (members ?? plan.uniqueRows).length, this.rank);
    this.#kernels.segmentSum({ plan, values, uniques: members, out: rows });
    if (scaling) {
      this.#addDots(rows, this.#planRows(plan, members, step), scaling.dots);
      this.#kernels.scaleColumns(rows, scaling.columns);
    }
    return this.trainsA ? rows : null;
  }

  #addDots(x: Matrix, y: Matrix, dots: Float32Array): void {
    const own = this.#scratch.matrix('dots', 1, dots.length).data;
    this.#kernels.columnDots(x, y, own);
    for (let j = 0; j < dots.length; j++) dots[j]! += own[j]!;
  }

  #scaled({ rows, cols, data }: Matrix, columns: Float32Array): Matrix {
    const out = this.#scratch.matrix('scaled', rows, cols);
    out.data.set(data);
    this.#kernels.scaleColumns(out, columns);
    return out;
  }

  /**
   * Optimiser step number `step` with these gradients; rows seen for the first time get their slots here.
   * @param pooled the plan's unique rows as a lookup left them; null: it did not
   */
  update(plan: PlanRows, gradients: GroupGradients, step: number, pooled: BaseRows | null): void {
    const training = this.#training!;
    const kernels = this.#kernels;
    if (gradients.rows) {
      const { rows, slots } = this.#slotsToUpdate(plan, gradients.members, step);
      this.#keep(slots);
      const args = {
        rule: { ...training.rowRule, learningRate: training.rowRateOf(step) },
        step,
        parameters: this.#factors,
        state: training.rowState,
        roundingSeed: this.#seed,
        slots,
        gradients: gradients.rows,
        lastSteps: training.lastSteps,
        products: this.#watcher?.products(this, rows, pooled && membersOf(pooled, gradients.members)) ?? null,
      };
      kernels.updateRows(args);
      if (!args.products) this.#watcher?.updated(this, rows, slots);
    }
    if (this.b && gradients.b) {
      kernels.updateDense({
        rule: { ...training.bRule, learningRate: training.bRateOf(step) },
        step,
        parameters: this.b.data,
        state: training.bState,
        gradients: gradients.b.data,
      });
    }
  }

  /** A plan's members and their slots, new ones included. */
  #slotsToUpdate(
    plan: PlanRows,
    members: Int32Array | null,
    step: number,
  ): { readonly rows: Int32Array; readonly slots: Int32Array } {
    const all = this.#current(plan, step - 1);
    const rows = members ? members.map((i) => plan.uniqueRows[i]!) : plan.uniqueRows;
    const slots = members ? members.map((i) => all[i]!) : all;
    // Those that `#current` lent get the same ones for good, since they are given out in the same order.
    if (this.untouched) for (let i = 0; i < slots.length; i++) if (slots[i]! >= this.touchedRows) slots[i] = -1;
    this.#slots.insertMissing(rows, slots);
    members?.forEach((unique, i) => (all[unique] = slots[i]!));
    return { rows, slots };
  }

  /** Brings every touched row to the current step, as exporting needs. */
  settle(step: number): void {
    if (!this.#lags(step)) return;
    this.#catchUp(range(this.touchedRows), step);
    this.#settled = step;
  }

  /** A of these members, `[rows.length, r]`, newly allocated; call `settle` before. */
  rowsOfA(rows: Int32Array): Matrix {
    const slots = new Int32Array(rows.length);
    this.#slots.find(rows, slots);
    const a = this.untouched?.of(rows) ?? matrix(rows.length, this.rank);
    const touched = range(rows.length).filter((i) => slots[i]! >= 0);
    const found = matrix(touched.length, this.rank);
    this.#kernels.gatherRows(
      this.#factors,
      touched.map((i) => slots[i]!),
      found,
    );
    touched.forEach((i, at) => a.data.set(found.data.subarray(at * this.rank, (at + 1) * this.rank), i * this.rank));
    return a;
  }

  /** s A B of these rows, `[rows.length, D]`, newly allocated; call `settle` before. */
  deltaOf(rows: Int32Array): Matrix {
    const a = this.rowsOfA(rows);
    if (!this.b) return a;
    const out = matrix(rows.length, this.table.dim);
    this.#kernels.matmul({ a, b: this.b, out, scale: this.scale });
    return out;
  }

  /** Forgets every row and all optimiser state, then gives `rows` their slots in this order, as reading a file does. */
  reset(rows: Int32Array): void {
    this.close();
    this.#slots = new SlotMap(this.#kernels);
    this.#slots.insertMissing(rows, new Int32Array(rows.length).fill(-1));
    this.#factors = this.#kernels.createRows(this.#capacity, this.rank, 'f32');
    this.#found = null;
    this.#settled = -1;
    if (!this.#training) return;
    const { rowRule, bRule, optimizer } = this.#training;
    this.#training = this.#freshTraining(rowRule, bRule, optimizer);
  }

  /** Frees factors and state. */
  close(): void {
    this.#factors.close();
    this.#training?.rowState.forEach((store) => store.close());
    this.#training?.lastSteps?.close();
  }

  /** Whether rows may be at earlier steps. */
  #lags(step: number): boolean {
    return this.#training?.lastSteps != null && step !== this.#settled;
  }

  /** For readers of rows as they were. */
  #keep(slots: Int32Array): void {
    for (const snapshot of this.snapshots) snapshot.keep(slots);
  }

  /** Steps that were skipped for these slots' rows, applied. */
  #catchUp(slots: Int32Array, step: number): void {
    const training = this.#training;
    const lastSteps = training?.lastSteps;
    if (!lastSteps || step === 0 || !this.#lags(step)) return;
    const { skipped, rowState: state } = training;
    this.#keep(slots);
    const args = { skipped, step, parameters: this.#factors, state, roundingSeed: this.#seed, slots, lastSteps };
    this.#kernels.replayRows(args);
  }

  /**
   * The slots of a plan's unique rows, those rows brought to the current step; once while the plan stays the same: an update
   * of it leaves its rows current, and one of another plan comes through here.
   */
  #current(plan: PlanRows, step: number): Int32Array {
    const found = this.#found;
    if (found?.plan === plan) return found.slots;
    const u = plan.uniqueRows.length;
    if (this.#slotScratch.length < u) this.#slotScratch = new Int32Array(u);
    const slots = this.#slotScratch.subarray(0, u);
    this.#slots.find(plan.uniqueRows, slots);
    this.#catchUp(slots, step);
    if (this.untouched) this.#lend(plan.uniqueRows, slots, this.untouched);
    this.#found = { plan, slots };
    return slots;
  }

  /** Gives members without a slot the free ones after the last, with their start values, until the next plan. @param rows ascending */
  #lend(rows: Int32Array, slots: Int32Array, start: HeUniformRows): void {
    const members = this.members.indicesOf(rows) ?? range(rows.length);
    const missing = members.filter((i) => slots[i]! < 0);
    if (missing.length === 0) return;
    const lent = range(missing.length).map((i) => this.touchedRows + i);
    this.#kernels.scatterRows(this.#factors, lent, start.of(missing.map((i) => rows[i]!)));
    missing.forEach((unique, i) => (slots[unique] = lent[i]!));
  }
}

/** Of an optimiser, beside its rule. */
function settingsOf({ mode = 'exact', schedule, stateDtype = 'f32' }: OptimizerSpec): {
  mode: 'exact' | 'lazy';
  schedule: Schedule | null;
  stateDtype: StateDtype;
} {
  return { mode, schedule: schedule ?? null, stateDtype };
}
