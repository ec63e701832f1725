/** Ids, labels and numbers out of records: what batches are made of. One per thread, since it keeps the vocabularies loaded. */
import type { Jagged } from '@finetable/core';
import { compileWeight } from './example-weight.ts';
import { compileFeature } from './feature/feature.ts';
import { compileLabel } from './label.ts';
import { excludedColumns, excludedExtractor } from './negatives.ts';
import { columnsOfNumbers, compileNumbers } from './numbers.ts';
import type { PreparedData } from './protocol.ts';
import type { Records, RecordPlaces } from './source/source.ts';
import { readName } from './source/values.ts';

/** One value, or bag of values, for each example. */
export type ExtractedColumn =
  | { readonly kind: 'bags'; readonly bags: Jagged }
  /** `[size, width]` */
  | { readonly kind: 'cells'; readonly cells: Int32Array | Float32Array; readonly width: number }
  | { readonly kind: 'texts'; readonly texts: readonly string[] };

/** What a column is, before there is one. */
export type ColumnShape =
  | { readonly kind: 'bags'; readonly weighted: boolean }
  | { readonly kind: 'cells'; readonly dtype: 'i32' | 'f32'; readonly width: number }
  | { readonly kind: 'texts' };

/** By key: `columnKey`. */
export type ExtractedColumns = ReadonlyMap<string, ExtractedColumn>;

export interface Extracted {
  readonly places: RecordPlaces;
  readonly columns: ExtractedColumns;
}

/** Of columns by what they are for. Of negatives there is a column for each of `exclude`. */
export const columnKey = {
  feature: (name: string) => `features/${name}`,
  excluded: (name: string, i: number) => `excluded/${i}/${name}`,
  number: (name: string) => `numbers/${name}`,
  label: (name: string) => `labels/${name}`,
  weight: 'weight',
  id: 'id',
} as const;

interface Extractor {
  readonly key: string;
  readonly shape: ColumnShape;
  readonly read: (records: Records) => ExtractedColumn;
}

export class ExampleExtractor {
  readonly #extractors: readonly Extractor[];

  /** @param data of which everything is known; of other data it only finds out which records are bad */
  constructor(data: PreparedData) {
    this.#extractors = [...extractorsOf(data)];
  }

  get shapes(): ReadonlyMap<string, ColumnShape> {
    return new Map(this.#extractors.map(({ key, shape }) => [key, shape]));
  }

  /** New arrays, but for those of `records` that say where they are from. @throws INVALID_DATA, ID_OUT_OF_RANGE for a bad record */
  extract(records: Records): Extracted {
    const { files, fileOf, unit, lines } = records;
    const columns = new Map(this.#extractors.map(({ key, read }) => [key, read(records)]));
    return { places: { files, fileOf, unit, lines }, columns };
  }
}

function* extractorsOf(data: PreparedData): Iterable<Extractor> {
  const { features, negatives = {}, numbers = {}, labels, weight, id, tables } = data;
  for (const [name, spec] of Object.entries(features)) {
    const { extract, weighted } = compileFeature(spec, tables[spec.table]!.rows, name);
    yield bags(columnKey.feature(name), extract, weighted);
  }
  for (const [name, spec] of Object.entries(negatives)) {
    for (const [i, column] of excludedColumns(data, spec).entries())
      yield bags(columnKey.excluded(name, i), excludedExtractor(data, spec, column).extract, false);
  }
  for (const [name, spec] of Object.entries(numbers)) {
    const read = compileNumbers(spec);
    yield cells(columnKey.number(name), 'f32', (records) => read(records).data, columnsOfNumbers(spec).length);
  }
  if (weight) yield cells(columnKey.weight, 'f32', compileWeight(weight));
  for (const [name, spec] of Object.entries(labels)) {
    const label = compileLabel(spec);
    const key = columnKey.label(name);
    if (label.type === 'class') yield cells(key, 'i32', label.read);
    else if (label.type === 'number') yield cells(key, 'f32', label.read);
    else yield bags(key, label.read, false);
  }
  if (id) {
    const read = (records: Records): string[] => Array.from(records.lines, (_, i) => readName(records, i, id.column));
    yield {
      key: columnKey.id,
      shape: { kind: 'texts' },
      read: (records) => ({ kind: 'texts', texts: read(records) }),
    };
  }
}

function bags(key: string, extract: (records: Records) => Jagged, weighted: boolean): Extractor {
  return { key, shape: { kind: 'bags', weighted }, read: (records) => ({ kind: 'bags', bags: extract(records) }) };
}

function cells(
  key: string,
  dtype: 'i32' | 'f32',
  extract: (records: Records) => Int32Array | Float32Array,
  width = 1,
): Extractor {
  return {
    key,
    shape: { kind: 'cells', dtype, width },
    read: (records) => ({ kind: 'cells', cells: extract(records), width }),
  };
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
