/**
 * The loader: an index pass, then batches in order, made ahead in worker threads.
 *
 * Batch i of an epoch holds examples `order[i * batchSize ..]`, whichever thread makes it, so batches do not depend on
 * the number of workers. Memory is bounded: no more than `prefetchBatches` are made, or being made, and not yet consumed.
 */
import { FinetableError, permutation } from '@finetable/core';
import type { Batch } from './batch.ts';
import { checkData, planLoader, type LoaderPlan } from './check.ts';
import { interrupted } from './errors.ts';
import { createPool, defaultRuntime, taskError, type TaskPool, type ThreadRuntime } from './pool.ts';
import type { IndexReply } from './protocol.ts';
import type { SourceIndex } from './source.ts';
import type { DataSpec, LoaderOptions } from './spec.ts';
import { withClasses } from './tasks.ts';

/** Totals since the loader was opened. */
export interface LoaderStatistics {
  /** Batches made, their examples, and the bytes of the file read for them. */
  readonly batches: number;
  readonly examples: number;
  readonly sizeBytes: number;
  /** Time spent on making them, summed over the workers. */
  readonly workSeconds: number;
  /** Time the consumer waited for batches. */
  readonly waitSeconds: number;
}

export interface Loader {
  /** What it was opened with. */
  readonly data: DataSpec;
  readonly examples: number;
  readonly batchesPerEpoch: number;
  /** Class names per label, given or found. */
  readonly classes: Readonly<Record<string, readonly string[]>>;
  /** As of now. */
  readonly statistics: LoaderStatistics;
  /**
   * Batches of `epochs` epochs (default 1), from batch `from` (default 0) of `epoch` on. In an iteration over several the
   * workers begin an epoch while the last batches of the one before are consumed, so that they never stand idle between.
   * The batches are the consumer's. One iteration at a time; leaving it early (`break`, `return()`) waits for the tasks
   * in progress and leaves the loader ready for another.
   *
   * Iterating throws INVALID_DATA or ID_OUT_OF_RANGE naming file, line and column, after the batches before that one;
   * INVALID_FILE where the file has changed since it was opened; WORKER_FAILED; INTERRUPTED by the signal; CLOSED.
   * After the last three the loader can only be closed.
   */
  batches(epoch: number, from?: number, epochs?: number): AsyncIterableIterator<Batch>;
  /** Ends all threads. An iteration in progress throws CLOSED. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Indexes the file, finds the classes of labels that name none, checks the labels of those that do, and starts the workers.
 *
 * @throws INVALID_ARGUMENT (`details.path` names the field), NOT_FOUND, IO, INVALID_DATA (no examples, a missing column;
 *   where there are labels, also an unknown class and any record that cannot be parsed), INVALID_FILE (a vocabulary),
 *   WORKER_FAILED, INTERRUPTED
 */
export function openLoader(data: DataSpec, options: LoaderOptions): Promise<Loader> {
  return openLoaderOn(defaultRuntime, data, options);
}

/** `openLoader` with other worker threads, for tests of what happens when they fail. */
export async function openLoaderOn(runtime: ThreadRuntime, data: DataSpec, options: LoaderOptions): Promise<Loader> {
  checkData(data);
  const plan = planLoader(options);
  const { signal } = options;
  const { file } = data.source;
  if (signal?.aborted) throw interrupted(file);
  const { index, classes } = await makeIndex(runtime, data, plan, signal);
  const pool = createPool({ data: withClasses(data, classes), index }, plan.workers, runtime);
  return new FileLoader(data, plan, index, classes, pool, signal);
}

async function makeIndex(
  runtime: ThreadRuntime,
  data: DataSpec,
  plan: LoaderPlan,
  signal: AbortSignal | undefined,
): Promise<IndexReply> {
  const { file } = data.source;
  const pool = createPool({ data, index: null }, Math.min(plan.workers, 1), runtime);
  const onAbort = (): void => void pool.stop(interrupted(file));
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await pool.run({ type: 'index' }, () => `${file}, index pass`);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await pool.stop(closed(file));
  }
}

/** What a task came to: batches, and why there are none after them. */
interface Made {
  readonly batches: readonly Batch[];
  readonly error: FinetableError | null;
}

class FileLoader implements Loader {
  readonly data: DataSpec;
  readonly examples: number;
  readonly batchesPerEpoch: number;
  readonly classes: Readonly<Record<string, readonly string[]>>;
  readonly #file: string;
  readonly #plan: LoaderPlan;
  readonly #index: SourceIndex;
  readonly #pool: TaskPool;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.#pool.stop(interrupted(this.#file));
  readonly #totals = { batches: 0, examples: 0, sizeBytes: 0, workSeconds: 0, waitSeconds: 0 };
  #iterating = false;

