/** Before the first batch: which examples there are, and what must be known of all of them. */
import { stat } from 'node:fs/promises';
import { FinetableError, range } from '@finetable/core';
import type { LoaderPlan } from './check.ts';
import { interrupted } from './errors.ts';
import { placeOfExamples, type TaskPlace } from './place.ts';
import type { Retried, TaskPool } from './pool.ts';
import { withoutSource as plain, type TaskExamples } from './protocol.ts';
import { selectionOf, type Selection } from './selection.ts';
import { isCompressed, type TemporaryFolder } from './source/compressed.ts';
import { filesOf } from './source/files.ts';
import { indexOfRows } from './source/rows.ts';
import { indexOf, type SourceIndex } from './source/source.ts';
import type { DataSpec, FileSource, Row } from './spec.ts';
import { addSkipped, noneSkipped, type Skipped } from './skipped.ts';
import { createPool, type ThreadRuntime } from './threads.ts';
import { adapt, combineStates, gatherersOf, unknownPaths } from './survey.ts';

export interface Prepared {
  /** Says everything that batches are made of. */
  readonly data: DataSpec;
  /** Null of examples that are iterated. */
  readonly index: SourceIndex | null;
  /** Of an array. */
  readonly rows: readonly Row[] | null;
  /** The examples of the split; null for all. */
  readonly selection: Selection | null;
  /** Bad rows, which the selection is without. */
  readonly skipped: Skipped;
  readonly retried: Retried;
}

/** Blocks of a task: some MiB. */
const taskBlocks = 4;

/** @param temporary for what is decompressed; the caller removes it */
export async function prepare(
  runtime: ThreadRuntime,
  data: DataSpec,
  plan: LoaderPlan,
  name: string,
  temporary: TemporaryFolder,
  signal: AbortSignal | undefined,
): Promise<Prepared> {
  const { source } = data;
  const given = source.rows === undefined ? null : source.rows;
  const rows = Array.isArray(given) ? (given as readonly Row[]) : null;
  const files = source.rows === undefined ? await filesOf(source) : [];
  const looked = data.split !== undefined || typeof data.badRows === 'object' || gatherersOf(data).size > 0;
  const work = looked || files.length > 1;
  const pool = createPool(null, { ...plan, workers: work ? plan.workers : Math.min(plan.workers, 1) }, runtime);
  const onAbort = (): void => void pool.stop(interrupted(name));
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    if (given && !rows) return await prepareStream(pool, data, name);
    if (rows?.length === 0) throw new FinetableError('INVALID_DATA', `${name}: no examples: the array is empty`);
    const index = rows
      ? indexOfRows(name, rows.length)
      : await scan(pool, files, source as FileSource, temporary, plan);
    const survey = new Survey(pool, index, rows, name, plan);
    const split = data.split ? await survey.split(data) : null;
    const { selection, skipped } = await survey.screen(data, split);
    const adapted = await survey.gather(data, selection);
    await pool.run({ type: 'check', data: plain(adapted), index: rows ? null : index }, () => wholeOf(name));
    return { data: adapted, index, rows, selection, skipped, retried: pool.retried };
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await pool.stop(new FinetableError('CLOSED', `${name}: the loader is closed`, { file: name }));
  }
}

/** What is iterated may have no end, and cannot be looked through. */
async function prepareStream(pool: TaskPool, data: DataSpec, name: string): Promise<Prepared> {
  if (data.split)
    throw new FinetableError('INVALID_ARGUMENT', 'split: found one; allowed: only for files and arrays', {
      path: 'split',
    });
  const [path] = unknownPaths(data);
  if (path !== undefined) {
    const message = 'has to be given, since examples that are iterated cannot be looked through before';
    throw new FinetableError('INVALID_ARGUMENT', `${path}: ${message}`, { path });
  }
  const adapted = await adapt(data, {});
  await pool.run({ type: 'check', data: plain(adapted), index: null }, () => wholeOf(name));
  return {
    ...{ data: adapted, index: null, rows: null, selection: null },
    ...{ skipped: noneSkipped, retried: pool.retried },
  };
}

async function scan(
  pool: TaskPool,
  files: readonly string[],
  source: FileSource,
  temporary: TemporaryFolder,
  plan: LoaderPlan,
): Promise<SourceIndex> {
  const indices = await inLanes(files, plan, async (file) => {
    const path = isCompressed(file) ? temporary.pathFor(file) : file;
    const sizeBytes = await sizeOf(file);
    return pool.run({ type: 'scan', file, path, sizeBytes, source }, () =>
      wholeOf(file, `bytes 0 to ${sizeBytes}, index pass`),
    );
  });
  return indexOf(indices.map(({ index }) => index));
}

