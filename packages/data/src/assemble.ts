/** Batches out of rows of the source: read, extract, plan. One per thread, since it keeps the file open and the vocabularies loaded. */
import { makeSharedPlan, planBuffers, type Jagged, type LookupPlan, type Pooling } from '@finetable/core';
import type { Batch, FeatureBags } from './batch.ts';
import { compileFeature, type FeatureExtractor } from './feature.ts';
import { classIndices, labelIndices } from './label.ts';
import { openSource, type SourceIndex, type SourceReader } from './source.ts';
import type { DataSpec } from './spec.ts';

export class BatchAssembler {
  readonly #data: DataSpec;
  readonly #features: ReadonlyMap<string, FeatureExtractor>;
  readonly #classes: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly #source: SourceReader;

  /** @param data with the classes of every label */
  constructor(data: DataSpec, index: SourceIndex) {
    this.#data = data;
    this.#features = new Map(
      Object.entries(data.features).map(([name, spec]) => [name, compileFeature(spec, data.tables[spec.table]!.rows)]),
    );
    const labels = Object.entries(data.labels);
    this.#classes = new Map(labels.map(([name, { classes }]) => [name, classIndices(classes!)]));
    this.#source = openSource(data.source, index, columnsOf(data));
  }

  /** @returns the batch and the bytes read for it */
  make(epoch: number, index: number, rows: Uint32Array): { batch: Batch; sizeBytes: number } {
    const records = this.#source.read(rows);
    const bags: Record<string, FeatureBags> = {};
    const byTable = new Map<string, { ids: Jagged; pooling: Pooling }[]>();
    for (const [name, { extract }] of this.#features) {
      const { table, pooling = 'mean' } = this.#data.features[name]!;
      const shared = byTable.get(table) ?? [];
      byTable.set(table, shared);
      bags[name] = { table, firstBag: shared.length * rows.length, bags: rows.length };
      shared.push({ ids: extract(records), pooling });
    }
    const plans: Record<string, LookupPlan> = {};
    for (const [table, shared] of byTable) plans[table] = makeSharedPlan(shared, this.#data.tables[table]!.rows, table);
    const labels: Record<string, Int32Array> = {};
    for (const [name, indices] of this.#classes) {
      labels[name] = labelIndices(records, this.#data.labels[name]!.column, indices);
    }
    const batch = { epoch, index, size: rows.length, plans, features: bags, labels, lines: records.lines };
    return { batch, sizeBytes: records.sizeBytes };
  }

  close(): void {
    this.#source.close();
  }
}

/** Every column that a batch is made of, each once. */
export function columnsOf({ features, labels }: DataSpec): string[] {
  const columns = Object.values(features).flatMap(({ column, weights }) =>
    weights === undefined ? [column] : [column, weights],
  );
  return [...new Set([...columns, ...Object.values(labels).map(({ column }) => column)])];
}

/** The buffers under a batch, each once although arrays may share one: a buffer can be transferred only once. */
export function batchBuffers(batch: Batch): Set<ArrayBuffer> {
  const buffers = new Set(Object.values(batch.plans).flatMap(planBuffers));
  for (const array of [...Object.values(batch.labels), batch.lines]) buffers.add(array.buffer as ArrayBuffer);
  return buffers;
}
