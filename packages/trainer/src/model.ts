/**
 * One model: tables, their adapters, and an objective over looked-up features. It knows how a batch flows forward and
 * backward; when to do so is the trainer's part.
 */
import { FinetableError, planBags, rowsOf, Scratch, type LookupPlan, type Matrix } from '@finetable/core';
import type { Batch, DataSpec } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import { gradientArrays, type Adapter, type AdapterGradients } from '@finetable/lora';
import type { DeviceLookup, DeviceMatrix, ShardedTable } from '@finetable/placement';
import { DeviceBatch, releasePooled, type PooledBatch } from './device-batch.ts';
import { badRow, nonFinite } from './non-finite.ts';
import { nearestTransformed } from './transformed-nearest.ts';
import type { Outputs, QueryOutputs, RetrievalOutputs } from './metrics/outputs.ts';
import type { DenseParameter, DeviceObjective, Evaluated, MetricSums, Objective } from './objective.ts';

/** Tables, adapters and an objective that belong together. */
export interface ModelOptions {
  /** Frozen tables without an adapter, by the names that features use. */
  readonly tables?: Readonly<Record<string, ShardedTable>> | undefined;
  /** Adapters, by the names that features use for their tables. */
  readonly adapters?: Readonly<Record<string, Adapter>> | undefined;
  readonly objective: Objective;
}

/** E of tables that devices compute. */
type Copies = ReadonlyMap<string, Matrix>;

/** What batches are made of. */
type ModelData = Pick<DataSpec, 'features' | 'negatives' | 'numbers'> & Partial<Pick<DataSpec, 'labels'>>;

export interface Trained {
  readonly sums: MetricSums;
  readonly gradients: ReadonlyMap<string, AdapterGradients>;
}

export class Model {
  readonly objective: Objective;
  readonly adapters: ReadonlyMap<string, Adapter>;
  readonly parameters: readonly DenseParameter[];
  readonly kernels: Kernels;
  readonly #tables: ReadonlyMap<string, ShardedTable>;
  readonly #classes: Readonly<Record<string, readonly string[]>>;
  readonly #features: DataSpec['features'];
  readonly #scratch = new Scratch();
  /** The tables of training batches so far, and whether there was an id for them. */
  readonly #read = new Map<string, boolean>();

