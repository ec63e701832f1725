/** Integer ids: a column with an integer or a list of integers. */
import { FinetableError } from '@finetable/core';
import { describePlace, invalidData, isCounting, show, type Place } from '../errors.ts';
import { readNumbers, refuseNumber } from '../source/numbers.ts';
import { placeOf } from '../source/source.ts';
import type { FeatureSpec } from '../spec.ts';
import type { Encoder } from './feature.ts';

export function integerEncoder({ column, table }: FeatureSpec, rows: number): Encoder {
  const numbers: number[] = [];
  const allowed = `integers from 0 to ${rows - 1}`;
  return (records, i, out) => {
    readNumbers(records, i, column, numbers, allowed);
    const first = out.extend(numbers.length);
    const { ids } = out;
    for (let j = 0; j < numbers.length; j++) {
      const id = numbers[j]!;
      if (!Number.isInteger(id) || id < 0) throw refuseNumber(placeOf(records, i, column), id, allowed);
      if (id >= rows) throw outOfRange(placeOf(records, i, column), id, rows, table);
      ids[first + j] = id;
    }
  };
}

function outOfRange(place: Place, id: number, rows: number, table: string): FinetableError {
  if (isCounting()) return invalidData(place, '');
  return new FinetableError(
    'ID_OUT_OF_RANGE',
    `${describePlace(place)}: id ${id}; allowed: 0 to ${rows - 1}, as table ${show(table)} has ${rows} rows`,
    { ...place, id, rows, table },
  );
}
