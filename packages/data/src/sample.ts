/** A look at a source: what its columns are called, how many examples it has, and the first of them. */
import { throwIfStopped } from './errors.ts';
import { checkInteger } from './check.ts';
import { indexSource, openSource, type Row, type SourceFormat } from './source.ts';
import type { SourceSpec } from './spec.ts';

export interface SampleOptions {
  /** Default 100. */
  readonly rows?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SourceSample {
  readonly format: SourceFormat;
  /** Names in the order of the CSV header; of JSON Lines, those of the rows below as they first appear. */
  readonly columns: readonly string[];
  readonly sizeBytes: number;
  /** Examples in the whole file. */
  readonly totalRows: number;
  /** The first examples: as many as were asked for, fewer where they are long (16 MiB of the file, at least one). */
  readonly rows: readonly SampleRow[];
}

export interface SampleRow {
  /** Of the file, from 1; a CSV header is line 1. */
  readonly line: number;
  /** By column name: JSON values, or text in CSV. A JSON Lines row may lack columns that others have. */
  readonly values: Row;
}

const longestSampleBytes = 16 << 20;

/**
 * Reads a file once, on the calling thread, giving way to other work every MiB; memory does not grow with the file.
 *
 * @throws INVALID_ARGUMENT (`rows`, or no known format), NOT_FOUND, IO, INVALID_FILE (not a regular file, or changed
 *   while it was read), INVALID_DATA naming the line (no examples, a broken header or record), INTERRUPTED
 */
export async function sampleSource(source: SourceSpec, options: SampleOptions = {}): Promise<SourceSample> {
  const { rows = 100, signal } = options;
  checkInteger('rows', rows, 1, 2 ** 31 - 1);
  throwIfStopped(signal, source.file);
  const index = await indexSource(source, signal, rows);
  const { format, sizeBytes, totalExamples: totalRows, offsets, lines } = index;
  let count = index.examples;
  while (count > 1 && offsets[count]! - offsets[0]! > longestSampleBytes) count--;
  const reader = openSource(source, index, []);
  try {
    const values = reader.readFirst(count);
    const columns = index.columns ?? [...new Set(values.flatMap((row) => Object.keys(row)))];
    return { format, columns, sizeBytes, totalRows, rows: values.map((row, i) => ({ line: lines[i]!, values: row })) };
  } finally {
    reader.close();
  }
}
