/** Numbers beside the ids: columns to `[size, n] f32`. */
import { matrix, type Matrix } from '@finetable/core';
import { invalidData, isBadValue, onlyCounting } from './errors.ts';
import { addMoment, combineMoments, momentsOf, noMoments, type MomentSums } from './exact-sum.ts';
import { readNumber } from './source/numbers.ts';
import { placeOf, type Records } from './source/source.ts';
import type { DataSpec, NumbersSpec } from './spec.ts';
import type { Gatherer } from './survey.ts';

export const columnsOfNumbers = ({ column }: NumbersSpec): readonly string[] =>
  typeof column === 'string' ? [column] : column;

/** @returns `[size, columns]`, new. Where moments are to be measured and are not yet, numbers are as they are. */
export function compileNumbers(spec: NumbersSpec): (records: Records) => Matrix {
  const { normalize, log1p = false, default: otherwise } = spec;
  const columns = columnsOfNumbers(spec);
  const moments = typeof normalize === 'object' ? normalize : null;
  const mean = columns.map((_, c) => moments?.mean[c] ?? 0);
  const scale = columns.map((_, c) => moments?.deviation[c] || 1);
  const usual = typeof otherwise === 'number' && log1p ? Math.log1p(otherwise) : otherwise;
  return (records) => {
    const size = records.lines.length;
    const out = matrix(size, columns.length);
    columns.forEach((column, c) => {
      for (let i = 0; i < size; i++) {
        const value = readOr(records, i, column, log1p, usual);
        out.data[i * columns.length + c] = value === 'mean' ? 0 : (value - mean[c]!) / scale[c]!;
      }
    });
    return out;
  };
}

function readOr<T>(records: Records, i: number, column: string, log1p: boolean, otherwise: T | undefined): number | T {
  if (otherwise === undefined) return read(records, i, column, log1p);
  try {
    return onlyCounting(() => read(records, i, column, log1p));
  } catch (error) {
    if (!isBadValue(error)) throw error;
    return otherwise;
  }
}

function read(records: Records, i: number, column: string, log1p: boolean): number {
  const value = readNumber(records, i, column, 'numbers within the range of f32');
  if (!log1p) return value;
  if (value > -1) return Math.log1p(value);
  throw invalidData(placeOf(records, i, column), `found ${value}; allowed: numbers above -1, for log1p`, { value });
}

/** One for each that is to be measured, by column. What is replaced by a default does not count. */
export function* momentGatherers({
  numbers = {},
}: Pick<DataSpec, 'numbers'>): Iterable<[string, Gatherer<MomentSums[]>]> {
  for (const [name, spec] of Object.entries(numbers)) {
    if (spec.normalize !== 'measured') continue;
    const columns = columnsOfNumbers(spec);
    const { log1p = false, default: otherwise } = spec;
    const skipped = otherwise === undefined ? undefined : null;
    yield [
      `numbers/${name}`,
      {
        columns,
        start: () => columns.map(noMoments),
        add: (sums, records) => {
          columns.forEach((column, c) => {
            for (let i = 0; i < records.lines.length; i++) {
              const value = readOr(records, i, column, log1p, skipped);
              if (value !== null) addMoment(sums[c]!, value);
            }
          });
        },
        combine: (sums, later) => later.forEach((more, c) => combineMoments(sums[c]!, more)),
      },
    ];
  }
}

export function withMoments<T extends Pick<DataSpec, 'numbers'>>(
  data: T,
  states: Readonly<Record<string, unknown>>,
): T {
  if (!data.numbers) return data;
  const numbers = Object.entries(data.numbers).map(([name, spec]) => {
    const sums = states[`numbers/${name}`] as MomentSums[] | undefined;
    if (!sums) return [name, spec] as const;
    const moments = sums.map(momentsOf);
    const normalize = {
      mean: moments.map(({ mean }) => mean),
      deviation: moments.map(({ deviation }) => deviation),
    };
    return [name, { ...spec, normalize }] as const;
  });
  return { ...data, numbers: Object.fromEntries(numbers) };
}
