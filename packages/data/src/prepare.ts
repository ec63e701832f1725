/** Before the first batch: which examples there are, and what must be known of all of them. */
import { stat } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { FinetableError, range } from '@finetable/core';
import type { LoaderPlan } from './plan.ts';
import { checkDistinct, keysOf, type Keys } from './distinct.ts';
import { interrupted, showNames } from './errors.ts';
import type { Interactions } from './histories/collect.ts';
import { groupInteractions, targetsOf, type Histories } from './histories/histories.ts';
import { aliasesOf } from './negatives.ts';
import { placeOfExamples, type TaskPlace } from './place.ts';
import type { Retried, TaskPool } from './pool.ts';
import { withoutSource as plain, type PreparedData, type TaskExamples } from './protocol.ts';
import { refuse } from './refuse.ts';
import { selectionOf, type Selection } from './selection.ts';
import { isCompressed, type TemporaryFolder } from './source/compressed.ts';
import { filesOf } from './source/files.ts';
import { indexOfRows } from './source/rows.ts';
import { indexOf, type FileIndex, type SourceIndex } from './source/source.ts';
import type { DataSpec, FileSource, HistoriesSpec, Row } from './spec.ts';
import { addSkipped, noneSkipped, type Skipped } from './skipped.ts';
import { adapt, gatherersOf, StateSum, unknownPaths } from './survey.ts';
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

/** Passes over all examples, on all threads. */
class Survey {
  readonly #pool: TaskPool;
  readonly #index: SourceIndex;
  readonly #rows: readonly Row[] | null;
  readonly #histories: Histories | null;
  readonly #name: string;
  readonly #plan: LoaderPlan;
  /** What is counted as examples. */
  readonly examples: SourceIndex;
  readonly #onProgress: ((examples: number, total: number) => void) | undefined;

  constructor(
    pool: TaskPool,
    index: SourceIndex,
    rows: readonly Row[] | null,
    histories: Histories | null,
    name: string,
    plan: LoaderPlan,
    onProgress?: (examples: number, total: number) => void,
  ) {
    this.#onProgress = onProgress;
    this.#pool = pool;
    this.#index = index;
    this.#histories = histories;
    this.examples = histories ? { ...indexOfRows(name, histories.rows.length), sizeBytes: index.sizeBytes } : index;
    this.#rows = rows;
    this.#name = name;
    this.#plan = plan;
  }

  /** @throws INVALID_DATA for a bad row, or too many where they are left out */
  async histories(
    data: DataSpec,
    spec: HistoriesSpec,
  ): Promise<{ readonly histories: Histories; readonly skipped: Skipped }> {
    const limit = typeof data.badRows === 'object' ? data.badRows.skip : Infinity;
    const parts: Interactions[] = [];
    let skipped = noneSkipped;
    await this.#each(
      null,
      (examples) =>
        this.#pool.run({ type: 'collect', data: plain(data), index: this.#sent, examples }, () =>
          this.#place(examples, 'collecting histories'),
        ),
      ({ found, bad }) => {
        skipped = addSkipped(skipped, bad.excluded.length, bad.problems, limit, this.#name);
        parts.push(found);
      },
    );
    const pause = async (): Promise<void> => {
      await setImmediate();
      if (this.#pool.stopped) throw this.#pool.stopped;
    };
    return { histories: await groupInteractions(spec, parts, this.#name, pause), skipped };
  }

  async split(data: DataSpec): Promise<Selection> {
    const excluded: Uint32Array[] = [];
    await this.#each(
      null,
      (examples, first) =>
        this.#pool.run({ type: 'split', data: plain(data), index: this.#sent, first, examples }, () =>
          this.#place(examples, 'split'),
        ),
      (part) => excluded.push(part.excluded),
    );
    return selectionOf(this.#index.examples, flatten(excluded));
  }

  /** Leaves bad rows out, where the data says so. @throws INVALID_DATA where there are too many, or nothing is left */
  async screen(
    data: DataSpec,
    within: Selection | null,
    before: Skipped,
  ): Promise<{ readonly selection: Selection | null; readonly skipped: Skipped }> {
    const { badRows = 'error' } = data;
    if (badRows === 'error') return { selection: within, skipped: before };
    const excluded: Uint32Array[] = [];
    let skipped = before;
    await this.#each(
      within,
      (examples) =>
        this.#pool.run({ type: 'screen', data: this.#plain(data), index: this.#sent, examples }, () =>
          this.#place(examples, 'looking for bad rows'),
        ),
      (part) => {
        skipped = addSkipped(skipped, part.excluded.length, part.problems, badRows.skip, this.#name);
        excluded.push(part.excluded);
      },
    );
    if (skipped.count === before.count) return { selection: within, skipped };
    const selection = selectionOf(this.examples.examples, flatten(excluded), within);
    if (selection.count > 0) return { selection, skipped };
    throw new FinetableError('INVALID_DATA', `${this.#name}: every row is bad; the first: ${skipped.problems[0]}`);
  }

