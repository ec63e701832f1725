/** Errors of what the caller passes: the field's path, what was found, what is allowed. */
import { FinetableError } from '@finetable/core';
import { show, showNames } from './errors.ts';

export function refuse(path: string, found: unknown, allowed: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `${path}: found ${show(found)}; allowed: ${allowed}`, {
    path,
    found: show(found),
  });
}

export function checkInteger(path: string, value: number, low: number, high: number): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  throw refuse(
    path,
    value,
    high === Number.MAX_SAFE_INTEGER ? `integers from ${low}` : `integers from ${low} to ${high}`,
  );
}

export function checkOneOf(path: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) throw refuse(path, value, showNames(allowed));
}

/** Finite, and `low` or more. */
export function checkNumber(path: string, value: number, low = -Infinity): void {
  if (Number.isFinite(value) && value >= low) return;
  throw refuse(
    path,
    Number.isFinite(value) ? value : String(value),
    low === -Infinity ? 'numbers' : `numbers from ${low}`,
  );
}