  /**
   * @param data what the batches are made of: which feature reads which table
   * @param classes names per label
   * @throws INVALID_ARGUMENT where features, labels, tables and objective do not fit together
   */
  constructor(options: ModelOptions, data: ModelData, classes: Readonly<Record<string, readonly string[]>>) {
    const { tables = {}, adapters = {}, objective } = options;
    this.objective = objective;
    this.adapters = new Map(Object.entries(adapters));
    this.#tables = new Map([
      ...Object.entries(tables),
      ...[...this.adapters].map(([name, { table }]) => [name, table] as const),
    ]);
    for (const name of this.adapters.keys()) {
      if (name in tables) throw invalid(`table "${name}" is given both as frozen and with an adapter`);
    }
    if (new Set(this.adapters.values()).size < this.adapters.size)
      throw invalid('one adapter is given under two names');
    this.#classes = classes;
    this.#features = data.features;
    const featureDims = this.check(data, classes);
    const kernels = new Set([...this.#tables.values()].map((table) => table.kernels));
    if (kernels.size !== 1) throw invalid('all tables of a model share one kernels instance');
    this.kernels = [...kernels][0]!;
    const numberDims = Object.fromEntries(
      Object.entries(data.numbers ?? {}).map(([name, { column }]) => [
        name,
        typeof column === 'string' ? 1 : column.length,
      ]),
    );
    this.parameters = objective.initialize({ kernels: this.kernels, featureDims, numberDims, classes });
  }

  /**
   * Checks that batches made of `data` are this model's: its features over its tables, its classes in their order.
   * @returns dims of each feature's vectors
   * @throws INVALID_ARGUMENT; MISMATCH for other classes
   */
  check(data: ModelData, classes: Readonly<Record<string, readonly string[]>>): Readonly<Record<string, number>> {
    const { inputs, pooled = [], labels, targets = [], numbers = [] } = this.objective;
    const featureDims: Record<string, number> = {};
    const tables = [
      ...Object.entries(data.features).map(([feature, { table }]) => [feature, table] as const),
      ...Object.entries(data.negatives ?? {}).map(([feature, { of }]) => [feature, data.features[of]!.table] as const),
    ];
    for (const [feature, table] of tables) {
      const found = this.#tables.get(table);
      if (!found)
        throw invalid(
          `feature "${feature}" reads table "${table}"; there ${list('is', 'are', [...this.#tables.keys()])}`,
        );
      if (!inputs.includes(feature))
        throw invalid(`feature "${feature}" is not used; the objective reads ${inputs.join(', ')}`);
      featureDims[feature] = found.dim;
    }
    for (const input of inputs) {
      if (!(input in featureDims))
        throw invalid(`the objective reads feature "${input}"; there ${list('is', 'are', Object.keys(featureDims))}`);
    }
    for (const input of pooled) {
      const many = data.features[input] ? data.features[input].pooling === 'none' : 'sampled negatives';
      if (many)
        throw invalid(
          `feature "${input}" ${many === true ? 'has pooling "none"' : `is of ${many}`}; allowed for the objective: one vector for each example`,
        );
    }
    for (const name of this.adapters.keys()) {
      if (!Object.values(data.features).some(({ table }) => table === name))
        throw invalid(`no feature reads table "${name}", which has an adapter`);
    }
    for (const label of labels) {
      if (!(label in classes))
        throw invalid(`the objective reads label "${label}"; there ${list('is', 'are', Object.keys(classes))}`);
      if (JSON.stringify(classes[label]) !== JSON.stringify(this.#classes[label])) {
        throw new FinetableError(
          'MISMATCH',
          `label "${label}" has other classes than the data that was trained on; open the loader with \`classes\` of that one`,
          { label },
        );
      }
    }
    for (const target of targets) {
      if (data.labels?.[target]?.type !== 'number')
        throw invalid(`the objective reads the number "${target}"; no label of that name has type "number"`);
    }
    for (const name of numbers) {
      if (!(name in (data.numbers ?? {})))
        throw invalid(
          `the objective reads numbers "${name}"; there ${list('is', 'are', Object.keys(data.numbers ?? {}))}`,
        );
    }
    return featureDims;
  }

  /** Whether rows live on devices, so that a batch has to be pooled before it is trained on or evaluated. */
  get needsPool(): boolean {
    return [...this.#tables.values()].some(({ needsFetch }) => needsFetch);
  }

  /** @throws INVALID_FILE where the file of a mapped table has changed */
  async checkUnchanged(): Promise<void> {
    for (const table of this.#tables.values()) await table.checkUnchanged();
  }

  /**
   * Pools a batch's base rows of tables that are not all in RAM, off the JavaScript thread where the kernels can, into
   * matrices of `scratch`, which belong to the batch from then on. Rows in RAM are soonest read in the batch's turn. Of tables that a device
   * computes, lookups begin, which are given back by training, by evaluating or by `releasePooled`. Neither batch nor matrices may be changed
   * before it settles.
   * @param signal ends waiting for devices
   */
  async pool(batch: Batch, scratch: Scratch, signal: AbortSignal): Promise<PooledBatch> {
    const pooled = new Map<string, Matrix | DeviceLookup>();
    const pooling = Object.entries(batch.plans).map(async ([name, plan]) => {
      const table = this.#tables.get(name)!;
      if (table.computes) pooled.set(name, table.begin(plan));
      if (table.computes || table.inMemory || this.adapters.get(name)?.addsApart === false) return;
      const out = scratch.matrix(name, planBags(plan), table.dim);
      pooled.set(name, out);
      await table.pool(plan, out, signal);
    });
    // The memory is in use until all have ended, also where one fails.
    for (const result of await Promise.allSettled(pooling)) {
      if (result.status === 'fulfilled') continue;
      releasePooled(pooled);
      throw result.reason;
    }
    return pooled;
  }

  /** What a batch comes to, without gradients. @param pooled what `pool` made of it @throws NON_FINITE */
  async evaluate(batch: Batch, pooled: PooledBatch | null = null): Promise<Evaluated> {
    const there = new DeviceBatch(batch, this.#tables, this.adapters, pooled);
    try {
      const es = there.adapt(false);
      const staying = this.#staying(batch, es);
      const evaluated = staying
        ? await staying.evaluate(there.slice(es, batch), batch)
        : await this.objective.evaluate(this.#lookup(batch, false, pooled, await there.read(es)), batch);
      // An objective may be a program's own, and in JavaScript.
      if (typeof (evaluated as Evaluated | undefined)?.sums !== 'object')
        throw invalid('the objective: evaluate returns no { sums }; allowed: sums over the examples, loss among them');
      if (!Number.isFinite(evaluated.sums.loss)) throw nonFinite('the loss of an evaluation', batch);
      return evaluated;
    } finally {
      there.dispose();
    }
  }

  /** Vectors of a batch as the objective reads them, by feature; good until the next batch. */
  async embed(batch: Batch, pooled: PooledBatch | null): Promise<Readonly<Record<string, Matrix>>> {
    const there = new DeviceBatch(batch, this.#tables, this.adapters, pooled);
    try {
      const inputs = this.#lookup(batch, false, pooled, await there.read(there.adapt(false)));
      return this.objective.transformed?.(inputs) ?? inputs;
    } finally {
      there.dispose();
    }
  }

  /** Looks for the rows that an objective's queries ask for, exactly and over the whole table. @param k 0: nothing is looked for */
  async retrieve(outputs: Outputs | undefined, k: number): Promise<Outputs | undefined> {
    if (!outputs?.queries || k === 0) return outputs;
    return { ...outputs, retrieval: await this.#retrieve(outputs.queries, k) };
  }

  async #retrieve(queries: QueryOutputs, k: number): Promise<RetrievalOutputs> {
    const { feature, vectors, metric, transforms = [], relevant, seen, popularity } = queries;
    const name = this.#features[feature]!.table;
    const [table, adapter] = [this.#tables.get(name)!, this.adapters.get(name)];
    const { rows } = table;
    // So many more are looked for that k are left without those that do not count.
    const most = seen ? Math.max(0, ...seen.offsets.subarray(1).map((end, i) => end - seen.offsets[i]!)) : 0;
    const asked = Math.min(rows, k + most);
    const nearest = transforms.length
      ? await nearestTransformed(table, adapter, { vectors, metric, transforms }, asked)
      : (await (adapter ?? table).nearest(vectors, asked, { metric })).rows;
    const width = Math.min(k, rows);
    const found = new Int32Array(vectors.rows * width).fill(-1);
    for (let i = 0; i < vectors.rows; i++) {
      const skip = seen ? new Set(seen.values.subarray(seen.offsets[i], seen.offsets[i + 1])) : null;
      const kept = nearest.subarray(i * asked, (i + 1) * asked).filter((row) => !skip?.has(row));
      found.set(kept.subarray(0, width), i * width);
    }
    return { rows, k: width, found, relevant, popularity };
  }

  /**
   * Forward and backward: the objective's parameters get their gradients; each adapter's are returned and stay valid
   * until the next batch.
   * @param pooled what `pool` made of the batch; the results are the same without
   * @throws NON_FINITE naming table and row, or the batch's lines
   */
  async train(batch: Batch, pooled: PooledBatch | null = null): Promise<Trained> {
    const there = new DeviceBatch(batch, this.#tables, this.adapters, pooled);
    try {
      const es = there.adapt(true);
      const staying = this.#staying(batch, es);
      const found = staying
        ? await this.#trainThere(staying, there.slice(es, batch), batch, there)
        : await this.#trainHere(batch, pooled, there, await there.read(es));
      for (const [name, gradients] of found.gradients) {
        for (const array of gradientArrays(gradients)) {
          if (this.kernels.firstNonFinite(array) >= 0) throw nonFinite(`the gradient of table "${name}"`, batch);
        }
      }
      return found;
    } finally {
      there.dispose();
    }
  }

  /** The objective has matrices; those of devices are copied. */
  async #trainHere(batch: Batch, pooled: PooledBatch | null, there: DeviceBatch, copies: Copies): Promise<Trained> {
    const inputs = this.#lookup(batch, true, pooled, copies);
    const byTable = new Map<string, Matrix>();
    for (const name of this.adapters.keys()) {
      const plan = planOf(batch, name);
      byTable.set(name, this.#scratch.matrix(`${name}/gradient`, planBags(plan), this.#tables.get(name)!.dim));
    }
    const gradients: Record<string, Matrix> = {};
    for (const [feature, { table, firstBag, bags }] of Object.entries(batch.features)) {
      const whole = byTable.get(table);
      if (whole) gradients[feature] = rowsOf(whole, firstBag, bags);
    }
    const sums = await this.objective.train(inputs, batch, gradients);
    this.#checkLearnt(sums, batch);
    return {
      sums,
      gradients: await this.#eachAdapter(
        (name, adapter) =>
          there.gradients(name, byTable.get(name)!) ?? adapter.gradients(planOf(batch, name), byTable.get(name)!),
      ),
    };
  }

  /** The objective computes where the tables are: r-wide rows alone come back. */
  async #trainThere(
    objective: DeviceObjective,
    inputs: Readonly<Record<string, DeviceMatrix>>,
    batch: Batch,
    there: DeviceBatch,
  ): Promise<Trained> {
    for (const [name, plan] of Object.entries(batch.plans)) this.#count(name, plan);
    const features = Object.entries(batch.features).sort(([, a], [, b]) => a.firstBag - b.firstBag);
    const wanted = features.filter(([, { table }]) => this.adapters.has(table)).map(([feature]) => feature);
    const { sums, gradients } = await objective.train(inputs, batch, wanted);
    try {
      this.#checkLearnt(sums, batch);
      return {
        sums,
        gradients: await this.#eachAdapter((name) => {
          const own = features.filter(([, { table }]) => table === name);
          return there.gradients(name, own.map(([feature]) => gradients[feature]!))!; // prettier-ignore
        }),
      };
    } finally {
      for (const gradient of Object.values(gradients)) gradient.dispose();
    }
  }

  async #eachAdapter(
    gradients: (name: string, adapter: Adapter) => AdapterGradients | Promise<AdapterGradients>,
  ): Promise<Trained['gradients']> {
    // All begin before any is waited for: what kernels kept of the lookups is still there.
    const all = [...this.adapters].map(async ([name, adapter]) => [name, await gradients(name, adapter)] as const);
    return new Map(await Promise.all(all));
  }

  #checkLearnt(sums: MetricSums, batch: Batch): void {
    if (!Number.isFinite(sums.loss)) throw nonFinite('the loss', batch);
    for (const { name, gradient } of this.parameters) {
      if (this.kernels.firstNonFinite(gradient) >= 0) throw nonFinite(`the gradient of ${name}`, batch);
    }
  }

  /** Who computes where the vectors are; null where they must come here. */
  #staying({ plans }: Batch, es: ReadonlyMap<string, DeviceMatrix>): DeviceObjective | null {
    const { onDevice } = this.objective;
    if (!onDevice || es.size === 0 || es.size < Object.keys(plans).length) return null;
    return [...es.values()].every((e) => onDevice.accepts(e)) ? onDevice : null;
  }

  #count(name: string, plan: LookupPlan): void {
    this.#read.set(name, this.#read.get(name) === true || plan.uniqueRows.length > 0);
  }

  /** @throws INVALID_DATA where no training batch so far had an id for a table: its vectors were all zeros */
  checkRead(): void {
    for (const [name, read] of this.#read) {
      if (read) continue;
      throw new FinetableError(
        'INVALID_DATA',
        `table "${name}": no training example has an id in it; with tokens, check that the vocabulary has one word a line and fits the text`,
        { table: name },
      );
    }
  }

  #lookup(batch: Batch, keep: boolean, pooled: PooledBatch | null, copies: Copies): Record<string, Matrix> {
    const byTable = new Map<string, Matrix>();
    for (const [name, plan] of Object.entries(batch.plans)) {
      if (keep) this.#count(name, plan);
      const table = this.#tables.get(name)!;
      const copy = copies.get(name);
      const out = copy ?? this.#lookUp(name, plan, keep, pooled?.get(name) as Matrix | undefined);
      const bad = this.kernels.firstNonFinite(out.data);
      if (bad >= 0) throw badRow(name, table, plan, Math.floor(bad / table.dim), batch);
      byTable.set(name, out);
    }
    const inputs: Record<string, Matrix> = {};
    for (const [feature, { table, firstBag, bags }] of Object.entries(batch.features)) {
      inputs[feature] = rowsOf(byTable.get(table)!, firstBag, bags);
    }
    return inputs;
  }

  /** @param early the base rows, pooled */
  #lookUp(name: string, plan: LookupPlan, keep: boolean, early: Matrix | undefined): Matrix {
    const table = this.#tables.get(name)!;
    const adapter = this.adapters.get(name);
    const out = early ?? this.#scratch.matrix(`${name}/out`, planBags(plan), table.dim);
    if (early) adapter?.addDelta(plan, out, keep);
    else if (adapter) adapter.lookup(plan, out, keep);
    else table.lookup(plan, out);
    return out;
  }
}

function planOf(batch: Batch, table: string): LookupPlan {
  const plan = batch.plans[table];
  if (!plan) throw invalid(`the batch has no ids for table "${table}"`);
  return plan;
}

function list(one: string, many: string, names: readonly string[]): string {
  if (names.length === 0) return `${one} none`;
  return `${names.length === 1 ? one : many} ${names.map((name) => `"${name}"`).join(', ')}`;
}

function invalid(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', message);
}
