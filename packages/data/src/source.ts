/**
 * A source: a file whose examples are numbered from 0 and can be read in any order. An index pass finds where they lie;
 * readers, one per thread, fetch the columns that are wanted. What a feature or label sees is `Records`, whatever the format.
 */
import { FinetableError } from '@finetable/core';
import type { Place } from './errors.ts';
import type { SourceSpec } from './spec.ts';
import { indexTextFile } from './text-index.ts';
import { TextReader } from './text-reader.ts';

/** Where the examples of a file lie. Plain data over shared memory: threads pass it on without a copy. */
export interface SourceIndex {
  readonly format: SourceFormat;
  /** Size and modification time at the index pass; a reader refuses a file that has changed since. */
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  /** Column names where the file has a header; null where each record names its own. */
  readonly columns: readonly string[] | null;
  readonly examples: number;
  /** Examples in the file: as many, unless an index of the first alone was wanted. */
  readonly totalExamples: number;
  /** `[examples + 1]`: example i lies in bytes `offsets[i] .. offsets[i + 1]`, line ends and blank lines after it included. */
  readonly offsets: Float64Array;
  /** `[examples]`: its first line, from 1. */
  readonly lines: Float64Array;
}

export type SourceFormat = NonNullable<SourceSpec['format']>;

/** Some examples of a source, column by column. */
export interface Records {
  readonly file: string;
  /** Whether values are JSON values, or text that may mean numbers and lists. */
  readonly values: 'json' | 'text';
  /** `[size]`: the line of each, from 1. Given away: the batch takes it over. */
  readonly lines: Float64Array<ArrayBuffer>;
  /** One value per example. Every example has every column. */
  readonly columns: ReadonlyMap<string, readonly unknown[]>;
  /** Bytes read for them. */
  readonly sizeBytes: number;
}

/** A whole record: values by column name. */
export type Row = Readonly<Record<string, unknown>>;

/** Where record i has its value of a column. */
export function placeOf({ file, lines }: Records, i: number, column: string): Place {
  return { file, line: lines[i]!, column };
}

export interface SourceReader {
  /** @throws INVALID_DATA naming the line, INVALID_FILE where the file has changed, IO */
  read(rows: Uint32Array): Records;
  /** All columns of the first `count` records, whichever columns it was opened for. @throws as `read` */
  readFirst(count: number): Row[];
  close(): void;
}

const endings: Readonly<Record<string, SourceFormat>> = { '.jsonl': 'jsonl', '.ndjson': 'jsonl', '.csv': 'csv' };

export function formatOf({ file, format }: SourceSpec): SourceFormat {
  const found = format ?? endings[/\.[^./\\]+$/.exec(file)?.[0].toLowerCase() ?? ''];
  if (found === 'jsonl' || found === 'csv') return found;
  const problem =
    format === undefined ? 'the ending does not tell the format' : `unknown format ${JSON.stringify(format)}`;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${file}: ${problem}; allowed: ${Object.keys(endings).join(', ')}, or format "jsonl" or "csv"`,
    { file },
  );
}

/**
 * One pass over the file, block by block, giving way to other work after each.
 * @param limit examples to note the places of; the rest are only counted
 * @throws NOT_FOUND, IO, INVALID_DATA (no examples, a broken header, an unclosed quote), INTERRUPTED
 */
export function indexSource(source: SourceSpec, signal?: AbortSignal, limit?: number): Promise<SourceIndex> {
  return indexTextFile(source.file, formatOf(source), { signal, limit });
}

/** @throws INVALID_DATA where the header lacks a column, NOT_FOUND, IO */
export function openSource(source: SourceSpec, index: SourceIndex, columns: readonly string[]): SourceReader {
  return new TextReader(source.file, index, columns);
}
