import type { FileSource } from '../spec.ts';
import { visitSource, type SourceVisit, type VisitedRow, type VisitOptions } from '../visit.ts';

/** What a visit finds. */
export async function visited(
  source: FileSource,
  options?: VisitOptions,
): Promise<{
  readonly visit: SourceVisit;
  readonly rows: readonly VisitedRow[];
  readonly problems: readonly string[];
}> {
  const rows: VisitedRow[] = [];
  const problems: string[] = [];
  const visitor = {
    row: (row: VisitedRow) => void rows.push(row),
    problem: (message: string) => void problems.push(message),
  };
  return { visit: await visitSource(source, visitor, options), rows, problems };
}
