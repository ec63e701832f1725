/**
 * Access frequencies as curves: over the first k rows, the share of lookups they get, and how many of them are expected
 * among n lookups: Σ 1 - (1 - p)^n. Nothing loops over V rows, except once over counts that are as long themselves.
 *
 * Zipf sums take the first rows one by one and the rest in blocks, each by Simpson's rule in ln x over
 * [first - 1/2, last + 1/2]; the midpoint error at rank 64 and beyond is below 1e-5 of the sum.
 */
import { FinetableError } from '@finetable/core';
import type { Frequencies, TableRequest } from './types.ts';

/** Expectations over the first k rows of an order of rows. */
export class AccessCurve {
  /** Ascending from 0 to V: between two of them rows are alike enough to be placed together. */
  readonly bounds: readonly number[];
  /** Later rows are never more frequent than earlier ones. */
  readonly hotFirst: boolean;
  readonly #sum: BlockSum;
  readonly #shares: number[] = [0];
  readonly #distinct: number[] = [0];

  constructor(bounds: readonly number[], hotFirst: boolean, sum: BlockSum) {
    this.bounds = bounds;
    this.hotFirst = hotFirst;
    this.#sum = sum;
    for (let i = 1; i < bounds.length; i++) {
      const { share, distinct } = sum(bounds[i - 1]!, bounds[i]!);
      this.#shares.push(this.#shares[i - 1]! + share);
      this.#distinct.push(this.#distinct[i - 1]! + distinct);
    }
  }

  /** Of the first `rows` rows: their share of all lookups, and how many of them a batch is expected to hold. */
  first(rows: number): Expected {
    let low = 0;
    let high = this.bounds.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.bounds[middle]! <= rows) low = middle;
      else high = middle - 1;
    }
    const from = this.bounds[low]!;
    const rest = from === rows ? { share: 0, distinct: 0 } : this.#sum(from, rows);
    return { share: this.#shares[low]! + rest.share, distinct: this.#distinct[low]! + rest.distinct };
  }
}

export interface Expected {
  readonly share: number;
  readonly distinct: number;
}

/** Over rows `from .. to`, within one block. */
type BlockSum = (from: number, to: number) => Expected;

export interface TableCurves {
  /** From the most to the least frequent row. */
  readonly byRank: AccessCurve;
  /** In the order of the table. */
  readonly byRow: AccessCurve;
}

/**
 * Curves of one table for `lookups` ids. Those of counts are kept as long as the `frequencies` object is: `planPlacement` makes
 * one of its own, and plans many times where nothing fits.
 * @throws INVALID_ARGUMENT for frequencies that are none
 */
export function accessCurves(table: TableRequest, lookups: number): TableCurves {
  const { rows, frequencies } = table;
  if (frequencies === undefined) return same(uniformCurve(rows, lookups));
  if ('zipf' in frequencies) {
    const byRank = zipfCurve(checkZipf(table, frequencies.zipf), rows, lookups);
    if (table.sortedByFrequency) return same(byRank);
    const { distinct } = byRank.first(rows);
    return { byRank, byRow: new AccessCurve([0, rows], true, linear(rows, distinct)) };
  }
  const counted = countsOf(table, frequencies);
  let curves = counted.curves.get(lookups);
  if (!curves) {
    const { counts, total, sorted } = counted;
    const byRank = new AccessCurve(hotBounds(rows), true, countSum(sorted, total, lookups));
    curves = isDescending(counts)
      ? same(byRank)
      : { byRank, byRow: new AccessCurve(evenBounds(rows), false, countSum(counts, total, lookups)) };
    counted.curves.set(lookups, curves);
  }
  return curves;
}

function isDescending(counts: ArrayLike<number>): boolean {
  for (let i = 1; i < counts.length; i++) if (counts[i]! > counts[i - 1]!) return false;
  return true;
}

interface Counted {
  readonly counts: ArrayLike<number>;
  readonly total: number;
  /** Descending. */
  readonly sorted: Float64Array;
  /** By lookups. */
  readonly curves: Map<number, TableCurves>;
}

const known = new WeakMap<Frequencies, Counted>();

function countsOf(table: TableRequest, frequencies: Extract<Frequencies, { counts: unknown }>): Counted {
  let counted = known.get(frequencies);
  if (!counted) {
    const { counts } = frequencies;
    const { values, total } = checkCounts(table, counts);
    counted = { counts, total, sorted: values.sort().reverse(), curves: new Map() };
    known.set(frequencies, counted);
  }
  return counted;
}

