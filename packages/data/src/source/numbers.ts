/** Numbers out of a column: JSON numbers, or text that means them. */
import type { FinetableError } from '@finetable/core';
import { invalidData, show, type Place } from '../errors.ts';
import { valueOf } from './missing.ts';
import { placeOf, type Records } from './source.ts';

const numberText = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
const listExample = ', one or a list such as 3 17 5 or [3,17,5]';

/** The number or numbers of record i; as CSV text `12`, `3 17 5` or `[3,17,5]`. They replace what is in `out`. */
export function readNumbers(records: Records, i: number, column: string, out: number[], allowed: string): void {
  out.length = 0;
  const value = valueOf(records, i, column);
  if (records.values === 'json' || Array.isArray(value)) {
    if (typeof value === 'number') out.push(value);
    else if (Array.isArray(value)) readList(value, records, i, column, out, allowed);
    else throw refuseNumber(placeOf(records, i, column), value, `${allowed}, one or a list`);
    return;
  }
  const text = (value as string).trim();
  if (text.startsWith('[')) {
    let list: readonly unknown[];
    try {
      list = JSON.parse(text) as readonly unknown[];
    } catch {
      throw refuseNumber(placeOf(records, i, column), text, allowed + listExample);
    }
    readList(list, records, i, column, out, allowed);
  } else if (text !== '') {
    for (const word of text.split(/\s+/)) {
      if (!numberText.test(word)) throw refuseNumber(placeOf(records, i, column), word, allowed + listExample);
      out.push(Number(word));
    }
  }
}

/** The one number of record i. @throws INVALID_DATA where there is none (null, an empty text), or it is not finite in f32 */
export function readNumber(records: Records, i: number, column: string, allowed: string): number {
  const value = valueOf(records, i, column);
  if (typeof value === 'number' || typeof value === 'bigint') {
    const number = Number(value);
    if (Number.isFinite(Math.fround(number))) return number;
  } else if (records.values === 'text' && numberText.test((value as string).trim())) {
    const number = Number(value);
    if (Number.isFinite(Math.fround(number))) return number;
  }
  throw refuseNumber(placeOf(records, i, column), value, allowed);
}

function readList(
  list: readonly unknown[],
  records: Records,
  i: number,
  column: string,
  out: number[],
  allowed: string,
): void {
  for (let j = 0; j < list.length; j++) {
    const given = list[j];
    // A list that was made of texts has texts.
    const meant = typeof given === 'string' && records.values === 'text' && numberText.test(given);
    const element = meant ? Number(given) : given;
    if (typeof element !== 'number') throw refuseNumber(placeOf(records, i, column), element, allowed);
    out.push(element);
  }
}

export function refuseNumber(place: Place, found: unknown, allowed: string): FinetableError {
  return invalidData(place, `found ${typeof found === 'number' ? found : show(found)}; allowed: ${allowed}`, {
    value: show(found),
  });
}
