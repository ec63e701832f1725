import type { Records } from '../source/source.ts';

/** Records of a file `f`, one column or several, from line `first` on. */
export function recordsOf(
  columns: Readonly<Record<string, readonly unknown[]>>,
  values: Records['values'] = 'json',
  first = 1,
): Records {
  const size = Object.values(columns)[0]!.length;
  return {
    files: ['f'],
    fileOf: null,
    values,
    unit: 'line',
    lines: Float64Array.from({ length: size }, (_, i) => first + i),
    columns: new Map(Object.entries(columns)),
    sizeBytes: 0,
  };
}