/** Distinct rows expected among `lookups` ids. */
export function expectedRows(table: TableRequest, lookups: number): number {
  return accessCurves(table, lookups).byRank.first(table.rows).distinct;
}

const same = (curve: AccessCurve): TableCurves => ({ byRank: curve, byRow: curve });

/** P(a row of probability p is among n lookups). */
const met = (p: number, n: number): number => (n === 0 ? 0 : -Math.expm1(n * Math.log1p(-p)));

const linear =
  (rows: number, distinct: number): BlockSum =>
  (from, to) => ({ share: (to - from) / rows, distinct: ((to - from) / rows) * distinct });

const uniformCurve = (rows: number, lookups: number): AccessCurve =>
  new AccessCurve([0, rows], true, linear(rows, rows * met(1 / rows, lookups)));

/** Ranks from here on are summed in blocks. */
const singleRanks = 64;
/** Last rank over first of a block. */
const blockRatio = 1.15;

/** 0, 1, … 64, then each 1.15 times the one before. */
function hotBounds(rows: number): number[] {
  const bounds: number[] = [];
  for (let at = 0; at < rows; at = at < singleRanks ? at + 1 : Math.ceil(at * blockRatio)) bounds.push(at);
  return [...bounds, rows];
}

const evenBounds = (rows: number): number[] => {
  const blocks = Math.min(rows, 1024);
  return Array.from({ length: blocks + 1 }, (_, i) => Math.floor((rows * i) / blocks));
};

function zipfCurve(exponent: number, rows: number, lookups: number): AccessCurve {
  const bounds = hotBounds(rows);
  const weight = (rank: number): number => rank ** -exponent;
  let total = 0;
  for (let i = 1; i < bounds.length; i++) total += sumRanks(weight, bounds[i - 1]!, bounds[i]!);
  return new AccessCurve(bounds, true, (from, to) => ({
    share: sumRanks((rank) => weight(rank) / total, from, to),
    distinct: sumRanks((rank) => met(Math.min(1, weight(rank) / total), lookups), from, to),
  }));
}

/** Σ of a smooth function over ranks `from + 1 .. to`, which lie within one block. */
function sumRanks(value: (rank: number) => number, from: number, to: number): number {
  if (to - from < 8) {
    let sum = 0;
    for (let rank = from + 1; rank <= to; rank++) sum += value(rank);
    return sum;
  }
  const panels = 4;
  const start = Math.log(from + 0.5);
  const step = (Math.log(to + 0.5) - start) / panels;
  let sum = 0;
  for (let i = 0; i <= panels; i++) {
    const x = Math.exp(start + i * step);
    sum += (i === 0 || i === panels ? 1 : i % 2 === 1 ? 4 : 2) * x * value(x);
  }
  return (sum * step) / 3;
}

function countSum(counts: ArrayLike<number>, total: number, lookups: number): BlockSum {
  // Most rows have one of a few small counts.
  const small = Float64Array.from({ length: 1024 }, (_, count) => met(count / total, lookups));
  return (from, to) => {
    let sum = 0;
    let distinct = 0;
    for (let i = from; i < to; i++) {
      const count = counts[i]!;
      sum += count;
      distinct += (count | 0) === count && count < small.length ? small[count]! : met(count / total, lookups);
    }
    return { share: sum / total, distinct };
  };
}

function checkZipf({ name }: TableRequest, exponent: number): number {
  if (Number.isFinite(exponent) && exponent >= 0) return exponent;
  throw new FinetableError('INVALID_ARGUMENT', `${name}: zipf ${exponent}; allowed: a number of 0 or more`, {
    table: name,
  });
}

/** @returns a copy, and its sum */
function checkCounts({ name, rows }: TableRequest, counts: ArrayLike<number>): { values: Float64Array; total: number } {
  const refuse = (found: string): never => {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${name}: ${found}; allowed: one count of 0 or more for each of the table's ${rows} rows, not all 0`,
      { table: name },
    );
  };
  if (counts.length !== rows) refuse(`${counts.length} counts`);
  // Loops over as many values as there are rows: callbacks and iterators would take seconds.
  const values = new Float64Array(rows);
  let total = 0;
  for (let row = 0; row < rows; row++) {
    const count = counts[row]!;
    if (!(count >= 0 && count < Infinity)) refuse(`count ${count} of row ${row}`);
    values[row] = count;
    total += count;
  }
  if (total === 0) refuse('counts that are all 0');
  return { values, total };
}
