/** Values that name something, as text: class names, keys of lookups and hashes. */
import type { FinetableError } from '@finetable/core';
import { invalidData, show } from '../errors.ts';
import { valueOf } from './missing.ts';
import { placeOf, type Records } from './source.ts';

const allowedOne = 'a text, a number, true or false';

/**
 * Text as it is; JSON numbers and booleans as JSON writes them; 64-bit integers by their digits; null for what else there is, and for numbers
 * that JSON has lost digits of: two names would be one.
 */
export function nameOf(value: unknown): string | null {
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
      return isExact(value) ? String(value) : null;
    case 'boolean':
    case 'bigint':
      return String(value);
    default:
      return null;
  }
}

/** Whether a number of JSON is the one that was written: an integer past 2^53 may be its neighbour. */
export function isExact(value: number): boolean {
  return Number.isSafeInteger(value) || (Number.isFinite(value) && !Number.isInteger(value));
}

/** What is allowed instead of a number that is not exact. */
export const exactNumbers = 'integers within 2^53, and larger ones as text';

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
  if (typeof value === 'string' && records.values === 'text' && separator !== undefined) {
    if (value !== '') for (const part of value.split(separator)) out.push(part.trim());
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
  const instead = typeof value === 'number' ? exactNumbers : allowed;
  return invalidData(placeOf(records, i, column), `found ${show(value)}; allowed: ${instead}`, { value: show(value) });
}
