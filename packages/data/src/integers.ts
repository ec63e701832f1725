/** Integer ids: a column with an integer or a list of integers, and optionally a column with a weight for each. */
import { FinetableError, type Jagged } from '@finetable/core';
import { describePlace, invalidData, show, type Place } from './errors.ts';
import type { FeatureExtractor } from './feature.ts';
import { IdList } from './id-list.ts';
import type { Records } from './source.ts';
import type { FeatureSpec } from './spec.ts';

export function integerFeature(spec: FeatureSpec, rows: number): FeatureExtractor {
  const { column, table, weights, pooling = 'mean' } = spec;
  const ids = new IdList();
  const numbers: number[] = [];

  const extract = (records: Records): Jagged => {
    const { file, lines } = records;
    const values = records.columns.get(column)!;
    const offsets = new Int32Array(values.length + 1);
    ids.clear();
    for (let i = 0; i < values.length; i++) {
      const place = { file, line: lines[i]!, column };
      readNumbers(values[i], records.values, numbers, place, `integers from 0 to ${rows - 1}`);
      for (const id of numbers) {
        if (!Number.isInteger(id) || id < 0) throw refuse(place, id, `integers from 0 to ${rows - 1}`);
        if (id >= rows) throw outOfRange(place, id, rows, table);
        ids.push(id);
      }
      offsets[i + 1] = ids.length;
    }
    const jagged = { values: ids.copy(), offsets };
    return weights === undefined ? jagged : { ...jagged, weights: readWeights(records, weights, offsets) };
  };

  const readWeights = (records: Records, column: string, offsets: Int32Array): Float32Array => {
    const { file, lines } = records;
    const out = new Float32Array(offsets[offsets.length - 1]!);
    records.columns.get(column)!.forEach((value, i) => {
      const place = { file, line: lines[i]!, column };
      readNumbers(value, records.values, numbers, place, 'numbers');
      const begin = offsets[i]!;
      const count = offsets[i + 1]! - begin;
      if (numbers.length !== count) {
        throw invalidData(
          place,
          `found ${numbers.length} weights; allowed: ${count}, one per id in ${show(spec.column)}`,
        );
      }
      let total = 0;
      numbers.forEach((weight, j) => {
        out[begin + j] = weight;
        if (!Number.isFinite(out[begin + j])) throw refuse(place, weight, 'numbers within the range of f32');
        total += pooling === 'mean' ? out[begin + j]! : out[begin + j]! ** 2;
      });
      if (pooling !== 'sum' && count > 0 && total === 0) {
        throw invalidData(place, `the weights add up to 0, and ${pooling} pooling divides by their sum`);
      }
    });
    return out;
  };

  return { columns: weights === undefined ? [column] : [column, weights], extract };
}

const numberText = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;

/** A number, or a list of numbers; as CSV text `12`, `3 17 5` or `[3,17,5]`. They replace what is in `out`. */
function readNumbers(value: unknown, values: Records['values'], out: number[], place: Place, allowed: string): void {
  out.length = 0;
  if (values === 'json') {
    if (typeof value === 'number') out.push(value);
    else if (Array.isArray(value)) for (const element of value) out.push(toNumber(element, place, allowed));
    else throw refuse(place, value, `${allowed}, one or a list`);
    return;
  }
  const text = (value as string).trim();
  if (text.startsWith('[')) {
    readNumbers(parseList(text, place, allowed), 'json', out, place, allowed);
  } else if (text !== '') {
    for (const word of text.split(/\s+/)) {
      if (!numberText.test(word)) throw refuse(place, word, `${allowed}, one or a list such as 3 17 5 or [3,17,5]`);
      out.push(Number(word));
    }
  }
}

function toNumber(element: unknown, place: Place, allowed: string): number {
  if (typeof element === 'number') return element;
  throw refuse(place, element, allowed);
}

function parseList(text: string, place: Place, allowed: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refuse(place, text, `${allowed}, one or a list such as 3 17 5 or [3,17,5]`);
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
