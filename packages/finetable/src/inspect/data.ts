/** Data files: all rows are counted, the first are looked at. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { FinetableError } from '@finetable/core';
import type { ColumnReport, DataReport } from './report.ts';

const sampleRows = 100;
/** A record beyond this is not an example but a file without line ends. */
const longestRecordBytes = 16 * 2 ** 20;

/** @throws INVALID_DATA naming the line, NOT_FOUND */
export async function inspectData(path: string, format: 'jsonl' | 'csv', signal: AbortSignal): Promise<DataReport> {
  const csv = format === 'csv';
  const { records, count } = await scanRecords(path, csv, sampleRows + (csv ? 1 : 0), signal);
  if (records.length === 0) throw new FinetableError('INVALID_DATA', `${path}: the file holds no rows`, { file: path });
  const rows = csv ? csvRows(records, path) : records.map(({ text, line }) => parseObject(text, path, line));
  const names = new Set(csv ? splitCsv(records[0]!, path) : rows.flatMap((row) => Object.keys(row)));
  return {
    kind: 'data',
    path,
    format,
    sizeBytes: (await stat(path)).size,
    rows: csv ? count - 1 : count,
    sampledRows: rows.length,
    columns: [...names].map((name) => describeColumn(name, rows)),
  };
}

interface RecordText {
  readonly text: string;
  readonly line: number;
}

/** The first `wanted` records, and how many there are. A line end inside quotes ends no CSV record; blank lines are none. */
async function scanRecords(
  path: string,
  csv: boolean,
  wanted: number,
  signal: AbortSignal,
): Promise<{ records: RecordText[]; count: number }> {
  const records: RecordText[] = [];
  let count = 0;
  let kept: Buffer[] = [];
  let keptBytes = 0;
  let blank = true;
  let quoted = false;
  let line = 1;
  let firstLine = 1;
  const keep = (bytes: Buffer): void => {
    if (records.length === wanted) return;
    kept.push(bytes);
    keptBytes += bytes.length;
    if (keptBytes <= longestRecordBytes) return;
    throw new FinetableError(
      'INVALID_DATA',
      `${path}, line ${firstLine}: a record of more than ${longestRecordBytes} bytes`,
      { file: path, line: firstLine },
    );
  };
  const end = (): void => {
    if (!blank) {
      count++;
      if (records.length < wanted)
        records.push({
          text: Buffer.concat(kept)
            .toString()
            .replace(/^\ufeff|\r$/g, ''),
          line: firstLine,
        });
    }
    kept = [];
    keptBytes = 0;
    blank = true;
  };
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    if (signal.aborted) throw new FinetableError('INTERRUPTED', `${path}: interrupted while reading`);
    let begin = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (byte === 0x22) quoted = csv && !quoted;
      if (byte > 0x20) blank = false;
      if (byte !== 0x0a) continue;
      line++;
      if (quoted) continue;
      keep(chunk.subarray(begin, i));
      end();
      begin = i + 1;
      firstLine = line;
    }
    keep(chunk.subarray(begin));
  }
  if (quoted)
    throw new FinetableError('INVALID_DATA', `${path}, line ${firstLine}: a quote is opened and never closed`, {
      file: path,
      line: firstLine,
    });
  end();
  return { records, count };
}

type Row = Readonly<Record<string, unknown>>;

function parseObject(text: string, path: string, line: number): Row {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FinetableError('INVALID_DATA', `${path}, line ${line}: not JSON: ${(error as Error).message}`, {
      file: path,
      line,
    });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Row;
  throw new FinetableError(
    'INVALID_DATA',
    `${path}, line ${line}: found ${shorten(JSON.stringify(value))}; allowed: a JSON object`,
    { file: path, line },
  );
}

function csvRows([header, ...records]: readonly RecordText[], path: string): Row[] {
  const names = splitCsv(header!, path);
  return records.map((record) => {
    const fields = splitCsv(record, path);
    if (fields.length !== names.length) {
      const { line } = record;
      throw new FinetableError(
        'INVALID_DATA',
        `${path}, line ${line}: ${fields.length} fields; allowed: ${names.length}, as in the header`,
        { file: path, line },
      );
    }
    return Object.fromEntries(names.map((name, i) => [name, fields[i]]));
  });
}

/** RFC 4180. */
function splitCsv({ text, line }: RecordText, path: string): string[] {
  const field = /(?:"((?:[^"]|"")*)"|([^",]*))(,|$)/gy;
  const fields: string[] = [];
  for (let more = true; more;) {
    const match = field.exec(text);
    if (!match) {
      throw new FinetableError(
        'INVALID_DATA',
        `${path}, line ${line}: a quote in the middle of field ${fields.length + 1}`,
        { file: path, line },
      );
    }
    fields.push(match[1]?.replaceAll('""', '"') ?? match[2]!);
    more = match[3] === ',';
  }
  return fields;
}

function describeColumn(name: string, rows: readonly Row[]): ColumnReport {
  const types = new Map<string, number>();
  const examples = new Set<string>();
  let missing = 0;
  for (const row of rows) {
    if (!Object.hasOwn(row, name)) {
      missing++;
      continue;
    }
    const value = row[name];
    const type = typeOf(value);
    types.set(type, (types.get(type) ?? 0) + 1);
    if (examples.size < 3) examples.add(shorten(typeof value === 'string' ? value : JSON.stringify(value)));
  }
  const byFrequency = [...types].sort(([, a], [, b]) => b - a).map(([type]) => type);
  return { name, types: byFrequency, missing, examples: [...examples] };
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) {
    const inside = [...new Set(value.map(typeOf))];
    return inside.length === 0 ? 'empty list' : inside.length === 1 ? `list of ${plural(inside[0]!)}` : 'mixed list';
  }
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
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