  async gather(data: DataSpec, selection: Selection | null): Promise<DataSpec> {
    if (gatherersOf(data).size === 0) return adapt(data, {});
    const sum = new StateSum(data);
    await this.#each(
      selection,
      (examples) =>
        this.#pool.run({ type: 'gather', data: this.#plain(data), index: this.#sent, examples }, () =>
          this.#place(examples, 'gathering what has to be known'),
        ),
      ({ states }) => sum.add(states),
    );
    return adapt(data, sum.states);
  }

  /** @throws INVALID_ARGUMENT where more examples are alike than there are batches */
  async keys(data: DataSpec, selection: Selection | null, feature: string): Promise<Keys> {
    if (!Object.hasOwn(data.features, feature))
      throw refuse('distinct', feature, showNames(Object.keys(data.features)));
    const hashes = new Float64Array(selection ? selection.count : this.examples.examples);
    let at = 0;
    await this.#each(
      selection,
      (examples) =>
        this.#pool.run({ type: 'keys', data: this.#plain(data), index: this.#sent, examples, feature }, () =>
          this.#place(examples, 'finding which are alike'),
        ),
      (part) => {
        hashes.set(part.hashes, at);
        at += part.hashes.length;
      },
    );
    const keys = keysOf(hashes);
    checkDistinct(keys, this.#plan.batchSize, feature);
    return keys;
  }

  #plain(data: DataSpec): PreparedData {
    return { ...plain(data), ...(this.#histories && { grouped: this.#histories }) };
  }

  /** Workers read files; of an array they get the rows. */
  get #sent(): SourceIndex | null {
    return this.#rows ? null : this.#index;
  }

  #place(examples: TaskExamples, doing: string): TaskPlace {
    return placeOfExamples(this.#index, this.#name, rowsOf(examples, this.#histories), doing);
  }

  /** Some blocks at a time; `take` gets the results in the order of the source. */
  #each<T>(
    selection: Selection | null,
    run: (examples: TaskExamples, first: number) => Promise<T>,
    take: (result: T) => void,
  ): Promise<void> {
    const ranges: { first: number; end: number }[] = [];
    let fileFirst = 0;
    for (const { blocks, examples } of this.examples.files) {
      for (let block = 0; block < blocks.length - 1; block += taskBlocks) {
        const end = blocks[Math.min(block + taskBlocks, blocks.length - 1)]!;
        ranges.push({ first: fileFirst + blocks[block]!, end: fileFirst + end });
      }
      fileFirst += examples;
    }
    let done = 0;
    const examine = async ({ first, end }: { first: number; end: number }): Promise<T> => {
      let rows = Uint32Array.from(range(end - first), (i) => first + i);
      if (selection) rows = rows.filter((row) => isSelected(selection, row));
      const result = await run(examplesOf(this.#rows, this.#histories, this.#name, rows), first);
      done += end - first;
      this.#onProgress?.(done, this.examples.examples);
      return result;
    };
    return inLanes(ranges, this.#plan, examine, take);
  }
}

function isSelected({ bits }: Selection, row: number): boolean {
  return ((bits[row >>> 5]! >>> (row & 31)) & 1) === 1;
}

/** Examples as a task gets them. @param numbers of rows, or of interactions */
export function examplesOf(
  all: readonly Row[] | null,
  histories: Histories | null,
  name: string,
  numbers: Uint32Array,
): TaskExamples {
  if (!all) return { rows: numbers };
  const rows = Array.from(numbers, (number) => all[histories ? histories.rows[number]! : number]);
  return { given: { name, rows, numbers } };
}

/** The same by numbers of rows, for errors. */
export function rowsOf({ rows, given }: TaskExamples, histories: Histories | null): TaskExamples {
  const numbers = rows ?? given.numbers;
  return { rows: histories ? numbers.map((number) => histories.rows[number]!) : numbers };
}

function* flatten(parts: readonly Uint32Array[]): Iterable<number> {
  for (const part of parts) yield* part;
}

/** As many at a time as there are threads; `take` gets the results in order, and none is held longer than its turn is to come. */
async function inLanes<T, R>(
  items: readonly T[],
  { workers }: LoaderPlan,
  run: (item: T) => Promise<R>,
  take: (result: R) => void,
): Promise<void> {
  const early = new Map<number, R>();
  let next = 0;
  let taken = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++;
      early.set(i, await run(items[i]!));
      for (; early.has(taken); taken++) {
        take(early.get(taken)!);
        early.delete(taken);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, workers) }, lane));
}
