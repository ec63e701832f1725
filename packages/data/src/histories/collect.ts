/** Interactions of some rows, as one task finds them. */
import { invalidData, show } from '../errors.ts';
import { valueOf } from '../source/missing.ts';
import { placeOf, type Records } from '../source/source.ts';
import { readTime, type TimeKind } from '../source/times.ts';
import { exactNumbers, nameOf } from '../source/values.ts';
import type { HistoriesSpec, ListHistories } from '../spec.ts';
import { TextCodes } from './names.ts';

/** Plain data: `n` interactions in the order of the source. */
export interface Interactions {
  /** `[n]`: the row of each. */
  readonly rows: Uint32Array;
  /** `[n]`, into `itemKeys`. */
  readonly items: Uint32Array;
  readonly itemKeys: readonly string[];
  /** `[n]`, into `userKeys`; null where each row is a user's whole list. */
  readonly users: Uint32Array | null;
  readonly userKeys: readonly string[];
  /** `[n]`; null where each row is a user's whole list. */
  readonly times: Float64Array | null;
  /** Of all times; null where there are none. */
  readonly timeKind: TimeKind | null;
  /** What keys are: texts of the source, or JSON. */
  readonly values: Records['values'];
}

export function columnsOfHistories(spec: HistoriesSpec): string[] {
  return spec.list === undefined ? [spec.user, spec.item, spec.time] : [spec.list];
}

export class InteractionCollector {
  readonly #spec: HistoriesSpec;
  readonly #rows: number[] = [];
  readonly #items: number[] = [];
  readonly #users: number[] = [];
  readonly #times: number[] = [];
  readonly #itemCodes = new TextCodes('items');
  readonly #userCodes = new TextCodes('users');
  #timeKind: TimeKind | null = null;
  #values: Records['values'] = 'json';

  constructor(spec: HistoriesSpec) {
    this.#spec = spec;
  }

  /** All of them or, where it throws, none. @param numbers the row of each record @throws INVALID_DATA */
  add(records: Records, numbers: Uint32Array): void {
    this.#values = records.values;
    const before = this.#rows.length;
    try {
      for (let i = 0; i < numbers.length; i++) this.#addOne(records, i, numbers[i]!);
    } catch (error) {
      for (const list of [this.#rows, this.#items, this.#users, this.#times])
        list.length = Math.min(list.length, before);
      throw error;
    }
  }

  #addOne(records: Records, i: number, row: number): void {
    const spec = this.#spec;
    if (spec.list !== undefined) {
      for (const item of listOf(records, i, spec)) {
        this.#rows.push(row);
        this.#items.push(this.#itemCodes.code(keyOf(item, records, i, spec.list)));
      }
      return;
    }
    const user = keyOf(valueOf(records, i, spec.user), records, i, spec.user);
    const item = keyOf(valueOf(records, i, spec.item), records, i, spec.item);
    const { kind, value } = readTime(records, i, spec.time, this.#timeKind);
    this.#timeKind = kind;
    this.#rows.push(row);
    this.#users.push(this.#userCodes.code(user));
    this.#items.push(this.#itemCodes.code(item));
    this.#times.push(value);
  }

  collected(): Interactions {
    const lists = this.#spec.list !== undefined;
    return {
      rows: Uint32Array.from(this.#rows),
      items: Uint32Array.from(this.#items),
      itemKeys: [...this.#itemCodes.texts()],
      users: lists ? null : Uint32Array.from(this.#users),
      userKeys: [...this.#userCodes.texts()],
      times: lists ? null : Float64Array.from(this.#times),
      timeKind: this.#timeKind,
      values: this.#values,
    };
  }
}

/** A value as a text that gives it back: `valueOfKey`. An empty text is none. */
function keyOf(value: unknown, records: Records, i: number, column: string): string {
  const name = nameOf(value);
  if (name === null || name === '') {
    const allowed = typeof value === 'number' ? exactNumbers : 'a text that is not empty, a number, true or false';
    throw invalidData(placeOf(records, i, column), `found ${show(value)}; allowed: ${allowed}`, { value: show(value) });
  }
  if (records.values === 'text') return name;
  return typeof value === 'bigint' ? name + bigintMark : JSON.stringify(value);
}

/** Behind the digits of a 64-bit integer that no number holds: no JSON ends like this. */
const bigintMark = 'n';

export function valueOfKey(key: string, values: Records['values']): unknown {
  if (values === 'text') return key;
  return key.endsWith(bigintMark) ? BigInt(key.slice(0, -bigintMark.length)) : JSON.parse(key);
}

function listOf(records: Records, i: number, { list, separator }: ListHistories): readonly unknown[] {
  const value = valueOf(records, i, list);
  if (Array.isArray(value)) return value;
  if (records.values === 'text') {
    const text = (value as string).trim();
    if (text === '') return [];
    if (separator !== undefined) return text.split(separator).map((part) => part.trim());
    if (!text.startsWith('[')) return text.split(/\s+/);
    try {
      return (JSON.parse(text) as unknown[]).map((element) => nameOf(element));
    } catch {
      // refused below
    }
  }
  throw invalidData(placeOf(records, i, list), `found ${show(value)}; allowed: a list`, { value: show(value) });
}
