/** Values that name something, as text: class names, keys of lookups and hashes. */
import type { FinetableError } from '@finetable/core';
import { invalidData, show } from '../errors.ts';
import { valueOf } from './missing.ts';
import { placeOf, type Records } from './source.ts';

const allowedOne = 'a text, a number, true or false';

/** Text as it is; JSON numbers and booleans as JSON writes them; null for what else there is. */
export function nameOf(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return null;
}

/** @throws INVALID_DATA where record i has none */
export function readName(records: Records, i: number, column: string): string {
  const value = valueOf(records, i, column);
  return nameOf(value) ?? fail(records, i, column, value, allowedOne);
}

/** One or a list. In text, the whole is one unless there is a separator. They replace what is in `out`. */
export function readNames(
  records: Records,
  i: number,
  column: string,
  separator: string | undefined,
  out: string[],
): void {
  out.length = 0;
  const value = valueOf(records, i, column);
  if (records.values === 'text' && separator !== undefined) {
    if (value !== '') for (const part of (value as string).split(separator)) out.push(part.trim());
    return;
  }
  if (!Array.isArray(value)) {
    out.push(nameOf(value) ?? fail(records, i, column, value, `${allowedOne}, one or a list`));
    return;
  }
  for (const element of value) out.push(nameOf(element) ?? fail(records, i, column, element, allowedOne));
}

function fail(records: Records, i: number, column: string, value: unknown, allowed: string): never {
  throw refuse(records, i, column, value, allowed);
}

function refuse(records: Records, i: number, column: string, value: unknown, allowed: string): FinetableError {
  return invalidData(placeOf(records, i, column), `found ${show(value)}; allowed: ${allowed}`, { value: show(value) });
}
