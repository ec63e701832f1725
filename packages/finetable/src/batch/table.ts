/** The results of a batch as a table on the terminal, the best first. */
import { formatBytes } from '@finetable/core';
import type { BatchRow } from '@finetable/trainer';
import { alignRows, formatCount, formatDuration, formatNumber } from '../format.ts';

export function describeRows(rows: readonly BatchRow[], metric: string): string {
  const header = ['job', 'status', metric, 'time', 'examples/s', 'adapter'];
  const cells = rows.map((row) => [
    row.name,
    row.stoppedAfter === null ? row.status : `after ${row.stoppedAfter}`,
    row.metric === null ? '-' : formatNumber(row.metric),
    row.seconds === null ? '-' : formatDuration(row.seconds),
    row.examplesPerSecond === null ? '-' : formatCount(row.examplesPerSecond),
    row.adapterBytes === null ? '-' : formatBytes(row.adapterBytes),
  ]);
  return alignRows([header, ...cells]);
}
