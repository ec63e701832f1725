/** Data files: all rows are counted, the first are looked at. */
import { sampleSource, type SampleRow } from '@finetable/data';
import type { ColumnReport, DataReport } from './report.ts';

/** @throws INVALID_DATA naming the line, NOT_FOUND, INTERRUPTED */
export async function inspectData(path: string, signal: AbortSignal): Promise<DataReport> {
  const { format, sizeBytes, totalRows, columns, unreadable, rows } = await sampleSource({ file: path }, { signal });
  return {
    kind: 'data',
    path,
    format,
    sizeBytes,
    rows: totalRows,
    sampledRows: rows.length,
    columns: columns.map((name) =>
      name in unreadable
        ? { name, types: [`${unreadable[name]!} (cannot be read)`], missing: 0, examples: [] }
        : describeColumn(name, rows),
    ),
  };
}

function describeColumn(name: string, rows: readonly SampleRow[]): ColumnReport {
  const types = new Map<string, number>();
  const examples = new Set<string>();
  let missing = 0;
  for (const { values } of rows) {
    if (!Object.hasOwn(values, name)) {
      missing++;
      continue;
    }
    const value = values[name];
    const type = typeOf(value);
    types.set(type, (types.get(type) ?? 0) + 1);
    if (examples.size < 3) examples.add(shorten(typeof value === 'string' ? value : textOf(value)));
  }
  const byFrequency = [...types].sort(([, a], [, b]) => b - a).map(([type]) => type);
  return { name, types: byFrequency, missing, examples: [...examples] };
}

/** As JSON, which has no integers past 2^53. */
function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner));
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) {
    const inside = [...new Set(value.map(typeOf))];
    return inside.length === 0 ? 'empty list' : inside.length === 1 ? `list of ${plural(inside[0]!)}` : 'mixed list';
  }
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  if (typeof value === 'bigint') return 'integer';
  if (typeof value === 'boolean') return 'boolean';
  if (typeof value === 'object') return 'object';
  return typeOfText(value as string);
}

/** What a text would be read as where ids or weights are wanted. */
function typeOfText(text: string): string {
  const words = text.trim().split(/\s+/);
  if (words[0] === '') return 'empty';
  const type = words.every((word) => /^-?\d+$/.test(word))
    ? 'integer'
    : words.every((word) => /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(word))
      ? 'number'
      : null;
  if (type === null) return 'text';
  return words.length === 1 ? `${type} text` : `${plural(type)} text`;
}

const plural = (type: string): string =>
  type === 'text' || type === 'null' || type.includes('list') ? type : `${type}s`;

function shorten(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  return line.length > 40 ? `${line.slice(0, 39)}…` : line;
}
