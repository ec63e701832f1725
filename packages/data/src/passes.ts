/** Passes over all examples before the first batch, some blocks at a time, on all threads. */
import { setImmediate } from 'node:timers/promises';
import { FinetableError, range } from '@finetable/core';
import { checkDistinct, keysOf, type Keys } from './distinct.ts';
import { showNames } from './errors.ts';
import type { Interactions } from './histories/collect.ts';
import { groupInteractions, type Histories } from './histories/histories.ts';
import { inLanes } from './lanes.ts';
import { placeOfExamples, type TaskPlace } from './place.ts';
import type { LoaderPlan } from './plan.ts';
import type { TaskPool } from './pool.ts';
import { withoutSource as plain, type PreparedData, type TaskExamples } from './protocol.ts';
import { refuse } from './refuse.ts';
import { isSelected, selectionOf, type Selection } from './selection.ts';
import { addSkipped, noneSkipped, type Skipped } from './skipped.ts';
import { indexOfRows } from './source/rows.ts';
import type { SourceIndex } from './source/source.ts';
import type { DataSpec, HistoriesSpec, Row } from './spec.ts';
import { adapt, gatherersOf, StateSum } from './survey.ts';
import { examplesOf, rowsOf } from './task-examples.ts';

/** Blocks of a task: some MiB. */
const taskBlocks = 4;

export class Survey {
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

function* flatten(parts: readonly Uint32Array[]): Iterable<number> {
  for (const part of parts) yield* part;
}
