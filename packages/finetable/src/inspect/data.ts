/** Data files: all rows are found, and up to 100,000 of them looked at. */
import { FinetableError } from '@finetable/core';
import { visitSource, type VisitedRow } from '@finetable/data';
import { ColumnStatistics } from './column.ts';
import type { ColumnReport, DataReport } from './report.ts';

const shownProblems = 10;
/** Of one column, or of rows that cannot be read: so that others are seen too. */
const shownOfOne = 3;

/** @throws INVALID_DATA where no row can be read, NOT_FOUND, INTERRUPTED */
export async function inspectData(path: string, signal: AbortSignal): Promise<DataReport> {
  const columns = new Map<string, ColumnStatistics>();
  const problems: string[] = [];
  let [problemCount, readRows] = [0, 0];
  const shown = new Map<string | null, number>();
  const note = (column: string | null, message: string): void => {
    problemCount++;
    const before = shown.get(column) ?? 0;
    if (problems.length === shownProblems || before === shownOfOne) return;
    shown.set(column, before + 1);
    problems.push(message);
  };
  const row = ({ file, unit, line, values }: VisitedRow): void => {
    readRows++;
    for (const [name, value] of Object.entries(values)) {
      let column = columns.get(name);
      if (!column) columns.set(name, (column = new ColumnStatistics(name)));
      const wrong = column.add(value);
      if (wrong !== null) note(name, `${file}, ${unit} ${line}, column ${JSON.stringify(name)}: ${wrong}`);
    }
  };
  const found = await visitSource({ file: path }, { row, problem: (message) => note(null, message) }, { signal });
  const { format, sizeBytes, totalRows, visitedRows, unreadable } = found;
  if (readRows === 0) throw new FinetableError('INVALID_DATA', problems[0]!, { file: path });
  const all = visitedRows === totalRows;
  const describe = (name: string): ColumnReport => {
    const report = (columns.get(name) ?? new ColumnStatistics(name)).report(readRows, all);
    return name in unreadable ? { ...report, types: [`${unreadable[name]!} (cannot be read)`], missing: 0 } : report;
  };
  return {
    ...{ kind: 'data', path, format, sizeBytes, rows: totalRows, sampledRows: visitedRows },
    columns: (found.columns ?? [...columns.keys()]).map(describe),
    ...{ problemCount, problems },
  };
}
