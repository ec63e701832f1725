/** What a column of a data file holds. */
import { Frequencies } from './frequencies.ts';
import type { ColumnReport, RangeReport } from './report.ts';

/** Longer texts are no names of anything, and are not counted. */
const longestName = 64;

export class ColumnStatistics {
  readonly name: string;
  /** Rows that have it. */
  rows = 0;
  readonly #types = new Map<string, number>();
  readonly #examples = new Set<string>();
  readonly #numbers = new Range();
  readonly #listLengths = new Range();
  readonly #textLengths = new Range();
  readonly #frequencies = new Frequencies();
  /** Numbers that are none of an id. */
  #fractions = false;
  /** What values are so far, where they are something. */
  #kind: string | null = null;

  constructor(name: string) {
    this.name = name;
  }

  /** @returns what is wrong with it */
  add(value: unknown): string | null {
    this.rows++;
    const type = typeOf(value);
    this.#types.set(type, (this.#types.get(type) ?? 0) + 1);
    if (this.#examples.size < 3) this.#examples.add(shorten(typeof value === 'string' ? value : textOf(value)));
    const exact = this.#count(value, type);
    const kind = kindOf(type);
    const before = this.#kind;
    if (kind !== null) this.#kind ??= kind;
    if (kind !== null && before !== null && kind !== before) return `found ${type}; the rows before have ${before}`;
    return exact
      ? null
      : `found ${shorten(textOf(value))}, with an integer past 2^53, which a number does not hold exactly`;
  }

  report(rows: number, all: boolean): ColumnReport {
    const byFrequency = [...this.#types].sort(([, a], [, b]) => b - a).map(([type]) => type);
    return {
      ...{ name: this.name, types: byFrequency, missing: rows - this.rows, examples: [...this.#examples] },
      ...{ numbers: this.#numbers.report(), listLengths: this.#listLengths.report() },
      ...{
        textLengths: this.#textLengths.report(),
        frequencies: this.#fractions ? null : this.#frequencies.report(all),
      },
    };
  }

  /** @returns whether its integers are exact */
  #count(value: unknown, type: string): boolean {
    if (Array.isArray(value)) {
      this.#listLengths.add(value.length);
      let exact = true;
      for (const element of value) exact = this.#countOne(element) && exact;
      return exact;
    }
    if (typeof value === 'string' && /^(integer|number)s? text$/.test(type)) {
      let exact = true;
      for (const word of value.trim().split(/\s+/)) exact = this.#countOne(Number(word)) && exact;
      return exact;
    }
    return this.#countOne(value);
  }

  #countOne(value: unknown): boolean {
    if (typeof value === 'number') {
      this.#numbers.add(value);
      if (Number.isInteger(value)) this.#frequencies.add(value);
      else this.#fractions = true;
      return !Number.isInteger(value) || Number.isSafeInteger(value);
    }
    if (typeof value === 'string') {
      this.#textLengths.add(value.length);
      if (value !== '' && value.length <= longestName) this.#frequencies.add(value);
    }
    return typeof value !== 'bigint';
  }
}

class Range {
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = -Infinity;

  add(value: number): void {
    this.#count++;
    this.#sum += value;
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
  }

  report(): RangeReport | null {
    return this.#count === 0 ? null : { min: this.#min, mean: this.#sum / this.#count, max: this.#max };
  }
}

/** Types that may stand in one column: integers among numbers, nothing, lists that are empty. Null for what says nothing. */
function kindOf(type: string): string | null {
  if (type === 'null' || type === 'empty' || type === 'empty list') return null;
  if (type.endsWith('text')) return 'text';
  return type.replace('integer', 'number');
}

/** As JSON, which has no integers past 2^53. */
function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner));
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) {
    const inside = [...new Set(value.map(typeOf))];
    if (inside.every((type) => type === 'integer' || type === 'number') && inside.length > 1) return 'list of numbers';
    return inside.length === 0 ? 'empty list' : inside.length === 1 ? `list of ${plural(inside[0]!)}` : 'mixed list';
  }
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  if (typeof value === 'bigint') return 'integer';
  if (typeof value === 'boolean') return 'boolean';
  if (typeof value === 'object') return 'object';
  return typeOfText(value as string);
}

/** What a text would be read as where ids or weights are wanted. */
function typeOfText(text: string): string {
  const words = text.trim().split(/\s+/);
  if (words[0] === '') return 'empty';
  const type = words.every((word) => /^-?\d+$/.test(word))
    ? 'integer'
    : words.every((word) => /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(word))
      ? 'number'
      : null;
  if (type === null) return 'text';
  return words.length === 1 ? `${type} text` : `${plural(type)} text`;
}

const plural = (type: string): string =>
  type === 'text' || type === 'null' || type.includes('list') ? type : `${type}s`;

function shorten(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  return line.length > 40 ? `${line.slice(0, 39)}…` : line;
}
