/** Batches out of records: extract, plan. One per thread, since it keeps the vocabularies loaded. */
import { makeSharedPlan, planBuffers, type Jagged, type LookupPlan, type Matrix, type Pooling } from '@finetable/core';
import type { Batch, FeatureBags } from './batch.ts';
import { compileWeight } from './example-weight.ts';
import { compileFeature, type FeatureExtractor } from './feature/feature.ts';
import { compileLabel, type LabelValues } from './label.ts';
import { columnsOfNumbers, compileNumbers } from './numbers.ts';
import type { PreparedData } from './protocol.ts';
import type { Records } from './source/source.ts';
import { readName } from './source/values.ts';

export class BatchAssembler {
  readonly #data: PreparedData;
  readonly #features: ReadonlyMap<string, FeatureExtractor>;
  readonly #labels: ReadonlyMap<string, (records: Records) => LabelValues>;
  readonly #numbers: ReadonlyMap<string, (records: Records) => Matrix>;
  readonly #weights: ((records: Records) => Float32Array) | null;

  /** @param data of which everything is known; batches of other data show only which records are bad */
  constructor(data: PreparedData) {
    this.#data = data;
    const { features, labels, numbers = {}, weight, tables } = data;
    this.#features = mapValues(features, (spec, name) => compileFeature(spec, tables[spec.table]!.rows, name));
    this.#labels = mapValues(labels, compileLabel);
    this.#numbers = mapValues(numbers, compileNumbers);
    this.#weights = weight ? compileWeight(weight) : null;
  }

  make(epoch: number, index: number, records: Records): { readonly batch: Batch; readonly planSeconds: number } {
    const { files, fileOf, unit, lines } = records;
    const size = lines.length;
    const bags: Record<string, FeatureBags> = {};
    const byTable = new Map<string, { ids: Jagged; pooling: Pooling }[]>();
    for (const [name, { extract }] of this.#features) {
      const { table, pooling = 'mean' } = this.#data.features[name]!;
      const shared = byTable.get(table) ?? [];
      byTable.set(table, shared);
      bags[name] = { table, firstBag: shared.length * size, bags: size };
      shared.push({ ids: extract(records), pooling });
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

function mapValues<S, T>(specs: Readonly<Record<string, S>>, compile: (spec: S, name: string) => T): Map<string, T> {
  return new Map(Object.entries(specs).map(([name, spec]) => [name, compile(spec, name)]));
}

/** A column that batches are made of. */
interface Column {
  readonly name: string;
  /** Whether something stands for missing values. */
  readonly optional: boolean;
}

function* eachColumn({ features, labels, numbers = {}, weight, id }: PreparedData): Iterable<Column> {
  const of = (name: string, spec: { readonly default?: unknown }): Column => ({
    name,
    optional: spec.default !== undefined,
  });
  for (const spec of Object.values(features)) {
    yield of(spec.column, spec);
    for (const column of spec.hash?.crossWith ?? []) yield of(column, spec);
    if (spec.weights !== undefined) yield of(spec.weights, spec);
  }
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
  for (const { data } of Object.values(numbers)) arrays.push(data);
  if (weights) arrays.push(weights);
  if (fileOf) arrays.push(fileOf);
  for (const { buffer } of arrays) buffers.add(buffer as ArrayBuffer);
  return buffers;
}
