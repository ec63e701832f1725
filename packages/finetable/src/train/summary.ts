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
    ...describeAdapters(result),
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

/** A line each, or where they would fill the screen one for all. */
function describeAdapters({ adapters, tables }: RunResult): string[][] {
  const all = Object.entries(adapters);
  if (all.length <= 4) {
    return all.map(([name, adapter]) => [
      'adapter',
      `${name}: ${describeGroups(adapter.groups)}, ${describeSizes([adapter], tables[name] ? [tables[name]] : [])}`,
    ]);
  }
  const factors = new Set(all.map(([, { groups }]) => describeGroups(groups)));
  const sizes = describeSizes(
    all.map(([, adapter]) => adapter),
    all.flatMap(([name]) => tables[name] ?? []),
  );
  return [['adapters', `${all.length}: ${[...factors].join('; ')}, ${sizes}; report.html has each`]];
}

type AdapterResult = RunResult['adapters'][string];

function describeGroups(groups: AdapterResult['groups']): string {
  return groups
    .filter((group) => groups.length === 1 || group.touchedRows > 0)
    .map(({ name, kind, rank }) => `${name === 'rest' ? '' : `${name} `}${kind === 'dense' ? 'dense' : `rank ${rank}`}`)
    .join(', ');
}

function describeSizes(adapters: AdapterResult[], tables: RunResult['tables'][string][]): string {
  const sum = (of: (adapter: AdapterResult) => number): number => adapters.reduce((n, adapter) => n + of(adapter), 0);
  const rows = tables.reduce((n, table) => n + table.rows, 0);
  const bytes = tables.reduce((n, table) => n + table.bytes, 0);
  const adapterBytes = sum((adapter) => adapter.adapterBytes);
  const of = rows > 0 ? ` of ${formatCount(rows)}` : '';
  const whose = tables.length > 1 ? "the tables'" : "the table's";
  const share = bytes > 0 ? ` (${formatNumber((100 * adapterBytes) / bytes)} % of ${whose} ${formatBytes(bytes)})` : '';
  return `${formatCount(sum((adapter) => adapter.touchedRows))}${of} rows touched, ${formatBytes(adapterBytes)}${share}, optimiser ${formatBytes(sum((adapter) => adapter.optimizerBytes))}`;
}
