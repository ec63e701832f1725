/** Batches out of records: extract, plan. One per thread, since it keeps the vocabularies loaded. */
import { makeSharedPlan, planBuffers, type Jagged, type LookupPlan, type Pooling } from '@finetable/core';
import type { Batch, FeatureBags } from './batch.ts';
import { compileFeature, type FeatureExtractor } from './feature.ts';
import { classIndices, labelIndices } from './label.ts';
import type { PreparedData } from './protocol.ts';
import type { Records } from './source/source.ts';

export class BatchAssembler {
  readonly #data: PreparedData;
  readonly #features: ReadonlyMap<string, FeatureExtractor>;
  readonly #classes: ReadonlyMap<string, ReadonlyMap<string, number>>;

  /** @param data with the classes of every label */
  constructor(data: PreparedData) {
    this.#data = data;
    this.#features = new Map(
      Object.entries(data.features).map(([name, spec]) => [name, compileFeature(spec, data.tables[spec.table]!.rows)]),
    );
    const labels = Object.entries(data.labels);
    this.#classes = new Map(labels.map(([name, { classes }]) => [name, classIndices(classes!)]));
  }

  make(epoch: number, index: number, records: Records): Batch {
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
    const plans: Record<string, LookupPlan> = {};
    for (const [table, shared] of byTable) plans[table] = makeSharedPlan(shared, this.#data.tables[table]!.rows, table);
    const labels: Record<string, Int32Array> = {};
    for (const [name, indices] of this.#classes) {
      labels[name] = labelIndices(records, this.#data.labels[name]!.column, indices);
    }
    return { epoch, index, size, plans, features: bags, labels, files, fileOf, unit, lines };
  }
}

/** Every column that a batch is made of, each once. */
export function columnsOf({ features, labels }: PreparedData): string[] {
  const columns = Object.values(features).flatMap(({ column, weights }) =>
    weights === undefined ? [column] : [column, weights],
  );
  return [...new Set([...columns, ...Object.values(labels).map(({ column }) => column)])];
}

/** The buffers under a batch, each once although arrays may share one: a buffer can be transferred only once. */
export function batchBuffers(batch: Batch): Set<ArrayBuffer> {
  const buffers = new Set(Object.values(batch.plans).flatMap(planBuffers));
  for (const array of [...Object.values(batch.labels), batch.lines]) buffers.add(array.buffer as ArrayBuffer);
  if (batch.fileOf) buffers.add(batch.fileOf.buffer);
  return buffers;
}