/** 0 where there is none, which the scan will say. */
async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

function wholeOf(file: string, doing = 'opening'): TaskPlace {
  return { text: `${file}, ${doing}`, details: { file } };
}

/** Passes over all examples, on all threads. */
class Survey {
  readonly #pool: TaskPool;
  readonly #index: SourceIndex;
  readonly #rows: readonly Row[] | null;
  readonly #name: string;
  readonly #plan: LoaderPlan;

  constructor(pool: TaskPool, index: SourceIndex, rows: readonly Row[] | null, name: string, plan: LoaderPlan) {
    this.#pool = pool;
    this.#index = index;
    this.#rows = rows;
    this.#name = name;
    this.#plan = plan;
  }

  async split(data: DataSpec): Promise<Selection> {
    const parts = await this.#each(null, (examples, first) =>
      this.#pool.run({ type: 'split', data: plain(data), index: this.#sent, first, examples }, () =>
        this.#place(examples, 'split'),
      ),
    );
    return selectionOf(
      this.#index.examples,
      (function* () {
        for (const { excluded } of parts) yield* excluded;
      })(),
    );
  }

  /** Leaves bad rows out, where the data says so. @throws INVALID_DATA where there are too many, or nothing is left */
  async screen(
    data: DataSpec,
    within: Selection | null,
  ): Promise<{ readonly selection: Selection | null; readonly skipped: Skipped }> {
    const { badRows = 'error' } = data;
    if (badRows === 'error') return { selection: within, skipped: noneSkipped };
    const parts = await this.#each(within, (examples) =>
      this.#pool.run({ type: 'screen', data: plain(data), index: this.#sent, examples }, () =>
        this.#place(examples, 'looking for bad rows'),
      ),
    );
    let skipped = noneSkipped;
    for (const { excluded, problems } of parts)
      skipped = addSkipped(skipped, excluded.length, problems, badRows.skip, this.#name);
    if (skipped.count === 0) return { selection: within, skipped };
    const excluded = (function* () {
      for (const part of parts) yield* part.excluded;
    })();
    const selection = selectionOf(this.#index.examples, excluded, within);
    if (selection.count > 0) return { selection, skipped };
    throw new FinetableError('INVALID_DATA', `${this.#name}: every row is bad; the first: ${skipped.problems[0]}`);
  }

  async gather(data: DataSpec, selection: Selection | null): Promise<DataSpec> {
    if (gatherersOf(data).size === 0) return adapt(data, {});
    const parts = await this.#each(selection, (examples) =>
      this.#pool.run({ type: 'gather', data: plain(data), index: this.#sent, examples }, () =>
        this.#place(examples, 'gathering what has to be known'),
      ),
    );
    return adapt(
      data,
      combineStates(
        data,
        parts.map(({ states }) => states),
      ),
    );
  }

  /** Workers read files; of an array they get the rows. */
  get #sent(): SourceIndex | null {
    return this.#rows ? null : this.#index;
  }

  #place(examples: TaskExamples, doing: string): TaskPlace {
    return placeOfExamples(this.#index, this.#name, examples, doing);
  }

  /** Some blocks at a time; results in the order of the source. */
  #each<T>(selection: Selection | null, run: (examples: TaskExamples, first: number) => Promise<T>): Promise<T[]> {
    const ranges: { first: number; end: number }[] = [];
    let fileFirst = 0;
    for (const { blocks, examples } of this.#index.files) {
      for (let block = 0; block < blocks.length - 1; block += taskBlocks) {
        const end = blocks[Math.min(block + taskBlocks, blocks.length - 1)]!;
        ranges.push({ first: fileFirst + blocks[block]!, end: fileFirst + end });
      }
      fileFirst += examples;
    }
    return inLanes(ranges, this.#plan, ({ first, end }) => {
      let rows = Uint32Array.from(range(end - first), (i) => first + i);
      if (selection) rows = rows.filter((row) => isSelected(selection, row));
      return run(examplesOf(this.#rows, this.#name, rows), first);
    });
  }
}

function isSelected({ bits }: Selection, row: number): boolean {
  return ((bits[row >>> 5]! >>> (row & 31)) & 1) === 1;
}

/** Examples as a task gets them. */
export function examplesOf(all: readonly Row[] | null, name: string, rows: Uint32Array): TaskExamples {
  return all ? { given: { name, rows: Array.from(rows, (row) => all[row]), numbers: rows } } : { rows };
}

/** As many at a time as there are threads; results in order. */
async function inLanes<T, R>(items: readonly T[], { workers }: LoaderPlan, run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++;
      results[i] = await run(items[i]!);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, workers) }, lane));
  return results;
}
