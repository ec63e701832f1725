/** Batches out of extracted examples: negatives drawn, plans made. */
import { makeSharedPlan, planBuffers, type Jagged, type LookupPlan, type Matrix, type Pooling } from '@finetable/core';
import type { Batch, FeatureBags } from './batch.ts';
import { columnKey, type Extracted, type ExtractedColumns } from './extract.ts';
import { excludedColumns, NegativeSampler } from './negatives.ts';
import type { BatchMemory } from './memory.ts';
import type { PreparedData } from './protocol.ts';

export class BatchAssembler {
  readonly #data: PreparedData;
  readonly #negatives: ReadonlyMap<string, NegativeSampler>;

  /** @param data of which everything is known */
  constructor(data: PreparedData) {
    this.#data = data;
    const { negatives = {}, aliases = {}, seed = 0 } = data;
    this.#negatives = new Map(
      Object.keys(negatives).map((name) => [name, new NegativeSampler(name, data, aliases[name] ?? null, seed)]),
    );
  }

  /**
   * @param examples of whose arrays none is kept
   * @param numbers of the examples in the source
   * @param memory that the batch comes to lie in
   */
  make(
    epoch: number,
    index: number,
    { places, columns }: Extracted,
    numbers: Uint32Array,
    memory: BatchMemory,
  ): { readonly batch: Batch; readonly planSeconds: number } {
    const size = places.lines.length;
    const bags: Record<string, FeatureBags> = {};
    const byTable = new Map<string, { firstBag: number; ids: Jagged; pooling: Pooling }[]>();
    const add = (name: string, table: string, ids: Jagged, pooling: Pooling, offsets?: Int32Array): void => {
      const shared = byTable.get(table) ?? [];
      byTable.set(table, shared);
      const last = shared.at(-1);
      const firstBag = last ? last.firstBag + last.ids.offsets.length - 1 : 0;
      bags[name] = { table, firstBag, bags: ids.offsets.length - 1, ...(offsets && { offsets: memory.copy(offsets) }) };
      shared.push({ firstBag, ids, pooling });
    };
    for (const [name, { table, pooling = 'mean' }] of Object.entries(this.#data.features)) {
      const ids = bagsOf(columns, columnKey.feature(name));
      if (pooling === 'none') add(name, table, bagsOfOne(ids), 'sum', ids.offsets);
      else add(name, table, ids, pooling);
    }
    for (const [name, sampler] of this.#negatives) {
      const spec = this.#data.negatives![name]!;
      const excluded = excludedColumns(this.#data, spec).map((_, i) => bagsOf(columns, columnKey.excluded(name, i)));
      const values = sampler.draw(epoch, numbers, excluded, places);
      const offsets = Int32Array.from({ length: size + 1 }, (_, i) => i * spec.count);
      add(name, this.#data.features[spec.of]!.table, bagsOfOne({ values, offsets }), 'sum', offsets);
    }
    const planning = performance.now();
    const plans: Record<string, LookupPlan> = {};
    for (const [table, shared] of byTable)
      plans[table] = makeSharedPlan(shared, this.#data.tables[table]!.rows, table, memory);
    const planSeconds = (performance.now() - planning) / 1000;
    const { files, fileOf, lines, unit } = places;
    const copied = { files, fileOf: fileOf && memory.copy(fileOf), lines: memory.copy(lines), unit };
    const batch = { epoch, index, size, plans, features: bags, ...this.#valuesOf(columns, size, memory), ...copied };
    return { batch, planSeconds };
  }

  #valuesOf(
    columns: ExtractedColumns,
    size: number,
    memory: BatchMemory,
  ): Pick<Batch, 'labels' | 'targets' | 'labelSets' | 'numbers' | 'weights' | 'ids'> {
    const { labels: specs, numbers: numberSpecs = {}, weight, id } = this.#data;
    const labels: Record<string, Int32Array> = {};
    const targets: Record<string, Float32Array> = {};
    const labelSets: Record<string, Jagged> = {};
    for (const [name, { type = 'class' }] of Object.entries(specs)) {
      const key = columnKey.label(name);
      if (type === 'class') labels[name] = memory.copy(cellsOf<Int32Array>(columns, key));
      else if (type === 'number') targets[name] = memory.copy(cellsOf<Float32Array>(columns, key));
      else {
        const { values, offsets } = bagsOf(columns, key);
        labelSets[name] = { values: memory.copy(values), offsets: memory.copy(offsets) };
      }
    }
    const numbers: Record<string, Matrix> = {};
    for (const name of Object.keys(numberSpecs)) {
      const data = memory.copy(cellsOf<Float32Array>(columns, columnKey.number(name)));
      const { width } = columns.get(columnKey.number(name)) as { readonly width: number };
      numbers[name] = { rows: size, cols: width, data };
    }
    const weights = weight ? memory.copy(cellsOf<Float32Array>(columns, columnKey.weight)) : null;
    const ids = id ? (columns.get(columnKey.id) as { readonly texts: readonly string[] }).texts : null;
    return { labels, targets, labelSets, numbers, weights, ids };
  }
}

// Which kind of column there is by a key is for the specification to say, which both sides have.

function bagsOf(columns: ExtractedColumns, key: string): Jagged {
  return (columns.get(key) as { readonly bags: Jagged }).bags;
}

function cellsOf<T extends Int32Array | Float32Array>(columns: ExtractedColumns, key: string): T {
  return (columns.get(key) as { readonly cells: Int32Array | Float32Array }).cells as T;
}

/** Each id a bag. */
function bagsOfOne(ids: Jagged): Jagged {
  return { ...ids, offsets: Int32Array.from({ length: ids.values.length + 1 }, (_, i) => i) };
}

/** The buffers under a batch: one, or several where it did not fit. */
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
