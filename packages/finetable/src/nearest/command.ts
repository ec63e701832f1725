/** `finetable nearest`: the nearest rows of rows, words or vectors in a table, with an adapter or without. */
import { FinetableError, range, rowsOf, type Matrix } from '@finetable/core';
import { loadAdapters, type Adapter } from '@finetable/lora';
import { openTable, type ShardedTable } from '@finetable/placement';
import { writeJson } from '../failure.ts';
import { alignRows } from '../format.ts';
import type { Io } from '../io.ts';
import type { NearestOptions } from '../program.ts';
import { readWords, rowsOfWords, type Words } from './words.ts';

/** Queries of one pass over the table: enough to be worth it, few enough to print soon and to stop soon. */
const passQueries = 512;

export async function nearestCommand(path: string, options: NearestOptions, io: Io): Promise<void> {
  checkOptions(options);
  const table = await openTable(path, { tensor: options.tensor });
  try {
    const [adapter] = options.adapter === undefined ? [] : await loadAdapters(options.adapter, [table]);
    try {
      await answer(path, adapter?.table ?? table, adapter ?? null, options, io);
    } finally {
      adapter?.close();
    }
  } finally {
    table.close();
  }
}

async function answer(
  path: string,
  table: ShardedTable,
  adapter: Adapter | null,
  options: NearestOptions,
  io: Io,
): Promise<void> {
  const words = await readWords(options.words, path, table.rows);
  const ids = idsOf(path, words, options);
  const queries = ids ? (adapter ? vectorsOf(adapter, ids) : table.gather(ids)) : await readQueries(options.queries!);
  for (let first = 0; first < queries.rows; first += passQueries) {
    if (io.signal.aborted) throw new FinetableError('INTERRUPTED', `nearest: stopped before query ${first}`);
    const part = rowsOf(queries, first, Math.min(passQueries, queries.rows - first));
    const exclude = ids?.subarray(first, first + part.rows);
    const { metric, k } = options;
    const { rows, scores } = await (adapter ?? table).nearest(part, k, { metric, exclude });
    for (let i = 0; i < part.rows; i++) {
      const query = ids ? named(ids[first + i]!, words) : { query: first + i };
      const results = Array.from({ length: k }, (_, j) => ({
        ...named(rows[i * k + j]!, words),
        score: scores.data[i * k + j]!,
      }));
      if (options.json) writeJson(io, { ...query, nearest: results });
      else io.stdout.write(describe(query, results));
    }
  }
}

interface Named {
  readonly row: number;
  /** Where words are known, and the row has one. */
  readonly word?: string;
}

function named(row: number, words: Words | null): Named {
  const word = words?.words[row];
  return word === undefined ? { row } : { row, word };
}

function describe(query: Named | { readonly query: number }, results: readonly (Named & { score: number })[]): string {
  const title =
    'query' in query
      ? `query ${query.query}`
      : query.word === undefined
        ? `row ${query.row}`
        : `${query.word} (row ${query.row})`;
  const withWords = results.some(({ word }) => word !== undefined);
  const lines = results.map(({ row, word = '', score }) => [
    score.toPrecision(4),
    ...(withWords ? [word] : []),
    withWords ? `(row ${row})` : `row ${row}`,
  ]);
  return `${title}\n${alignRows(lines, '  ')}`;
}

/** Null where queries come from a file. */
function idsOf(path: string, words: Words | null, { ids, word }: NearestOptions): Int32Array | null {
  if (ids !== undefined) return Int32Array.from(ids);
  if (word === undefined) return null;
  if (words) return rowsOfWords(words, word);
  throw refuse(
    `no words are known for ${path}; name their file with --words, one word a line in the order of the rows`,
  );
}

/** As `gather` does it, ids are checked first. */
function vectorsOf(adapter: Adapter, ids: Int32Array): Matrix {
  adapter.table.gather(ids);
  return adapter.vectors(ids);
}

async function readQueries(path: string): Promise<Matrix> {
  const file = await openTable(path);
  try {
    return file.gather(range(file.rows));
  } finally {
    file.close();
  }
}

function checkOptions({ ids, word, queries }: NearestOptions): void {
  const given = [ids, word, queries].filter((option) => option !== undefined).length;
  if (given !== 1)
    throw refuse(
      `${given === 0 ? 'nothing' : 'more than one thing'} to search for; allowed: one of --ids, --word, --queries`,
    );
}

function refuse(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `nearest: ${message}`);
}
