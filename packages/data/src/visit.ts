/** A look at the rows of a whole source: all of them, or runs of neighbours evenly spread over it. */
import { setImmediate } from 'node:timers/promises';
import { isBadValue, throwIfStopped } from './errors.ts';
import { checkInteger } from './refuse.ts';
import { readableColumns } from './source/blocks.ts';
import { isCompressed, TemporaryFolder } from './source/compressed.ts';
import { filesOf } from './source/files.ts';
import { Missing } from './source/missing.ts';
import {
  indexOf,
  scanFile,
  SourceReader,
  type Records,
  type SourceFormat,
  type SourceIndex,
  type SourceShape,
} from './source/source.ts';
import type { FileSource, Row } from './spec.ts';

/** Called for each row that is visited. */
export interface RowVisitor {
  /** Called for each row in order, on the calling thread. */
  readonly row: (row: VisitedRow) => void;
  /** A row that cannot be read, and why. */
  readonly problem: (message: string) => void;
}

/** A row, and where it is from. */
export interface VisitedRow {
  readonly file: string;
  /** Of the file, from 1; or number of the row. */
  readonly line: number;
  readonly unit: 'line' | 'row';
  /** By column name: JSON values, or text in CSV. */
  readonly values: Row;
}

/** Which rows and columns are visited. */
export interface VisitOptions {
  /** The most that are visited; default 100,000. */
  readonly rows?: number | undefined;
  /** Default: all that can be read. */
  readonly columns?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was visited. */
export interface SourceVisit {
  readonly format: SourceFormat;
  /** Names in the order of the CSV header, or of the schema of Parquet and Arrow; null where each record names its own. */
  readonly columns: readonly string[] | null;
  /** By name the types of columns that examples cannot be made of; rows come without them. */
  readonly unreadable: Readonly<Record<string, string>>;
  /** Decompressed, where it is a compressed file. */
  readonly sizeBytes: number;
  /** Rows of all files. */
  readonly totalRows: number;
  readonly visitedRows: number;
  /** For `planLoader`. */
  readonly shape: SourceShape;
}

/** Rows read together: few of text, since some may be long; more of files whose blocks are decoded as a whole. */
const textRunRows = 128;
const blockRunRows = 8192;

/**
 * Visits rows in order, on the calling thread, after a pass that finds them; gives way to other work. Memory does not grow with the files.
 *
 * @throws INVALID_ARGUMENT (`rows`, or no known format), NOT_FOUND, IO, INVALID_FILE (not a regular file, broken, or changed
 *   while it was read), INVALID_DATA (no rows, a broken header, an unclosed quote, no such column), INTERRUPTED
 */
export async function visitSource(
  source: FileSource,
  visitor: RowVisitor,
  options: VisitOptions = {},
): Promise<SourceVisit> {
  const { rows: most = 100_000, signal } = options;
  checkInteger('rows', most, 1, 2 ** 31 - 1);
  const files = await filesOf(source);
  const temporary = new TemporaryFolder();
  try {
    const indices = [];
    for (const file of files) {
      throwIfStopped(signal, file);
      indices.push(await scanFile(file, source, { signal, path: isCompressed(file) ? temporary.pathFor(file) : file }));
    }
    const index = indexOf(indices);
    const visitedRows = await visit(index, visitor, most, options.columns, signal);
    const { format, columns, unreadable } = index.files[0]!;
    const { examples, sizeBytes, randomAccess, strided, largestBlock } = index;
    const shape = { examples, sizeBytes, randomAccess, strided, largestBlock };
    return {
      ...{ format: format as SourceFormat, columns, unreadable: Object.fromEntries(unreadable) },
      ...{ sizeBytes, totalRows: examples, visitedRows, shape },
    };
  } finally {
    temporary.remove();
  }
}

async function visit(
  index: SourceIndex,
  visitor: RowVisitor,
  most: number,
  wanted: readonly string[] | undefined,
  signal: AbortSignal | undefined,
): Promise<number> {
  const first = index.files[0]!;
  const whole = !wanted && !first.columns;
  // What stands for a column that no record has holds the record.
  const columns = wanted ?? (whole ? ['\0 none'] : readableColumns(first));
  const reader = new SourceReader(index, columns);
  const runRows = index.randomAccess ? textRunRows : blockRunRows;
  const runs = Math.ceil(index.examples / runRows);
  const visited = Math.min(runs, Math.ceil(most / runRows));
  let count = 0;
  try {
    for (let i = 0; i < visited; i++) {
      const begin = Math.floor((i * runs) / visited) * runRows;
      const end = Math.min(begin + runRows, index.examples, begin + most - count);
      const rows = Uint32Array.from({ length: end - begin }, (_, k) => begin + k);
      count += rows.length;
      await readRows(reader, rows, columns, whole, visitor);
      await setImmediate();
      throwIfStopped(signal, first.file);
    }
  } finally {
    reader.close();
  }
  return count;
}

/** Where one of them cannot be read, each by itself. */
async function readRows(
  reader: SourceReader,
  rows: Uint32Array,
  columns: readonly string[],
  whole: boolean,
  visitor: RowVisitor,
): Promise<void> {
  let records: Records;
  try {
    records = await reader.read(rows);
  } catch (error) {
    if (!isBadValue(error)) throw error;
    if (rows.length === 1) visitor.problem(error.message);
    else for (let i = 0; i < rows.length; i++) await readRows(reader, rows.subarray(i, i + 1), columns, whole, visitor);
    return;
  }
  const { files, fileOf, unit, lines } = records;
  const values = columns.map((column) => records.columns.get(column)!);
  lines.forEach((line, i) => {
    const file = files[fileOf ? fileOf[i]! : 0]!;
    visitor.row({ file, line, unit, values: rowOf(columns, values, i, whole) });
  });
}

function rowOf(columns: readonly string[], values: readonly (readonly unknown[])[], i: number, whole: boolean): Row {
  if (whole) return (values[0]![i] as Missing).record;
  return Object.fromEntries(
    columns.map((column, c) => [column, values[c]![i]]).filter(([, value]) => !(value instanceof Missing)),
  );
}
