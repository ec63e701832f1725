/** A look at a source: what its columns are called, how many examples it has, and the first of them. */
import { throwIfStopped } from './errors.ts';
import { checkInteger } from './refuse.ts';
import { filesOf } from './source/files.ts';
import { isCompressed, TemporaryFolder } from './source/compressed.ts';
import { readFirst, scanFile, type FileIndex, type SourceFormat } from './source/source.ts';
import type { FileSource, Row } from './spec.ts';

export interface SampleOptions {
  /** Default 100. */
  readonly rows?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SourceSample {
  readonly format: SourceFormat;
  /** Names in the order of the CSV header, or of the schema of Parquet and Arrow; of JSON Lines, those of the rows below as they first appear. */
  readonly columns: readonly string[];
  /** By name the types of columns that examples cannot be made of; rows come without them. */
  readonly unreadable: Readonly<Record<string, string>>;
  /** Decompressed, where it is a compressed file. */
  readonly sizeBytes: number;
  /** Examples in the whole file. */
  readonly totalRows: number;
  /** The first examples: as many as were asked for, fewer where they are long (16 MiB of the file, at least one). */
  readonly rows: readonly SampleRow[];
}

export interface SampleRow {
  /** Of the file, from 1; a CSV header is line 1. The number of the row in Parquet and Arrow. */
  readonly line: number;
  /** By column name: JSON values, or text in CSV. A JSON Lines row may lack columns that others have. */
  readonly values: Row;
}

const longestSampleBytes = 16 << 20;

/**
 * Reads each file once, on the calling thread, giving way to other work every MiB; memory does not grow with the files. The rows
 * are of the first file.
 *
 * @throws INVALID_ARGUMENT (`rows`, or no known format), NOT_FOUND, IO, INVALID_FILE (not a regular file, or changed
 *   while it was read), INVALID_DATA naming the line (no examples, a broken header or record), INTERRUPTED
 */
export async function sampleSource(source: FileSource, options: SampleOptions = {}): Promise<SourceSample> {
  const { rows = 100, signal } = options;
  checkInteger('rows', rows, 1, 2 ** 31 - 1);
  const [first, ...others] = await filesOf(source);
  throwIfStopped(signal, first!);
  const temporary = new TemporaryFolder();
  try {
    const scan = (file: string, limit: number): Promise<FileIndex> =>
      scanFile(file, source, { signal, limit, path: isCompressed(file) ? temporary.pathFor(file) : file });
    const index = await scan(first!, rows);
    let { sizeBytes, totalExamples: totalRows } = index;
    for (const file of others) {
      const other = await scan(file, 1);
      totalRows += other.totalExamples;
      sizeBytes += other.sizeBytes;
    }
    const sample = await readFirst(index, Math.min(rows, index.examples), longestSampleBytes);
    const columns = index.columns ?? [...new Set(sample.flatMap(({ values }) => Object.keys(values)))];
    const unreadable = Object.fromEntries(index.unreadable);
    return { format: index.format as SourceFormat, columns, unreadable, sizeBytes, totalRows, rows: sample };
  } finally {
    temporary.remove();
  }
}
