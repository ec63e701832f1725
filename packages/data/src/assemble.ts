/** Batches out of records: extract, plan. One per thread, since it keeps the vocabularies loaded. */
import { makeSharedPlan, planBuffers, type Jagged, type LookupPlan, type Matrix, type Pooling } from '@finetable/core';
import type { Batch, FeatureBags } from './batch.ts';
import { compileWeight } from './example-weight.ts';
import { compileFeature, type FeatureExtractor } from './feature/feature.ts';
import { compileLabel, type LabelValues } from './label.ts';
import { columnsOfNumbers, compileNumbers } from './numbers.ts';
import { excludedColumns, NegativeSampler } from './negatives.ts';
import type { PreparedData } from './protocol.ts';
import type { Records } from './source/source.ts';
import { readName } from './source/values.ts';

export class BatchAssembler {
  readonly #data: PreparedData;
  readonly #features: ReadonlyMap<string, FeatureExtractor>;
  readonly #labels: ReadonlyMap<string, (records: Records) => LabelValues>;
  readonly #negatives: ReadonlyMap<string, NegativeSampler>;
  readonly #numbers: ReadonlyMap<string, (records: Records) => Matrix>;
  readonly #weights: ((records: Records) => Float32Array) | null;

  /** @param data of which everything is known; batches of other data show only which records are bad */
  constructor(data: PreparedData) {
    this.#data = data;
    const { features, labels, numbers = {}, weight, tables } = data;
    this.#features = mapValues(features, (spec, name) => compileFeature(spec, tables[spec.table]!.rows, name));
    const { negatives = {}, aliases = {}, seed = 0 } = data;
    this.#negatives = mapValues(negatives, (_, name) => new NegativeSampler(name, data, aliases[name] ?? null, seed));
    this.#labels = mapValues(labels, compileLabel);
    this.#numbers = mapValues(numbers, compileNumbers);
    this.#weights = weight ? compileWeight(weight) : null;
  }

