/** A placement plan as text. */
import { formatBytes } from '@finetable/core';
import type { DeviceTotal, PlannedShard, PlannedTable } from '@finetable/placement';
import type { JobPlan } from '@finetable/trainer';
import { alignRows, formatCount, formatDuration, formatNumber } from '../format.ts';

export function describePlan({ tables, devices, reserved, stepSeconds, loadSeconds, notes }: JobPlan): string {
  const header = ['table', 'device', 'rows', 'columns', 'size', 'lookups', 'time a batch'];
  const working = Object.entries(reserved).filter(([, bytes]) => bytes > 0);
  return [
    ...tables.map(describeTable),
    '\n',
    alignRows([header, ...tables.flatMap(({ name, shards }) => shards.flatMap((shard) => shardRows(name, shard)))]),
    '\nworking memory\n',
    alignRows(
      working.map(([name, bytes]) => [name, formatBytes(bytes)]),
      '  ',
    ),
    '\n',
    alignRows([['device', 'tables', 'caches', 'working', 'in use', 'budget'], ...devices.map(deviceRow)]),
    `\na step reads and writes memory for ${formatSeconds(stepSeconds)}; arithmetic is not in it. Loading takes about ${formatDuration(loadSeconds)}\n`,
    ...notes.map((note) => `note: ${note}\n`),
  ].join('');
}

function describeTable({ name, rows, dim, dtype, bytes, lookups, uniqueRows, touchedRows }: PlannedTable): string {
  const adapter = touchedRows === 0 ? '' : `; training touches about ${formatCount(touchedRows)}`;
  return `${name}: ${formatCount(rows)} rows of ${dim} dims, ${dtype}, ${formatBytes(bytes)}; a batch has ${formatCount(lookups)} ids of about ${formatCount(uniqueRows)} rows${adapter}\n`;
}

function shardRows(table: string, shard: PlannedShard): string[][] {
  const { device, firstRow, rows, firstColumn, columns, bytes, hitRate, seconds, cache } = shard;
  const range = (first: number, count: number): string => `${formatCount(first)} to ${formatCount(first + count - 1)}`;
  const own = [
    table,
    device,
    range(firstRow, rows),
    range(firstColumn, columns),
    formatBytes(bytes),
    formatShare(hitRate),
    formatSeconds(seconds),
  ];
  if (!cache) return [own];
  const hot = `${formatCount(cache.rows)} hottest`;
  return [own, ['', `${cache.device} cache`, hot, '', formatBytes(cache.bytes), formatShare(cache.hitRate), '']];
}

function deviceRow({
  name,
  tableBytes,
  cacheBytes,
  reservedBytes,
  usedBytes,
  budgetBytes,
  note,
}: DeviceTotal): string[] {
  const budget = budgetBytes === null ? 'no limit' : formatBytes(budgetBytes);
  return [
    name,
    ...[tableBytes, cacheBytes, reservedBytes, usedBytes].map(formatBytes),
    note === '' ? budget : `${budget} (${note})`,
  ];
}

const formatShare = (share: number): string => `${(100 * share).toFixed(1)} %`;

function formatSeconds(seconds: number): string {
  return seconds < 1e-3 ? `${formatNumber(seconds * 1e6)} µs` : `${formatNumber(seconds * 1e3)} ms`;
}
