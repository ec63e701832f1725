/** The end of a training in a few lines, from its result.json. */
import { join } from 'node:path';
import { formatBytes } from '@finetable/core';
import type { RunResult } from '@finetable/trainer';
import { alignRows, formatCount, formatDuration, formatMetrics, formatNumber } from '../format.ts';

export function summarize(result: RunResult, folder: string): string {
  const { steps, epochs, stoppedEarly, train, validation, seconds, waitSeconds } = result;
  const early = stoppedEarly ? ` (stopped early${why(result)})` : '';
  const waiting = seconds > 0 ? (100 * waitSeconds) / seconds : 0;
  const rows: string[][] = [
    ['trained', `${formatCount(steps)} steps, ${epochs} epochs${early}, ${formatDuration(seconds)}`],
    ['training', formatMetrics(train)],
    ...(validation ? [['validation', formatMetrics(validation)]] : []),
    [
      'speed',
      `${formatNumber(result.stepMilliseconds)} ms/step, ${formatCount(result.examplesPerSecond)} examples/s, ${waiting.toFixed(1)} % waiting for data`,
    ],
    ['memory', `${formatBytes(result.peakMemoryBytes)} at most; kernels: ${result.kernels}`],
    ...Object.entries(result.adapters).map(([name, adapter]) => [
      'adapter',
      describeAdapter(name, adapter, result.tables[name]),
    ]),
    [
      'files',
      [...(Object.keys(result.adapters).length > 0 ? ['adapter'] : []), 'report.html', 'result.json']
        .map((name) => join(folder, name))
        .join(', '),
    ],
  ];
  return alignRows(rows);
}

function why({ endedBy }: RunResult): string {
  if (!endedBy) return '';
  return endedBy === 'patience' ? ': no better evaluation' : `: budget of ${endedBy}`;
}

function describeAdapter(
  name: string,
  adapter: RunResult['adapters'][string],
  table: RunResult['tables'][string] | undefined,
): string {
  const { groups, touchedRows, adapterBytes, optimizerBytes } = adapter;
  const of = table ? ` of ${formatCount(table.rows)}` : '';
  const what = groups
    .filter((group) => groups.length === 1 || group.touchedRows > 0)
    .map(({ name, kind, rank }) => `${name === 'rest' ? '' : `${name} `}${kind === 'dense' ? 'dense' : `rank ${rank}`}`)
    .join(', ');
  const share = table
    ? ` (${formatNumber((100 * adapterBytes) / table.bytes)} % of the table's ${formatBytes(table.bytes)})`
    : '';
  return `${name}: ${what}, ${formatCount(touchedRows)}${of} rows touched, ${formatBytes(adapterBytes)}${share}, optimiser ${formatBytes(optimizerBytes)}`;
}
