/** Records of examples that are interactions: what histories know, beside columns of their rows. */
import { upperBound } from '@finetable/core';
import { recordsOf, type GivenRows } from '../source/rows.ts';
import { SourceReader, type Records, type SourceIndex } from '../source/source.ts';
import { valueOfKey } from './collect.ts';
import type { Histories } from './histories.ts';
import { sharedText } from './names.ts';

/** Items before the target, the oldest first; the item itself; all items of the user. They stand before columns of the same names. */
export const historyColumns = { history: 'history', target: 'target', seen: 'seen' } as const;

/** Of one thread: it keeps the names that it has read. */
export class HistoryColumns {
  readonly #histories: Histories;
  readonly #items: unknown[] = [];

  constructor(histories: Histories) {
    this.#histories = histories;
  }

  /** Those of `columns` that are columns of rows. */
  ofRows(columns: readonly string[]): string[] {
    return columns.filter((column) => !this.#reader(column));
  }

  rowsOf(places: Uint32Array): Uint32Array {
    return places.map((place) => this.#histories.rows[place]!);
  }

  /** @param records of the rows of `places` */
  add(records: Records, places: Uint32Array, columns: readonly string[]): Records {
    const all = new Map(records.columns);
    for (const column of columns) {
      const read = this.#reader(column);
      if (read) all.set(column, Array.from(places, read));
    }
    return { ...records, values: this.#histories.values, columns: all };
  }

  #reader(column: string): ((place: number) => unknown) | null {
    const { spec, items, starts, userKeys, values } = this.#histories;
    const { history, target, seen } = historyColumns;
    const list = (from: number, to: number): unknown[] => {
      const out: unknown[] = [];
      for (let place = from; place < to; place++) out.push(this.#item(items[place]!));
      return out;
    };
    if (column === history) {
      return (place) => list(Math.max(starts[this.#userOf(place)]!, place - spec.window), place);
    }
    if (column === seen) {
      return (place) => {
        const user = this.#userOf(place);
        return list(starts[user]!, starts[user + 1]!);
      };
    }
    if (column === target || column === spec.item) return (place) => this.#item(items[place]!);
    if (userKeys && column === spec.user)
      return (place) => valueOfKey(sharedText(userKeys, this.#userOf(place)), values);
    return null;
  }

  #item(code: number): unknown {
    const { itemKeys, values } = this.#histories;
    return (this.#items[code] ??= valueOfKey(sharedText(itemKeys, code), values));
  }

  #userOf(place: number): number {
    return upperBound(this.#histories.starts, place) - 1;
  }
}

/** Reads examples by their places. Rows are read only for columns that histories do not know. */
export class HistoryReader {
  readonly #own: HistoryColumns;
  readonly #columns: readonly string[];
  readonly #index: SourceIndex;
  readonly #rows: SourceReader | null;

  constructor(own: HistoryColumns, index: SourceIndex, columns: readonly string[]) {
    this.#own = own;
    this.#columns = columns;
    this.#index = index;
    const ofRows = own.ofRows(columns);
    this.#rows = ofRows.length > 0 ? new SourceReader(index, ofRows) : null;
  }

  async read(places: Uint32Array): Promise<Records> {
    const rows = this.#own.rowsOf(places);
    return this.#own.add(
      this.#rows ? await this.#rows.read(rows) : bareRecords(this.#index, rows),
      places,
      this.#columns,
    );
  }

  close(): void {
    this.#rows?.close();
  }
}

/** @param given rows of an array, and the places of the examples that they are */
export function givenRecords(own: HistoryColumns, given: GivenRows, columns: readonly string[]): Records {
  const records = recordsOf({ ...given, numbers: own.rowsOf(given.numbers) }, own.ofRows(columns));
  return own.add(records, given.numbers, columns);
}

/** Where rows are, and nothing of what is in them. */
function bareRecords({ files }: SourceIndex, rows: Uint32Array): Records {
  const names: string[] = [];
  const fileOf = new Uint32Array(rows.length);
  const lines = Float64Array.from(rows, (row, i) => {
    let file = 0;
    for (; row >= files[file]!.examples; file++) row -= files[file]!.examples;
    const { file: name } = files[file]!;
    const known = names.indexOf(name);
    fileOf[i] = known < 0 ? names.push(name) - 1 : known;
    return row + 1;
  });
  const several = files.length > 1;
  return {
    files: several ? names : [files[0]!.file],
    fileOf: several ? fileOf : null,
    values: 'json',
    unit: 'row',
    lines,
    columns: new Map(),
    sizeBytes: 0,
  };
}
