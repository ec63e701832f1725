/** Checks of what an objective is told. */
import { FinetableError } from '@finetable/core';

export function refuse(where: string, option: string, found: unknown, allowed: string): FinetableError {
  const shown = typeof found === 'number' ? String(found) : JSON.stringify(found);
  return new FinetableError('INVALID_ARGUMENT', `${where}: ${option}: found ${shown}; allowed: ${allowed}`, { option });
}

/** Bounds of a number. */
export interface Bounds {
  readonly integer?: boolean;
  readonly from?: number;
  readonly above?: number;
  readonly below?: number;
  readonly to?: number;
}

/** @throws INVALID_ARGUMENT */
export function checkNumber(where: string, option: string, value: unknown, bounds: Bounds = {}): void {
  const { integer = false, from = -Infinity, above = -Infinity, below = Infinity, to = Infinity } = bounds;
  const is = integer ? Number.isSafeInteger(value) : Number.isFinite(value);
  const x = value as number;
  if (is && x >= from && x > above && x < below && x <= to) return;
  const parts = [
    integer ? 'an integer' : 'a number',
    ...(from > -Infinity ? [`from ${from}`] : []),
    ...(above > -Infinity ? [`above ${above}`] : []),
    ...(to < Infinity ? [`to ${to}`] : []),
    ...(below < Infinity ? [`below ${below}`] : []),
  ];
  throw refuse(where, option, value, parts.join(' '));
}
