/** Integer ids: a column with an integer or a list of integers, and optionally a column with a weight for each. */
import { FinetableError, type Jagged } from '@finetable/core';
import { describePlace, invalidData, show, type Place } from './errors.ts';
import type { FeatureExtractor } from './feature.ts';
import { IdList } from './id-list.ts';
import { placeOf, type Records } from './source/source.ts';
import type { FeatureSpec } from './spec.ts';

export function integerFeature(spec: FeatureSpec, rows: number): FeatureExtractor {
  const { column, table, weights, pooling = 'mean' } = spec;
  const ids = new IdList();
  const numbers: number[] = [];
  const allowed = `integers from 0 to ${rows - 1}`;

  const extract = (records: Records): Jagged => {
    const bags = records.lines.length;
    const offsets = new Int32Array(bags + 1);
    ids.clear();
    for (let i = 0; i < bags; i++) {
      readNumbers(records, i, column, numbers, allowed);
      for (const id of numbers) {
        if (!Number.isInteger(id) || id < 0) throw refuse(placeOf(records, i, column), id, allowed);
        if (id >= rows) throw outOfRange(placeOf(records, i, column), id, rows, table);
        ids.push(id);
      }
      offsets[i + 1] = ids.length;
    }
    const jagged = { values: ids.copy(), offsets };
    return weights === undefined ? jagged : { ...jagged, weights: readWeights(records, weights, offsets) };
  };

  const readWeights = (records: Records, column: string, offsets: Int32Array): Float32Array => {
    const out = new Float32Array(offsets[offsets.length - 1]!);
    for (let i = 0; i + 1 < offsets.length; i++) {
      const begin = offsets[i]!;
      const count = offsets[i + 1]! - begin;
      readNumbers(records, i, column, numbers, 'numbers');
      if (numbers.length !== count) {
        throw invalidData(
          placeOf(records, i, column),
          `found ${numbers.length} weights; allowed: ${count}, one per id in ${show(spec.column)}`,
        );
      }
      let total = 0;
      for (let j = 0; j < count; j++) {
        out[begin + j] = numbers[j]!;
        const weight = out[begin + j]!;
        if (!Number.isFinite(weight)) {
          throw refuse(placeOf(records, i, column), numbers[j], 'numbers within the range of f32');
        }
        total += pooling === 'mean' ? weight : weight * weight;
      }
      if (pooling !== 'sum' && count > 0 && total === 0) {
        throw invalidData(
          placeOf(records, i, column),
          `the weights add up to 0, and ${pooling} pooling divides by their sum`,
        );
      }
    }
    return out;
  };

  return { extract };
}

const numberText = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
const listExample = ', one or a list such as 3 17 5 or [3,17,5]';

/** The number or numbers of record i; as CSV text `12`, `3 17 5` or `[3,17,5]`. They replace what is in `out`. */
function readNumbers(records: Records, i: number, column: string, out: number[], allowed: string): void {
  out.length = 0;
  const value = records.columns.get(column)![i];
  if (records.values === 'json') {
    if (typeof value === 'number') out.push(value);
    else if (Array.isArray(value)) readList(value, records, i, column, out, allowed);
    else throw refuse(placeOf(records, i, column), value, `${allowed}, one or a list`);
    return;
  }
  const text = (value as string).trim();
  if (text.startsWith('[')) {
    let list: readonly unknown[];
    try {
      list = JSON.parse(text) as readonly unknown[];
    } catch {
      throw refuse(placeOf(records, i, column), text, allowed + listExample);
    }
    readList(list, records, i, column, out, allowed);
  } else if (text !== '') {
    for (const word of text.split(/\s+/)) {
      if (!numberText.test(word)) throw refuse(placeOf(records, i, column), word, allowed + listExample);
      out.push(Number(word));
    }
  }
}

function readList(
  list: readonly unknown[],
  records: Records,
  i: number,
  column: string,
  out: number[],
  allowed: string,
): void {
  for (const element of list) {
    if (typeof element !== 'number') throw refuse(placeOf(records, i, column), element, allowed);
    out.push(element);
  }
}

function refuse(place: Place, found: unknown, allowed: string): FinetableError {
  return invalidData(place, `found ${typeof found === 'number' ? found : show(found)}; allowed: ${allowed}`, {
    value: show(found),
  });
}

function outOfRange(place: Place, id: number, rows: number, table: string): FinetableError {
  return new FinetableError(
    'ID_OUT_OF_RANGE',
    `${describePlace(place)}: id ${id}; allowed: 0 to ${rows - 1}, as table ${show(table)} has ${rows} rows`,
    { ...place, id, rows, table },
  );
}
