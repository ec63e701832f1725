/** Labels: class names to class indices. */
import { invalidData, show, showNames } from './errors.ts';
import { placeOf, type Records } from './source/source.ts';
import type { DataSpec } from './spec.ts';
import type { Gatherer } from './survey.ts';

/** A label's class name: text as it is; JSON numbers and booleans as JSON writes them. */
function className(records: Records, i: number, column: string): string {
  const value = records.columns.get(column)![i];
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw invalidData(placeOf(records, i, column), `found ${show(value)}; allowed: a text, a number, true or false`, {
    value: show(value),
  });
}

/**
 * Finds the classes of labels that name none, and checks those of the others, so that a label which training did not have is known
 * before the first step rather than after an epoch.
 */
export function* classGatherers({ labels }: Pick<DataSpec, 'labels'>): Iterable<[string, Gatherer<Set<string>>]> {
  for (const [name, { column, classes }] of Object.entries(labels)) {
    const known = classes && classIndices(classes);
    yield [
      `labels/${name}`,
      {
        columns: [column],
        start: () => new Set(),
        add: (found, records) => {
          if (known) labelIndices(records, column, known);
          else for (let i = 0; i < records.lines.length; i++) found.add(className(records, i, column));
        },
        combine: (found, later) => {
          for (const value of later) found.add(value);
        },
      },
    ];
  }
}

export function withClasses(data: DataSpec, states: Readonly<Record<string, unknown>>): DataSpec {
  const labels = Object.entries(data.labels).map(([name, label]) => {
    const found = states[`labels/${name}`] as Set<string> | undefined;
    return [name, { ...label, classes: label.classes ?? sortClasses(found ?? []) }];
  });
  return { ...data, labels: Object.fromEntries(labels) };
}

/** By code point, which differs from JavaScript's order of code units beyond U+FFFF; the same on every machine. */
export function sortClasses(names: Iterable<string>): string[] {
  return [...names].sort(compareCodePoints);
}

function compareCodePoints(a: string, b: string): number {
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
export function classIndices(classes: readonly string[]): Map<string, number> {
  return new Map(classes.map((name, i) => [name, i]));
}

/** `[size] i32` class indices. @throws INVALID_DATA for a class that is not known */
export function labelIndices(records: Records, column: string, indices: ReadonlyMap<string, number>): Int32Array {
  const out = new Int32Array(records.lines.length);
  for (let i = 0; i < out.length; i++) {
    const name = className(records, i, column);
    const index = indices.get(name);
    if (index === undefined) {
      const nearest = nearestNames(name, [...indices.keys()]);
      throw invalidData(
        placeOf(records, i, column),
        `unknown class ${show(name)}; the nearest of the ${indices.size} known: ${showNames(nearest)}`,
        { value: name, nearest },
      );
    }
    out[i] = index;
  }
  return out;
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
