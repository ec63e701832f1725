/**
 * A trainable delta over a frozen table: W + s A B, with A [V, r] and B [r, D].
 *
 * A starts at 0 and B at N(0, 1), so the delta starts at 0, and a row that no training example touched is exactly its base
 * row for ever. So A and its optimiser state hold touched rows only, packed in slots; nothing here is as long as V.
 * Rows may come in groups, each with its own rank and B. A `dense` group keeps a full D-wide delta per touched row instead (rank D, B the
 * identity): over every row of a table that is full fine-tuning, by the same machinery.
 *
 * Gradients, with g = ∂L/∂E: G = s g Bᵀ; ∂L/∂A[id] = Σ over the places of id of w G[bag]; ∂L/∂B = s Āᵀ g. (LoRA: Hu et al. 2021.)
 */
import {
  FinetableError,
  makePlan,
  matrix,
  planBags,
  range,
  Scratch,
  type LookupPlan,
  type Matrix,
} from '@finetable/core';
import { stateColumns, type Kernels, type LookupDelta, type UpdateRule } from '@finetable/kernels';
import type {
  DeviceDelta,
  DeviceLookup,
  DeviceMatrix,
  Nearest,
  NearestOptions,
  ShardedTable,
} from '@finetable/placement';
import { checkAdapter } from './check.ts';
import { ColumnNorms } from './dora.ts';
import { RowGroup, type GroupGradients, type PlanRows } from './group.ts';
import { nearestAdapted } from './nearest.ts';
import { rateOf, ruleOf, type OptimizerSpec } from './optimizer.ts';
import type { AdapterOptions, FactorOptions } from './options.ts';
import { dropPlaces, rowByRow, unpooledRows, withWeights } from './plans.ts';
import { RowSet } from './row-set.ts';

/** Gradients of one batch; views into memory that the next batch uses again. */
export interface AdapterGradients {
  /** In the order of the adapter's groups. */
  readonly groups: readonly GroupGradients[];
  /** `[D]`, of DoRA's magnitudes; null without. */
  readonly magnitude: Float32Array | null;
}

/** Every array of some gradients, to be checked, measured or scaled. */
export function gradientArrays({ groups, magnitude }: AdapterGradients): Float32Array[] {
  return [...groups.flatMap(({ rows, b }) => [rows?.data, b?.data]), magnitude].filter(
    (array) => array instanceof Float32Array,
  );
}

/** See `Delta.b`. */
const mostKernelRank = 4096;

interface Training {
  readonly magnitudeRule: UpdateRule;
  readonly magnitudeRateOf: (step: number) => number;
  readonly magnitudeState: readonly Float32Array[];
}

/** What DoRA does to a lookup. */
interface Scaling {
  /** `[D]`: column norms, and magnitude / norm. */
  readonly norms: Float64Array;
  readonly columns: Float32Array;
  /** `[b, D]`: the pooled base rows; null where they are not wanted. */
  readonly base: Matrix | null;
}

/** What the last lookup that kept something left for the gradients. */
interface Kept {
  readonly plan: LookupPlan;
  /** The plan of the delta: weights may differ from those of `plan`. */
  readonly used: LookupPlan;
  readonly scaling: Scaling | null;
  /** As a device has them. */
  readonly deltas?: readonly DeviceDelta[];
}

/** What is known of an adapter that is there already, in a file or from others. Its rank may pass the dims, as sums of adapters do. */
export interface AdapterOrigin {
  /** Sums of squares of the base's columns: DoRA's pass over it is spared. */
  readonly baseSquares?: Float64Array | null | undefined;
  /** Rows that the adapter was made for, where the table has more: DoRA's norms are those of their columns. */
  readonly rows?: number | undefined;
  /** The table was opened for this adapter and is closed with it. */
  readonly ownsTable?: boolean | undefined;
}

/** A trained difference over a frozen table: groups of touched rows, low-rank or dense. Made by {@link createAdapter} or {@link loadAdapters}; to be closed. Not for several threads. */
export class Adapter {
  readonly table: ShardedTable;
  readonly options: AdapterOptions;
  /** The rest first, then `options.groups`; every row is in at most one. */
  readonly groups: readonly RowGroup[];
  /** DoRA's magnitudes, `[D]`, owned by the adapter; null without. */
  readonly magnitude: Float32Array | null;
  readonly #norms: ColumnNorms | null;
  /** Column norms of all rows as they are, from `settle` until the next update. */
  #exact: Float64Array | null = null;
  readonly #ownsTable: boolean;
  #training: Training | null = null;
  #step = 0;
  readonly #scratch = new Scratch();
  #kept: Kept | null = null;
  /** Batches that gradients were made of since the last update. */
  #pending = 0;

