/** What training did to a table's rows: where they lie, how far they moved, and what is near a few of them before and after. */
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { isFinetableError } from '@finetable/core';
import { wordLines } from '@finetable/data';
import type { Adapter } from '@finetable/lora';
import type { Nearest } from '@finetable/placement';
import type { LoadedJob } from '../job/read.ts';

/** What training did to a table. */
export interface TableChanges {
  /** Touched rows in each of equal parts of the table, from its first row to its last. */
  readonly positions: readonly number[];
  /** Rows that were looked at, of those that were touched: all, or every n-th. */
  readonly sampledRows: number;
  /** Of the sampled rows, how many moved how far: |e - w| / |w|, between neighbouring edges; the last edge is the largest. */
  readonly moved: { readonly edges: readonly number[]; readonly counts: readonly number[]; readonly median: number };
  /** The named rows of the job's `report.probes`, else those that moved the farthest; empty where no words are known. */
  readonly probes: readonly Probe[];
}

/** A row, how far it moved, and its nearest rows before and after. */
export interface Probe {
  readonly row: number;
  readonly word: string;
  /** |e - w|. */
  readonly moved: number;
  readonly before: readonly Neighbour[];
  readonly after: readonly Neighbour[];
}

/** A near row. */
export interface Neighbour {
  readonly word: string;
  /** Cosine. */
  readonly score: number;
}

const parts = 40;
const mostSampled = 4096;
const bins = 24;
const probeCount = 6;
const neighbours = 5;
/** A search reads the whole table, at some GB a second: a report is not worth more than that. */
const mostSearchedBytes = 4 * 2 ** 30;

/** @returns null where nothing was touched, or rows cannot be read here */
export async function describeChanges(adapter: Adapter, name: string, loaded: LoadedJob): Promise<TableChanges | null> {
  const { table } = adapter;
  if (adapter.touchedRows === 0 || table.needsFetch) return null;
  adapter.settle();
  const touched = Int32Array.from(adapter.groups.flatMap(({ slots }) => [...slots.rows])).sort();
  const positions = Array<number>(Math.min(parts, table.rows)).fill(0);
  for (const row of touched) positions[Math.floor((row / table.rows) * positions.length)]!++;
  const stride = Math.ceil(touched.length / mostSampled);
  const rows = touched.filter((_, i) => i % stride === 0);
  const distances = movedBy(adapter, rows);
  const sorted = distances.map(({ relative }) => relative).sort((a, b) => a - b);
  const words = await wordsOf(name, table.rows, loaded);
  const probes = words ? await probe(adapter, rows, distances, words, loaded.job.report?.probes) : [];
  return { positions, sampledRows: rows.length, moved: histogram(sorted), probes };
}

interface Distance {
  readonly absolute: number;
  readonly relative: number;
}

function movedBy(adapter: Adapter, rows: Int32Array): Distance[] {
  const [before, after] = [adapter.table.gather(rows), adapter.vectors(rows)];
  const { cols } = before;
  return Array.from(rows, (_, i) => {
    let [moved, length] = [0, 0];
    for (let at = i * cols; at < (i + 1) * cols; at++) {
      moved += (after.data[at]! - before.data[at]!) ** 2;
      length += before.data[at]! ** 2;
    }
    return { absolute: Math.sqrt(moved), relative: Math.sqrt(moved / (length || 1)) };
  });
}

/** @param sorted ascending */
function histogram(sorted: readonly number[]): TableChanges['moved'] {
  const largest = sorted.at(-1)! || 1;
  const counts = Array<number>(bins).fill(0);
  for (const value of sorted) counts[Math.min(bins - 1, Math.floor((value / largest) * bins))]!++;
  const edges = Array.from({ length: bins + 1 }, (_, i) => (i * largest) / bins);
  return { edges, counts, median: sorted[sorted.length >> 1]! };
}

/** The words of a table's rows: its features' vocabulary, or `words.txt` beside it that has all; null where there are none. */
async function wordsOf(name: string, rows: number, { job, folder }: LoadedJob): Promise<readonly string[] | null> {
  // One that was built from the data names fewer rows than a table that had words before.
  const [vocabulary] = Object.values(job.features).flatMap(({ table, tokens }) =>
    table === name && typeof tokens?.vocabulary === 'string' ? [tokens.vocabulary] : [],
  );
  const file = resolve(folder, job.tables[name]!.file);
  const path = vocabulary === undefined ? join(dirname(file), 'words.txt') : resolve(folder, vocabulary);
  const bytes = await readFile(path).catch(() => null);
  const words = bytes && wordLines(bytes);
  return words && (vocabulary !== undefined || words.length === rows) ? words : null;
}

async function probe(
  adapter: Adapter,
  rows: Int32Array,
  distances: readonly Distance[],
  words: readonly string[],
  asked: readonly (string | number)[] | undefined,
): Promise<Probe[]> {
  const { table } = adapter;
  if (table.sizeBytes > mostSearchedBytes) return [];
  const named = (row: number): boolean => (words[row] ?? '').trim() !== '';
  const farthest = Array.from(rows, (row, i) => ({ row, moved: distances[i]!.absolute }))
    .filter(({ row }) => named(row))
    .sort((a, b) => b.moved - a.moved)
    .slice(0, probeCount)
    .map(({ row }) => row);
  const found = asked?.map((probe) => (typeof probe === 'number' ? probe : words.indexOf(probe)));
  const chosen = Int32Array.from((found ?? farthest).filter((row) => row >= 0 && row < table.rows && named(row)));
  const k = Math.min(neighbours, table.rows - 1);
  if (chosen.length === 0 || k === 0) return [];
  let before: Nearest;
  let after: Nearest;
  try {
    before = await table.nearest(table.gather(chosen), k, { exclude: chosen });
    after = await adapter.nearest(adapter.vectors(chosen), k, { exclude: chosen });
  } catch (error) {
    // Adapted rows that cannot be searched (DoRA, maxNorm), or that hold no numbers.
    if (isFinetableError(error)) return [];
    throw error;
  }
  const moved = movedBy(adapter, chosen);
  const list = ({ rows: found, scores }: Nearest, i: number): Neighbour[] =>
    Array.from({ length: k }, (_, j) => {
      const row = found[i * k + j]!;
      return { word: words[row] ?? `row ${row}`, score: scores.data[i * k + j]! };
    });
  return Array.from(chosen, (row, i) => ({
    row,
    word: words[row]!,
    moved: moved[i]!.absolute,
    before: list(before, i),
    after: list(after, i),
  }));
}
