/** Times out of a column: numbers of any unit, or dates. */
import { invalidData, show } from '../errors.ts';
import { valueOf } from './missing.ts';
import { placeOf, type Records } from './source.ts';

/** Numbers and dates are not compared with each other. */
export type TimeKind = 'number' | 'date';

export interface Time {
  readonly kind: TimeKind;
  /** Of dates milliseconds since 1970, UTC. */
  readonly value: number;
}

const numberText = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
const dateText = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?)?$/;

/** A number, or an ISO 8601 date with or without a time; without a zone it is UTC's, the same on every machine. Null for all else. */
export function timeOf(value: unknown): Time | null {
  if (typeof value === 'number') return Number.isFinite(value) ? { kind: 'number', value } : null;
  if (typeof value === 'bigint') return { kind: 'number', value: Number(value) };
  if (value instanceof Date) return dateOf(value.getTime());
  if (typeof value !== 'string') return null;
  const text = value.trim();
  if (numberText.test(text)) return timeOf(Number(text));
  const match = dateText.exec(text);
  if (!match) return null;
  const part = (i: number): number => Number(match[i] ?? 0);
  const [year, month, day, hour, minute, second] = [part(1), part(2), part(3), part(4), part(5), part(6)];
  const date = Date.UTC(year, month - 1, day);
  // 30 February would be a day in March.
  if (new Date(date).getUTCMonth() !== month - 1 || hour > 24 || minute > 59 || second > 60) return null;
  const fraction = part(7);
  return dateOf(date + ((hour * 60 + minute) * 60 + second + fraction) * 1000 - zoneMs(match[8]));
}

function dateOf(value: number): Time | null {
  return Number.isFinite(value) ? { kind: 'date', value } : null;
}

function zoneMs(zone: string | undefined): number {
  if (zone === undefined || zone === 'Z') return 0;
  const sign = zone.startsWith('-') ? -1 : 1;
  return sign * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2))) * 60_000;
}

/** @throws INVALID_DATA where record i has no time, or one of another kind */
export function readTime(records: Records, i: number, column: string, kind: TimeKind | null): Time {
  const value = valueOf(records, i, column);
  // In JSON a number is no text.
  const found = records.values === 'json' && typeof value === 'string' && numberText.test(value) ? null : timeOf(value);
  if (found && (kind === null || found.kind === kind)) return found;
  const allowed =
    kind === null ? 'a number, or a date such as 2024-05-31 or 2024-05-31T12:00:00Z' : `a ${kind}, as elsewhere`;
  throw invalidData(placeOf(records, i, column), `found ${show(value)}; allowed: ${allowed}`, { value: show(value) });
}
