/** Labels: class names to class indices, one or several; numbers. */
import type { Jagged } from '@finetable/core';
import { invalidData, isBadValue, isCounting, onlyCounting, show, showNames } from './errors.ts';
import { IdList } from './id-list.ts';
import { valueOf } from './source/missing.ts';
import { readNumber } from './source/numbers.ts';
import { placeOf, type Records } from './source/source.ts';
import { readName, readNames } from './source/values.ts';
import type { DataSpec, LabelSpec } from './spec.ts';
import type { Gatherer } from './survey.ts';

/** Reads what a batch has of a label; new arrays. It throws INVALID_DATA where a value is wrong and there is no default. */
export type LabelReader =
  | { readonly type: 'class'; readonly read: (records: Records) => Int32Array }
  | { readonly type: 'number'; readonly read: (records: Records) => Float32Array }
  | { readonly type: 'classes'; readonly read: (records: Records) => Jagged };

/** Before its classes are known every name is class 0. */
export function compileLabel(spec: LabelSpec): LabelReader {
  const { column, type = 'class' } = spec;
  const indices = spec.classes && classIndices(spec.classes);
  const indexOf = (name: string, records: Records, i: number): number =>
    indices ? (indices.get(name) ?? unknownClass(records, i, column, name, indices)) : 0;
  switch (type) {
    case 'class': {
      const usual = spec.default === undefined ? undefined : (indices?.get(spec.default as string) ?? 0);
      const read = orElse(usual, (records, i) => indexOf(readName(records, i, column), records, i));
      return { type, read: (records) => fill(new Int32Array(records.lines.length), (i) => read(records, i)) };
    }
    case 'number': {
      const allowed = 'numbers within the range of f32';
      const read = orElse(spec.default as number | undefined, (records, i) => readNumber(records, i, column, allowed));
      return { type, read: (records) => fill(new Float32Array(records.lines.length), (i) => read(records, i)) };
    }
    case 'classes': {
      const names: string[] = [];
      const ids = new IdList();
      const read = orElse(spec.default as readonly string[] | undefined, (records, i) => {
        readClassNames(records, i, spec, names);
        for (const name of names) indexOf(name, records, i);
        return names;
      });
      const readSets = (records: Records): Jagged => {
        const offsets = new Int32Array(records.lines.length + 1);
        ids.clear();
        for (let i = 0; i < records.lines.length; i++) {
          for (const name of new Set(read(records, i))) ids.push(indexOf(name, records, i));
          offsets[i + 1] = ids.length;
        }
        return { values: ids.copy(), offsets };
      };
      return { type, read: readSets };
    }
  }
}

/** A loop: `from` of typed arrays asks an iterator for each. */
function fill<T extends Int32Array | Float32Array>(out: T, valueOf: (i: number) => number): T {
  for (let i = 0; i < out.length; i++) out[i] = valueOf(i);
  return out;
}

type Read<T> = (records: Records, i: number) => T;

/** `otherwise` in the place of bad values, where there is one. */
function orElse<T>(otherwise: T | undefined, read: Read<T>): Read<T> {
  if (otherwise === undefined) return read;
  return (records, i) => {
    try {
      return onlyCounting(() => read(records, i));
    } catch (error) {
      if (!isBadValue(error)) throw error;
      return otherwise;
    }
  };
}

/** A list of names; in text a JSON list, or names with the separator between them. */
function readClassNames(records: Records, i: number, { column, separator }: LabelSpec, out: string[]): void {
  if (records.values === 'json' || separator !== undefined) {
    readNames(records, i, column, separator, out);
    return;
  }
  const text = valueOf(records, i, column) as string;
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    list = null;
  }
  if (!Array.isArray(list) || list.some((name) => typeof name === 'object')) {
    const allowed = 'a list such as ["a","b"]; or name what is between the classes with "separator"';
    throw invalidData(placeOf(records, i, column), `found ${show(text)}; allowed: ${allowed}`, { value: show(text) });
  }
  out.length = 0;
  for (const name of list) out.push(String(name));
}

/**
 * Finds the classes of labels that name none, and checks those of the others, so that a label which training did not have is known
 * before the first step rather than after an epoch.
 */
export function* classGatherers({ labels }: Pick<DataSpec, 'labels'>): Iterable<[string, Gatherer<Set<string>>]> {
  for (const [name, spec] of Object.entries(labels)) {
    const { column, classes, type = 'class' } = spec;
    const check = classes || type === 'number' ? compileLabel(spec) : null;
    const names: string[] = [];
    const read = orElse<readonly string[]>(spec.default === undefined ? undefined : [], (records, i) => {
      if (type === 'classes') readClassNames(records, i, spec, names);
      else names.splice(0, names.length, readName(records, i, column));
      return names;
    });
    yield [
      `labels/${name}`,
      {
        columns: [column],
        start: () => new Set(typeof spec.default === 'number' ? [] : [spec.default ?? []].flat()),
        add: (found, records) => {
          if (check) check.read(records);
          else for (let i = 0; i < records.lines.length; i++) for (const name of read(records, i)) found.add(name);
        },
        combine: (found, later) => {
          for (const value of later) found.add(value);
        },
      },
    ];
  }
}

export function withClasses<T extends Pick<DataSpec, 'labels'>>(data: T, states: Readonly<Record<string, unknown>>): T {
  const labels = Object.entries(data.labels).map(([name, label]) => {
    if (label.type === 'number') return [name, label];
    const found = states[`labels/${name}`] as Set<string> | undefined;
    return [name, { ...label, classes: label.classes ?? sortClasses(found ?? []) }];
  });
  return { ...data, labels: Object.fromEntries(labels) };
}

/** By code point, which differs from JavaScript's order of code units beyond U+FFFF; the same on every machine. */
export function sortClasses(names: Iterable<string>): string[] {
  return [...names].sort(compareCodePoints);
}

export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    if (a.charCodeAt(i) !== b.charCodeAt(i)) {
      const atA = a.charCodeAt(i);
      const atB = b.charCodeAt(i);
      // A surrogate stands for a code point above every single unit.
      return rank(atA) - rank(atB);
    }
  }
  return a.length - b.length;
}

const rank = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit);

/** The index of each class. */
function classIndices(classes: readonly string[]): Map<string, number> {
  return new Map(classes.map((name, i) => [name, i]));
}

function unknownClass(
  records: Records,
  i: number,
  column: string,
  name: string,
  indices: ReadonlyMap<string, number>,
): never {
  const nearest = isCounting() ? [] : nearestNames(name, [...indices.keys()]);
  throw invalidData(
    placeOf(records, i, column),
    `unknown class ${show(name)}; the nearest of the ${indices.size} known: ${showNames(nearest)}`,
    { value: name, nearest },
  );
}

/** The three names with the fewest edits between. */
export function nearestNames(name: string, known: readonly string[]): string[] {
  return known
    .map((other) => ({ other, edits: editDistance(name.slice(0, 64), other.slice(0, 64)) }))
    .sort((a, b) => a.edits - b.edits)
    .slice(0, 3)
    .map(({ other }) => other);
}

/** Levenshtein's. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min(next[j]! + 1, row[j + 1]! + 1, row[j]! + (a[i] === b[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
