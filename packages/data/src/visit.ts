/** A look at the rows of a whole source: all of them, or runs of neighbours evenly spread over it. */
import { setImmediate } from 'node:timers/promises';
import { isBadValue, throwIfStopped } from './errors.ts';
import { checkInteger } from './refuse.ts';
import type { SampleOptions, SourceSample } from './sample.ts';
import { readableColumns } from './source/blocks.ts';
import { isCompressed, TemporaryFolder } from './source/compressed.ts';
import { filesOf } from './source/files.ts';
import { Missing } from './source/missing.ts';
import { indexOf, scanFile, SourceReader, type Records, type SourceFormat, type SourceIndex } from './source/source.ts';
import type { FileSource, Row } from './spec.ts';

export interface RowVisitor {
  readonly row: (row: VisitedRow) => void;
  /** A row that cannot be read, and why. */
  readonly problem: (message: string) => void;
}

export interface VisitedRow {
  readonly file: string;
  /** Of the file, from 1; or number of the row. */
  readonly line: number;
  readonly unit: 'line' | 'row';
  /** By column name: JSON values, or text in CSV. */
  readonly values: Row;
}

/** What was visited. */
export interface SourceVisit extends Omit<SourceSample, 'rows' | 'columns'> {
  /** Null where each record names its own. */
  readonly columns: readonly string[] | null;
  readonly visitedRows: number;
}

/** Rows read together: few of text, since some may be long; more of files whose blocks are decoded as a whole. */
const textRunRows = 128;
const blockRunRows = 8192;

/**
 * Visits up to `options.rows` (default 100,000) rows in order, on the calling thread, after a pass that finds them; gives way to other
 * work.
 * @throws as `sampleSource`, but for records that cannot be read
 */
export async function visitSource(
  source: FileSource,
  visitor: RowVisitor,
  options: SampleOptions = {},
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
    const visitedRows = await visit(index, visitor, most, signal);
    const { format, columns, unreadable } = index.files[0]!;
    return {
      ...{ format: format as SourceFormat, columns, unreadable: Object.fromEntries(unreadable) },
      ...{ sizeBytes: index.sizeBytes, totalRows: index.examples, visitedRows },
    };
  } finally {
    temporary.remove();
  }
}

async function visit(
  index: SourceIndex,
  visitor: RowVisitor,
  most: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  const first = index.files[0]!;
  // What stands for a column that no record has holds the record.
  const columns = first.columns ? readableColumns(first) : ['\0 none'];
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
      await readRows(reader, rows, columns, first.columns === null, visitor);
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
