/** Records of a program: given rather than read. */
import { invalidData, show } from '../errors.ts';
import type { Row, RowSource } from '../spec.ts';
import { indexOf, type Records, type SourceIndex } from './source.ts';
import { columnOf } from './text/jsonl.ts';

/** Examples that a task brings along. `numbers`: of each, from 0. */
export interface GivenRows {
  readonly name: string;
  readonly rows: readonly unknown[];
  readonly numbers: Uint32Array;
}

/** Examples of an array that are handed to a task together. */
const blockExamples = 8192;

export function rowsName({ name = 'rows' }: RowSource): string {
  return name;
}

export function indexOfRows(name: string, examples: number): SourceIndex {
  const blocks = Math.ceil(examples / blockExamples);
  const file = {
    file: name,
    path: name,
    format: 'rows' as const,
    sizeBytes: 0,
    modifiedMs: 0,
    columns: null,
    examples,
    blocks: Float64Array.from({ length: blocks + 1 }, (_, i) => Math.min(i * blockExamples, examples)),
    unreadable: new Map<string, string>(),
    randomAccess: true,
    blockBytes: 0,
    text: null,
    arrow: null,
  };
  return indexOf([file]);
}

/** @throws INVALID_DATA where one is no object */
export function recordsOf({ name, rows, numbers }: GivenRows, columns: readonly string[]): Records {
  const lines = Float64Array.from(numbers, (number) => number + 1);
  const out = columns.map((): unknown[] => []);
  rows.forEach((row, i) => {
    const place = { file: name, line: lines[i]!, unit: 'row' } as const;
    if (typeof row !== 'object' || row === null || Array.isArray(row))
      throw invalidData(place, `found ${show(row)}; allowed: an object, such as {"text": "..."}`);
    columns.forEach((column, c) => out[c]!.push(columnOf(row as Row, column)));
  });
  return {
    files: [name],
    fileOf: null,
    values: 'json',
    unit: 'row',
    lines,
    columns: new Map(columns.map((column, c) => [column, out[c]!])),
    sizeBytes: 0,
  };
}