  constructor(
    data: DataSpec,
    plan: LoaderPlan,
    index: SourceIndex,
    classes: Readonly<Record<string, readonly string[]>>,
    pool: TaskPool,
    signal: AbortSignal | undefined,
  ) {
    this.examples = index.examples;
    this.batchesPerEpoch = Math.ceil(index.examples / plan.batchSize);
    this.classes = classes;
    this.data = data;
    this.#file = data.source.file;
    this.#plan = plan;
    this.#index = index;
    this.#pool = pool;
    this.#signal = signal;
    if (signal?.aborted) this.#onAbort();
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get statistics(): LoaderStatistics {
    return { ...this.#totals };
  }

  batches(epoch: number, from = 0, epochs = 1): AsyncIterableIterator<Batch> {
    if (!Number.isSafeInteger(epoch) || epoch < 0) {
      throw new FinetableError('INVALID_ARGUMENT', `epoch: found ${epoch}; allowed: integers from 0`);
    }
    if (!Number.isInteger(from) || from < 0 || from > this.batchesPerEpoch) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `from: found ${from}; allowed: integers from 0 to ${this.batchesPerEpoch}`,
      );
    }
    if (!Number.isSafeInteger(epochs) || epochs < 1) {
      throw new FinetableError('INVALID_ARGUMENT', `epochs: found ${epochs}; allowed: integers from 1`);
    }
    return this.#iterate(epoch, from, epoch + epochs);
  }

  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await this.#pool.stop(closed(this.#file));
  }

  async *#iterate(epoch: number, from: number, endEpoch: number): AsyncGenerator<Batch, void, undefined> {
    if (this.#iterating) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${this.#file}: an iteration is in progress; leave it before another`,
      );
    }
    this.#iterating = true;
    const { shuffle, seed, workers, prefetchBatches, taskBatches } = this.#plan;
    const tasks: Promise<Made>[] = []; // in order
    let next = from; // the first batch of `epoch` that no task has
    let order: Uint32Array | null = null; // of `epoch`
    let held = 0; // batches of all tasks that are not consumed
    let busy = 0; // tasks not done
    let ended = false;
    try {
      const fill = (): void => {
        while (!ended && busy < this.#pool.lanes && epoch < endEpoch) {
          if (next === this.batchesPerEpoch) {
            epoch++;
            next = 0;
            order = null;
            continue;
          }
          const count = Math.min(taskBatches, this.batchesPerEpoch - next);
          if (held + count > prefetchBatches) return;
          if (shuffle) order ??= permutation(this.examples, seed, `shuffle/${epoch}`);
          const task = this.#make(epoch, next, count, order).finally(() => {
            busy--;
            fill();
          });
          // Its turn may come much later; until then a failure is not unhandled.
          task.catch(() => undefined);
          tasks.push(task);
          next += count;
          held += count;
          busy++;
        }
      };
      fill();
      for (let task = tasks.shift(); task; task = tasks.shift()) {
        const began = performance.now();
        const { batches, error } = await task;
        this.#totals.waitSeconds += (performance.now() - began) / 1000;
        for (const batch of batches) {
          // Batches made before a stop are not handed out after it.
          if (this.#pool.stopped) throw this.#pool.stopped;
          held--;
          if (workers > 0) fill();
          yield batch;
        }
        if (error) throw error;
        fill();
      }
    } finally {
      ended = true;
      await Promise.allSettled(tasks);
      this.#iterating = false;
    }
  }

  async #make(epoch: number, first: number, count: number, order: Uint32Array | null): Promise<Made> {
    const { batchSize } = this.#plan;
    const begin = first * batchSize;
    const end = Math.min(begin + count * batchSize, this.examples);
    const rows = order ? order.slice(begin, end) : Uint32Array.from({ length: end - begin }, (_, i) => begin + i);
    const what = (): string => this.#describe(rows);
    const made = await this.#pool.run({ type: 'batches', epoch, first, batchSize, rows }, what);
    this.#totals.batches += made.batches.length;
    for (const { size } of made.batches) this.#totals.examples += size;
    this.#totals.sizeBytes += made.sizeBytes;
    this.#totals.workSeconds += made.workSeconds;
    return { batches: made.batches, error: made.error && taskError(made.error, what) };
  }

  #describe(rows: Uint32Array): string {
    const { lines } = this.#index;
    const first = lines[rows.reduce((a, b) => Math.min(a, b))]!;
    const last = lines[rows.reduce((a, b) => Math.max(a, b))]!;
    return `${this.#file}, lines ${first} to ${last}`;
  }
}

function closed(file: string): FinetableError {
  return new FinetableError('CLOSED', `${file}: the loader is closed`, { file });
}