  /** @param made of an adapter that is there already, in a file or from others */
  constructor(table: ShardedTable, options: AdapterOptions, made: AdapterOrigin | null = null) {
    checkAdapter(options, table);
    this.table = table;
    this.options = options;
    this.#ownsTable = made?.ownsTable ?? false;
    const { seed = 0, paddingRow, rows, groups = [], dora = false } = options;
    const mostRank = made ? mostKernelRank : Math.min(table.rows, table.dim);
    let free = new RowSet(Int32Array.of(0, table.rows));
    if (paddingRow !== undefined) free = free.without(RowSet.of([paddingRow], table.rows, `${table.name}: paddingRow`));
    const named = groups.map((group) => {
      const where = `${table.name}: group ${JSON.stringify(group.name)}`;
      const asked = RowSet.of(group.rows, table.rows, `${where}: rows`);
      const members = asked.and(free);
      free = free.without(members);
      if (members.count === 0) throw invalid(`${where}: all its rows are in groups before it`);
      return new RowGroup(table, group.name, members, group, seed, where, mostRank);
    });
    const added = grownGroup(options, table, free);
    if (added) {
      free = free.without(added.members);
      named.push(new RowGroup(table, 'grown', added.members, added.factors, seed, `${table.name}: grown`, mostRank));
    }
    const rest = rows === undefined ? free : free.and(RowSet.of(rows, table.rows, `${table.name}: rows`));
    if (rows !== undefined && !made && rest.count === 0)
      throw invalid(`${table.name}: rows: all of them are in groups, or are the padding row`);
    this.groups = [new RowGroup(table, 'rest', rest, options, seed, table.name, mostRank), ...named];
    this.#norms = dora ? new ColumnNorms(table, this.groups, made?.baseSquares ?? null, made?.rows) : null;
    this.magnitude = this.#norms && Float32Array.from(this.#norms.baseSquares, Math.sqrt);
  }

