/** Before the first batch: which examples there are, and what must be known of all of them. */
import { stat } from 'node:fs/promises';
import { FinetableError } from '@finetable/core';
import type { LoaderPlan } from './plan.ts';
import type { Keys } from './distinct.ts';
import { interrupted } from './errors.ts';
import { targetsOf, type Histories } from './histories/histories.ts';
import { aliasesOf } from './negatives.ts';
import { inLanes } from './lanes.ts';
import { Survey } from './passes.ts';
import type { TaskPlace } from './place.ts';
import type { Retried, TaskPool } from './pool.ts';
import { withoutSource as plain, type PreparedData } from './protocol.ts';
import { refuse } from './refuse.ts';
import type { Selection } from './selection.ts';
import { isCompressed, type TemporaryFolder } from './source/compressed.ts';
import { filesOf } from './source/files.ts';
import { indexOfRows } from './source/rows.ts';
import { indexOf, type FileIndex, type SourceIndex } from './source/source.ts';
import type { DataSpec, FileSource, Row } from './spec.ts';
import { noneSkipped, type Skipped } from './skipped.ts';
import { adapt, gatherersOf, unknownPaths } from './survey.ts';
import { createPool, type ThreadRuntime } from './threads.ts';

export interface Prepared {
  /** Says everything that batches are made of. */
  readonly data: DataSpec;
  /** The same for threads. */
  readonly shared: PreparedData;
  /** Null of examples that are iterated. */
  readonly index: SourceIndex | null;
  /** What is counted as examples: those of `index`, or interactions. Null of examples that are iterated. */
  readonly examples: SourceIndex | null;
  readonly histories: Histories | null;
  /** Of an array. */
  readonly rows: readonly Row[] | null;
  /** The examples of the split; null for all. */
  readonly selection: Selection | null;
  /** Which of these must not meet in a batch; null where all may. */
  readonly keys: Keys | null;
  /** Bad rows, which the selection is without. */
  readonly skipped: Skipped;
  readonly retried: Retried;
}

/** @param temporary for what is decompressed; the caller removes it */
export async function prepare(
  runtime: ThreadRuntime,
  data: DataSpec,
  plan: LoaderPlan,
  name: string,
  temporary: TemporaryFolder,
  signal: AbortSignal | undefined,
  onProgress?: (examples: number, total: number) => void,
): Promise<Prepared> {
  const { source } = data;
  const given = source.rows === undefined ? null : source.rows;
  const rows = Array.isArray(given) ? (given as readonly Row[]) : null;
  const files = source.rows === undefined ? await filesOf(source) : [];
  const looked =
    data.split !== undefined ||
    data.histories !== undefined ||
    typeof data.badRows === 'object' ||
    gatherersOf(data).size > 0;
  const work = looked || files.length > 1;
  const pool = createPool(null, { ...plan, workers: work ? plan.workers : Math.min(plan.workers, 1) }, runtime);
  const onAbort = (): void => void pool.stop(interrupted(name));
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    if (given && !rows) return await prepareStream(pool, data, name, plan);
    if (rows?.length === 0) throw new FinetableError('INVALID_DATA', `${name}: no examples: the array is empty`);
    const index = rows
      ? indexOfRows(name, rows.length)
      : await scan(pool, files, source as FileSource, temporary, plan);
    const ofRows = new Survey(pool, index, rows, null, name, plan, onProgress);
    const found = data.histories ? await ofRows.histories(data, data.histories) : null;
    const leaveOut = data.split?.leaveOut === undefined ? null : data.split;
    const rowSplit = data.split && !leaveOut ? await ofRows.split(data) : null;
    const histories = found?.histories ?? null;
    const survey = histories ? new Survey(pool, index, rows, histories, name, plan, onProgress) : ofRows;
    const split = histories ? targetsOf(histories, rowSplit, leaveOut) : rowSplit;
    const { selection, skipped } = await survey.screen(data, split, found?.skipped ?? noneSkipped);
    const adapted = await survey.gather(data, selection);
    const shared = sharedOf(adapted, histories, plan);
    await pool.run({ type: 'check', data: shared, index: rows ? null : index }, () => wholeOf(name));
    const keys = plan.distinct === null ? null : await survey.keys(adapted, selection, plan.distinct);
    const { examples } = survey;
    const { retried } = pool;
    return { data: adapted, shared, keys, index, examples, histories, rows, selection, skipped, retried };
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await pool.stop(new FinetableError('CLOSED', `${name}: the loader is closed`, { file: name }));
  }
}

function sharedOf(data: DataSpec, histories: Histories | null, { seed }: LoaderPlan): PreparedData {
  const aliases = Object.entries(data.negatives ?? {}).flatMap(([name, { distribution }]) =>
    typeof distribution === 'object' ? [[name, aliasesOf(name, distribution)] as const] : [],
  );
  return { ...plain(data), ...(histories && { grouped: histories }), aliases: Object.fromEntries(aliases), seed };
}

/** What is iterated may have no end, and cannot be looked through. */
async function prepareStream(pool: TaskPool, data: DataSpec, name: string, plan: LoaderPlan): Promise<Prepared> {
  if (data.histories) throw refuse('histories', data.histories, 'none for what is iterated');
  if (data.split)
    throw new FinetableError('INVALID_ARGUMENT', 'split: found one; allowed: only for files and arrays', {
      path: 'split',
    });
  if (plan.distinct !== null) throw refuse('distinct', plan.distinct, 'none for what is iterated');
  if (plan.cacheBytes > 0) throw refuse('cacheBytes', plan.cacheBytes, '0 for what is iterated');
  const [path] = unknownPaths(data);
  if (path !== undefined) {
    const message = 'has to be given, since examples that are iterated cannot be looked through before';
    throw new FinetableError('INVALID_ARGUMENT', `${path}: ${message}`, { path });
  }
  const adapted = await adapt(data, {});
  const shared = sharedOf(adapted, null, plan);
  await pool.run({ type: 'check', data: shared, index: null }, () => wholeOf(name));
  return {
    ...{ data: adapted, shared, index: null, examples: null, histories: null, rows: null },
    ...{ selection: null, keys: null, skipped: noneSkipped, retried: pool.retried },
  };
}

async function scan(
  pool: TaskPool,
  files: readonly string[],
  source: FileSource,
  temporary: TemporaryFolder,
  plan: LoaderPlan,
): Promise<SourceIndex> {
  const indices: FileIndex[] = [];
  await inLanes(
    files,
    plan,
    async (file) => {
      const path = isCompressed(file) ? temporary.pathFor(file) : file;
      const sizeBytes = await sizeOf(file);
      return pool.run({ type: 'scan', file, path, sizeBytes, source }, () =>
        wholeOf(file, `bytes 0 to ${sizeBytes}, index pass`),
      );
    },
    ({ index }) => indices.push(index),
  );
  return indexOf(indices);
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
