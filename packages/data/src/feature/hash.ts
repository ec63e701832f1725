/** Values to rows by their hash; crosses of several columns, too. */
import type { Records } from '../source/source.ts';
import { readNames } from '../source/values.ts';
import type { FeatureSpec, HashSpec } from '../spec.ts';
import { hashText, modulo } from '../xxhash64.ts';
import type { Encoder } from './feature.ts';

const separatorOfColumns = '\u001f';

export function hashEncoder({ column }: FeatureSpec, spec: HashSpec, rows: number): Encoder {
  const { seed = 0, crossWith = [], separator } = spec;
  const columns = [column, ...crossWith];
  const hash = { high: 0, low: 0 };
  const names: string[] = [];
  return (records, i, out) => {
    for (const text of crossed(records, i, columns, separator, names)) {
      hashText(text, seed, hash);
      out.push(modulo(hash, rows));
    }
  };
}

/** Every combination of a value of each column; those of the last column change first. */
function crossed(
  records: Records,
  i: number,
  columns: readonly string[],
  separator: string | undefined,
  names: string[],
): readonly string[] {
  readNames(records, i, columns[0]!, separator, names);
  if (columns.length === 1) return names;
  let texts = [...names];
  for (const column of columns.slice(1)) {
    readNames(records, i, column, separator, names);
    texts = texts.flatMap((text) => names.map((name) => text + separatorOfColumns + name));
  }
  return texts;
}