  get #kernels(): Kernels {
    return this.table.kernels;
  }

  /** Rows that training has touched. */
  get touchedRows(): number {
    return this.groups.reduce((sum, group) => sum + group.touchedRows, 0);
  }

  /** Steps taken since training began. */
  get step(): number {
    return this.#step;
  }

  /** Whether the delta can be added to base rows pooled before; not so where those are to be rescaled. */
  get addsApart(): boolean {
    return this.options.maxNorm === undefined;
  }

  /** Bytes in use: A and B, the slot map, and the optimiser's state. None of it grows with V. */
  get memory(): { readonly adapterBytes: number; readonly slotBytes: number; readonly optimizerBytes: number } {
    const memories = this.groups.map(({ memory }) => memory);
    const sum = (of: (memory: RowGroup['memory']) => number): number => memories.reduce((total, m) => total + of(m), 0);
    return {
      adapterBytes: sum((m) => m.adapterBytes) + (this.magnitude?.byteLength ?? 0),
      slotBytes: sum((m) => m.slotBytes),
      optimizerBytes: sum((m) => m.optimizerBytes) + (this.#norms?.sizeBytes ?? 0),
    };
  }

  /**
   * Gives the adapter an optimiser with fresh state; where it has the same one already, training goes on.
   * @throws INVALID_ARGUMENT for bad settings, or where it is being trained with others
   */
  startTraining(optimizer: OptimizerSpec): void {
    const still = ({ options, untouched, touchedRows }: RowGroup): boolean =>
      options.kind !== 'dense' && options.freeze === 'A' && !untouched && touchedRows === 0;
    if (this.groups.every((group) => still(group) || group.members.count === 0)) {
      throw invalid(
        `${this.table.name}: A is frozen at 0, so nothing would be trained; allowed with init "keras", or with an adapter that was loaded`,
      );
    }
    for (const group of this.groups) group.startTraining(optimizer);
    if (this.#training) return;
    const { learningRate, weightDecay } = this.options;
    const magnitudeRule = ruleOf(optimizer, { learningRate, weightDecay });
    const length = this.magnitude?.length ?? 0;
    const magnitudeState = stateColumns(magnitudeRule, length).map((cols) => new Float32Array(cols));
    const magnitudeRateOf = rateOf(optimizer, magnitudeRule.learningRate);
    this.#training = { magnitudeRule, magnitudeRateOf, magnitudeState };
  }

  /** E = Σ w (W + s A B)[id] into `out` (`[b, D]`, overwritten). With `keep`, as in training: what `gradients` needs is kept. */
  lookup(plan: LookupPlan, out: Matrix, keep = false): void {
    const { maxNorm, dropout = 0 } = this.options;
    const used = maxNorm === undefined ? plan : this.#rescaled(plan, maxNorm);
    if (keep && dropout > 0) {
      this.table.lookup(used, out);
      this.#addDeltas(plan, used, out, keep);
      return;
    }
    const scaling = this.#scaling(used, keep);
    const pooledFactors = keep ? this.groups[0]!.pooledFactors(used) : null;
    this.table.lookup(used, out, this.#delta(0, used, scaling), pooledFactors);
    this.#addRest(1, used, scaling, out, keep);
    if (keep) this.#kept = { plan, used, scaling };
  }

  /**
   * The rest of a `lookup` whose base rows `table.pool` has put into `out`; the same bytes as `lookup`.
   * @throws INVALID_ARGUMENT where the adapter does not `addsApart`
   */
  addDelta(plan: LookupPlan, out: Matrix, keep = false): void {
    if (!this.addsApart)
      throw invalid(`${this.table.name}: maxNorm rescales base rows too, so they cannot be pooled before`);
    this.#addDeltas(plan, plan, out, keep);
  }

  /**
   * As `lookup`, computed by the device that has the table: A's rows of this batch and B go there. E is the caller's to dispose.
   * @param lookup that `table.begin` began
   */
  adapt(lookup: DeviceLookup, keep = false): DeviceMatrix {
    const { plan } = lookup;
    const used = keep ? this.#dropped(plan) : plan;
    const deltas = this.groups.map((group) => group.deviceDelta(used, this.#step));
    const e = lookup.adapt(deltas, used === plan ? null : used.weights);
    if (keep) this.#kept = { plan, used, scaling: null, deltas };
    return e;
  }

  /**
   * As `gradients`, after `adapt(lookup, true)`: only the gradients of A's rows and B come back.
   * @param gradient `[b, D]`, or parts of it on the device, top to bottom
   */
  async deviceGradients(lookup: DeviceLookup, gradient: Matrix | readonly DeviceMatrix[]): Promise<AdapterGradients> {
    const { deltas } = this.#keptOf(lookup.plan);
    if (!deltas) throw invalid(`${this.table.name}: deviceGradients comes after adapt`);
    this.#pending++;
    const groups = this.groups.map((group, i) => group.deviceGradients(deltas[i]!));
    await lookup.gradients(gradient, groups);
    return { groups, magnitude: null };
  }

  /** The plan with the places of this step's dropout left out; the plan itself without. */
  #dropped(plan: LookupPlan): LookupPlan {
    const { dropout = 0, seed = 0 } = this.options;
    const stream = `${this.table.name}/dropout/${this.#step}${this.#pending > 0 ? `/${this.#pending}` : ''}`;
    return dropout > 0 ? dropPlaces(plan, dropout, seed, stream) : plan;
  }

  #addDeltas(plan: LookupPlan, rescaled: LookupPlan, out: Matrix, keep: boolean): void {
    const used = keep ? this.#dropped(rescaled) : rescaled;
    const scaling = this.#scaling(used, keep);
    this.#addRest(0, used, scaling, out, keep);
    if (keep) this.#kept = { plan, used, scaling };
  }

  /** The deltas of groups from `first` on. */
  #addRest(first: number, plan: LookupPlan, scaling: Scaling | null, out: Matrix, keep: boolean): void {
    for (let g = first; g < this.groups.length; g++) {
      const pooledFactors = keep ? this.groups[g]!.pooledFactors(plan) : null;
      this.#kernels.addDelta({ plan, delta: this.#delta(g, plan, scaling), out, pooledFactors });
    }
  }

  /** Of one group; the base is kept before the first one's, and magnitudes are multiplied with the last one's. */
  #delta(group: number, plan: LookupPlan, scaling: Scaling | null): LookupDelta {
    const delta = this.groups[group]!.delta(plan, this.#step);
    if (!scaling) return delta;
    const last = group === this.groups.length - 1;
    return { ...delta, pooledBase: group === 0 ? scaling.base : null, columns: last ? scaling.columns : null };
  }

  /** Of DoRA, for a lookup of this plan. */
  #scaling(plan: LookupPlan, keep: boolean): Scaling | null {
    // Training reads what it counted itself, so that nothing that is read beside it changes it.
    const norms = keep ? (this.#norms?.norms() ?? null) : this.#columnNorms();
    if (!norms) return null;
    const base = keep ? this.#scratch.matrix('base', planBags(plan), this.table.dim) : null;
    return { norms, columns: this.#magnitudeFactors(norms), base };
  }

  /** magnitude / norm of every dim; a column of zeros has no direction to scale. */
  #magnitudeFactors(norms: Float64Array): Float32Array {
    const factors = this.magnitude!.slice();
    for (let j = 0; j < factors.length; j++) factors[j] = norms[j]! > 0 ? factors[j]! / norms[j]! : 1;
    return factors;
  }

  /** The plan with the weights of rows longer than `maxNorm` scaled down. */
  #rescaled(plan: LookupPlan, maxNorm: number): LookupPlan {
    const { uniqueRows, placeUnique } = plan;
    const each = rowByRow(plan);
    const vectors = this.#scratch.matrix('each', uniqueRows.length, this.table.dim);
    const [first, ...others] = this.groups;
    this.table.lookup(each, vectors, first!.delta(each, this.#step));
    for (const group of others)
      this.#kernels.addDelta({ plan: each, delta: group.delta(each, this.#step), out: vectors });
    const norms = new Float32Array(uniqueRows.length);
    this.#kernels.normalizeRows(vectors, norms);
    return withWeights(plan, (place) => {
      const norm = norms[placeUnique[place]!]!;
      return norm > maxNorm ? maxNorm / norm : 1;
    });
  }

  /**
   * Gradients of A's rows, B and magnitudes from `gradient` = ∂L/∂E (`[b, D]`), after `lookup(plan, …, true)` of the same plan.
   * Duplicates are summed.
   * @throws INVALID_ARGUMENT where the last lookup that kept something was of another plan
   */
  gradients(plan: LookupPlan, gradient: Matrix): AdapterGradients {
    const { used, scaling, deltas } = this.#keptOf(plan);
    if (deltas) throw invalid(`${this.table.name}: what adapt kept is on a device; use deviceGradients`);
    this.#pending++;
    if (!scaling)
      return { groups: this.groups.map((group) => group.gradients(used, gradient, this.#step, null)), magnitude: null };
    // Σ over bags of g · (W + s A B) / norm, the part of W now and that of s A B by group.
    const { norms, columns, base } = scaling;
    const dots = this.#scratch.matrix('magnitude', 1, this.table.dim).data;
    this.#kernels.columnDots(gradient, base!, dots);
    const groups = this.groups.map((group) => group.gradients(used, gradient, this.#step, { columns, dots }));
    for (let j = 0; j < dots.length; j++) dots[j] = norms[j]! > 0 ? dots[j]! / norms[j]! : 0;
    return { groups, magnitude: dots };
  }

  #keptOf(plan: LookupPlan): Kept {
    const kept = this.#kept;
    if (kept?.plan === plan) return kept;
    throw invalid(`${this.table.name}: gradients of a plan that was not the last one looked up with keep = true`);
  }

  /**
   * One optimiser step with these gradients, of one batch or of several (`GradientSum`); rows seen for the first time get their slots here.
   */
  update(plan: PlanRows, gradients: AdapterGradients): void {
    const training = this.#training;
    if (!training) throw invalid(`${this.table.name}: startTraining comes before update`);
    const kept = this.#kept?.plan === plan ? this.#kept : null;
    const step = this.#step + 1;
    const base = kept?.scaling?.base;
    const rows = base ? unpooledRows(kept.used, base) : null;
    this.groups.forEach((group, i) => group.update(kept?.used ?? plan, gradients.groups[i]!, step, rows));
    if (this.magnitude && gradients.magnitude) {
      this.#kernels.updateDense({
        rule: { ...training.magnitudeRule, learningRate: training.magnitudeRateOf(step) },
        step,
        parameters: this.magnitude,
        state: training.magnitudeState,
        gradients: gradients.magnitude,
      });
    }
    this.#exact = null;
    this.#pending = 0;
    this.#step = step; // only now: gradients that a kernel refused are no step
  }

  /** Brings every touched row to the current step, as exporting needs. */
  settle(): void {
    for (const group of this.groups) group.settle(this.#step);
    this.#exact ??= this.#norms?.norms(true) ?? null;
  }

  #columnNorms(): Float64Array | null {
    return this.#exact ?? this.#norms?.norms() ?? null;
  }

  /** The adapted rows e = W + s A B of these ids, `[ids.length, D]`, newly allocated. @throws ID_OUT_OF_RANGE */
  vectors(ids: Int32Array): Matrix {
    if (this.magnitude) this.settle(); // column norms are those of all rows
    const out = matrix(ids.length, this.table.dim);
    this.lookup(makePlan({ values: ids, offsets: range(ids.length + 1) }, this.table.rows), out);
    return out;
  }

  /**
   * The k nearest rows of each query (`[q, D]`) in the adapted table, which is never merged; see `ShardedTable.nearest`.
   * Until it settles, the adapter must not be trained. Of several groups, and with init `keras`, the deltas of all rows that they
   * change take D f32 a row meanwhile.
   * @throws what `ShardedTable.nearest` does; UNSUPPORTED with `maxNorm`, and for cosine with `dora`
   */
  async nearest(queries: Matrix, k: number, options: NearestOptions = {}): Promise<Nearest> {
    this.settle();
    return nearestAdapted(this, queries, k, options);
  }

  /** `[D]`: what every dim of a vector is multiplied by last, magnitude / norm; null without DoRA. Call `settle` before. */
  columnFactors(): Float32Array | null {
    const norms = this.#columnNorms();
    return norms && this.#magnitudeFactors(norms);
  }

  /** @internal Optimiser state of the magnitudes, for checkpoints. */
  get magnitudeState(): readonly Float32Array[] {
    return this.magnitude ? (this.#training?.magnitudeState ?? []) : [];
  }

  /** @internal */
  get norms(): ColumnNorms | null {
    return this.#norms;
  }

  /** @internal Sets the step that a file was written at; its groups are `reset` one by one. */
  resume(step: number): void {
    this.#step = step;
    this.#pending = 0;
    this.#kept = null;
    this.#exact = null;
  }

  /** Frees factors and state; the table stays open, unless it is one that `loadAdapters` grew for this adapter. */
  close(): void {
    for (const group of this.groups) group.close();
    this.#norms?.close();
    if (this.#ownsTable) this.table.close();
  }
}

/** A new adapter whose delta is 0. @throws INVALID_ARGUMENT for options that are wrong or do not go together */
export function createAdapter(table: ShardedTable, options: AdapterOptions): Adapter {
  return new Adapter(table, options);
}

/** The group that rows of a grown table are in by default. @param free rows that are in no group */
function grownGroup(
  { grown, groups = [], kind, rows, learningRate, weightDecay }: AdapterOptions,
  { grownFrom, name }: ShardedTable,
  free: RowSet,
): { readonly members: RowSet; readonly factors: FactorOptions } | null {
  if (typeof grown === 'object' && (rows !== undefined || groups.some((group) => group.name === 'grown')))
    throw invalid(`${name}: grown goes without rows and without a group of that name`);
  const asked = typeof grown === 'object';
  if (grownFrom === null) {
    if (asked) throw invalid(`${name}: grown is about rows that were added to a table; this one was not grown`);
    return null;
  }
  // By default it is dense, and so nothing else where all is dense.
  if (grown === 'tied' || rows !== undefined || groups.some((group) => group.name === 'grown')) return null;
  if (!asked && kind === 'dense') return null;
  const members = free.without(new RowSet(Int32Array.of(0, grownFrom)));
  if (members.count === 0) return null;
  return { members, factors: asked ? grown : { kind: 'dense', learningRate, weightDecay } };
}

function invalid(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', message);
}