  /** @param of the examples: their numbers in the source */
  make(
    epoch: number,
    index: number,
    records: Records,
    of: Uint32Array,
  ): { readonly batch: Batch; readonly planSeconds: number } {
    const { files, fileOf, unit, lines } = records;
    const size = lines.length;
    const bags: Record<string, FeatureBags> = {};
    const byTable = new Map<string, { firstBag: number; ids: Jagged; pooling: Pooling }[]>();
    const add = (name: string, table: string, ids: Jagged, pooling: Pooling, offsets?: Int32Array): void => {
      const shared = byTable.get(table) ?? [];
      byTable.set(table, shared);
      const last = shared.at(-1);
      const firstBag = last ? last.firstBag + last.ids.offsets.length - 1 : 0;
      bags[name] = { table, firstBag, bags: ids.offsets.length - 1, ...(offsets && { offsets }) };
      shared.push({ firstBag, ids, pooling });
    };
    for (const [name, { extract }] of this.#features) {
      const { table, pooling = 'mean' } = this.#data.features[name]!;
      const ids = extract(records);
      if (pooling === 'none') add(name, table, bagsOfOne(ids), 'sum', ids.offsets);
      else add(name, table, ids, pooling);
    }
    for (const [name, sampler] of this.#negatives) {
      const spec = this.#data.negatives![name]!;
      const values = sampler.draw(epoch, of, records);
      const offsets = Int32Array.from({ length: size + 1 }, (_, i) => i * spec.count);
      add(name, this.#data.features[spec.of]!.table, bagsOfOne({ values, offsets }), 'sum', offsets);
    }
    const planning = performance.now();
    const plans: Record<string, LookupPlan> = {};
    for (const [table, shared] of byTable) plans[table] = makeSharedPlan(shared, this.#data.tables[table]!.rows, table);
    const planSeconds = (performance.now() - planning) / 1000;
    const numbers: Record<string, Matrix> = {};
    for (const [name, read] of this.#numbers) numbers[name] = read(records);
    const weights = this.#weights ? this.#weights(records) : null;
    const batch = {
      ...{ epoch, index, size, plans, features: bags, ...this.#labelsOf(records), numbers, weights },
      ...{ ids: this.#idsOf(records), files, fileOf, unit, lines },
    };
    return { batch, planSeconds };
  }

  /** @throws what `make` throws for the first bad record */
  check(records: Records): void {
    for (const { extract } of this.#features.values()) extract(records);
    for (const sampler of this.#negatives.values()) sampler.excluded(records);
    for (const read of this.#numbers.values()) read(records);
    this.#weights?.(records);
    this.#labelsOf(records);
    this.#idsOf(records);
  }

  #labelsOf(records: Records): Pick<Batch, 'labels' | 'targets' | 'labelSets'> {
    const labels: Record<string, Int32Array> = {};
    const targets: Record<string, Float32Array> = {};
    const labelSets: Record<string, Jagged> = {};
    for (const [name, read] of this.#labels) {
      const found = read(records);
      if (found.type === 'class') labels[name] = found.indices;
      else if (found.type === 'number') targets[name] = found.values;
      else labelSets[name] = found.sets;
    }
    return { labels, targets, labelSets };
  }

  #idsOf(records: Records): string[] | null {
    const { id } = this.#data;
    return id ? Array.from(records.lines, (_, i) => readName(records, i, id.column)) : null;
  }
}

/** Each id a bag. */
function bagsOfOne(ids: Jagged): Jagged {
  return { ...ids, offsets: Int32Array.from({ length: ids.values.length + 1 }, (_, i) => i) };
}

function mapValues<S, T>(specs: Readonly<Record<string, S>>, compile: (spec: S, name: string) => T): Map<string, T> {
  return new Map(Object.entries(specs).map(([name, spec]) => [name, compile(spec, name)]));
}

/** A column that batches are made of. */
interface Column {
  readonly name: string;
  /** Whether something stands for missing values. */
  readonly optional: boolean;
}

function* eachColumn(data: PreparedData): Iterable<Column> {
  const { features, negatives = {}, labels, numbers = {}, weight, id } = data;
  const of = (name: string, spec: { readonly default?: unknown }): Column => ({
    name,
    optional: spec.default !== undefined,
  });
  for (const spec of Object.values(features)) {
    yield of(spec.column, spec);
    for (const column of spec.hash?.crossWith ?? []) yield of(column, spec);
    if (spec.weights !== undefined) yield of(spec.weights, spec);
  }
  for (const spec of Object.values(negatives))
    for (const column of excludedColumns(data, spec)) yield of(column, features[spec.of]!);
  for (const spec of Object.values(labels)) yield of(spec.column, spec);
  for (const spec of Object.values(numbers)) for (const column of columnsOfNumbers(spec)) yield of(column, spec);
  if (weight) yield of(weight.column, weight);
  if (id) yield of(id.column, {});
}

/** Every column that a batch is made of, each once. */
export function columnsOf(data: PreparedData): string[] {
  return [...new Set(Array.from(eachColumn(data), ({ name }) => name))];
}

/** Those that every record must have. */
export function requiredColumnsOf(data: PreparedData): string[] {
  return [...new Set(Array.from(eachColumn(data), ({ name, optional }) => (optional ? [] : [name])).flat())];
}

/** The buffers under a batch, each once although arrays may share one: a buffer can be transferred only once. */
export function batchBuffers(batch: Batch): Set<ArrayBuffer> {
  const buffers = new Set(Object.values(batch.plans).flatMap(planBuffers));
  const { labels, targets, labelSets, numbers, weights, fileOf, lines } = batch;
  const arrays: ArrayBufferView[] = [...Object.values(labels), ...Object.values(targets), lines];
  for (const { values, offsets } of Object.values(labelSets)) arrays.push(values, offsets);
  for (const { offsets } of Object.values(batch.features)) if (offsets) arrays.push(offsets);
  for (const { data } of Object.values(numbers)) arrays.push(data);
  if (weights) arrays.push(weights);
  if (fileOf) arrays.push(fileOf);
  for (const { buffer } of arrays) buffers.add(buffer as ArrayBuffer);
  return buffers;
}
