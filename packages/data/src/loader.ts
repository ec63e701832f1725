/**
 * The loader: what must be known of the source is found out; then batches come in order, made ahead in worker threads.
 *
 * Which examples batch i of an epoch holds is a function of the order alone, whichever thread makes it, so batches do not depend
 * on the number of workers. Memory is bounded: no more than `prefetchBatches`, and no more than about `prefetchBytes`, are made, or
 * being made, and not yet consumed.
 */
import { FinetableError } from '@finetable/core';
import type { Batch } from './batch.ts';
import { cacheMemory, cacheUse, type CacheMemory } from './cache.ts';
import { checkData } from './check.ts';
import { interrupted } from './errors.ts';
import { HeldBytes } from './held-bytes.ts';
import { SpareMemory } from './memory.ts';
import { exampleFeed, streamFeed, type Feed } from './feed.ts';
import type { TaskPlace } from './place.ts';
import { planLoader, type LoaderPlan } from './plan.ts';
import { taskError, type TaskPool } from './pool.ts';
import { checkPosition, identityOf, type DataIdentity, type LoaderPosition } from './position.ts';
import { prepare } from './prepare.ts';
import type { BatchesReply, BatchesRequest, ScreenReply } from './protocol.ts';
import { addSkipped } from './skipped.ts';
import { sourceName } from './source/files.ts';
import { TemporaryFolder } from './source/compressed.ts';
import { rowsName, type GivenRows } from './source/rows.ts';
import type { DataSpec, LoaderOptions } from './spec.ts';
import { StatisticsCounter, type Found, type LoaderStatistics } from './statistics.ts';
import { createPool, defaultRuntime, type ThreadRuntime } from './threads.ts';

/** Batches of a source, made ahead by worker threads. Opened by {@link openLoader}; to be closed. */
export interface Loader {
  /** What it was opened with, and what was found out about the source: everything that serving needs to do the same. */
  readonly data: DataSpec;
  /** Of an epoch; Infinity where they are iterated, and nobody knows. */
  readonly examples: number;
  readonly batchesPerEpoch: number;
  /** Of its files. */
  readonly sizeBytes: number;
  /** Class names per label, given or found, of the labels that have any. */
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
   * INVALID_FILE where the file has changed since it was opened; WORKER_FAILED where a worker failed twice at the same examples
   * (it threw, exited, ran out of memory or took longer than `taskSeconds`); INTERRUPTED by the signal; CLOSED.
   * After the last three the loader can only be closed.
   */
  batches(epoch: number, from?: number, epochs?: number): AsyncIterableIterator<Batch>;
  /**
   * Gives the memory of a batch back, for others to be made in; it must not be used any more. For consumers in a hurry: what is not given back is
   * left to the garbage collector, which is kept busy by it.
   */
  recycle(batch: Batch): void;
  /** The batch after the last one that was consumed; at first, or where another iteration begins, the one that it begins with. */
  readonly position: LoaderPosition;
  /**
   * As `batches`, from a position on up to epoch `endEpoch` (default: the rest of its own), exclusive: also one of another loader, with
   * other workers. @throws INVALID_ARGUMENT where it is none, MISMATCH where that loader's batches are not this one's
   */
  batchesFrom(position: LoaderPosition, endEpoch?: number): AsyncIterableIterator<Batch>;
  /** Ends all threads. An iteration in progress throws CLOSED. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Finds the examples and what must be known of all of them (the classes of labels that name none), checks the labels of those that
 * do, and starts the workers.
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
  const name = data.source.rows === undefined ? sourceName(data.source) : rowsName(data.source);
  if (signal?.aborted) throw interrupted(name);
  const temporary = new TemporaryFolder();
  try {
    const prepared = await prepare(runtime, data, plan, name, temporary, signal);
    const fitted = planLoader(options, prepared.examples);
    const { source, badRows } = data;
    const index = prepared.rows ? null : prepared.index;
    const cache =
      prepared.examples &&
      cacheMemory(
        prepared.examples.examples,
        prepared.selection?.count ?? prepared.examples.examples,
        prepared.index!.files.map(({ file }) => file),
        plan.cacheBytes,
      );
    const totals = { skipped: prepared.skipped, retried: prepared.retried };
    const find = async (given: GivenRows): Promise<ScreenReply> => {
      const request = { type: 'screen', data: null, index: null, examples: { given } } as const;
      const found = await pool.run(request, () => feed.place(request.examples));
      totals.skipped = addSkipped(totals.skipped, found.excluded.length, found.problems, Infinity, name);
      return found;
    };
    const { histories, keys } = prepared;
    const feed = prepared.examples
      ? exampleFeed(
          prepared.index!,
          prepared.examples,
          prepared.selection,
          prepared.rows,
          histories,
          keys,
          name,
          fitted,
          cache,
        )
      : streamFeed(
          source.rows!,
          name,
          plan,
          options.shuffleWindow,
          typeof badRows === 'object' ? { limit: badRows.skip, find } : null,
        );
    // Last, since nothing would end its threads if there were no feed.
    const pool = createPool({ data: prepared.shared, index, cache }, plan, runtime);
    return new BatchLoader(prepared.data, fitted, feed, cache, name, pool, temporary, signal, totals);
  } catch (error) {
    temporary.remove();
    throw error;
  }
}

/** What a task came to: batches, and why there are none after them. */
interface Made {
  readonly batches: readonly Batch[];
  readonly batchBytes: readonly number[];
  readonly error: FinetableError | null;
}

class BatchLoader implements Loader {
  readonly data: DataSpec;
  readonly examples: number;
  readonly batchesPerEpoch: number;
  readonly sizeBytes: number;
  readonly classes: Readonly<Record<string, readonly string[]>>;
  readonly #name: string;
  readonly #plan: LoaderPlan;
  readonly #feed: Feed;
  readonly #cache: CacheMemory | null;
  readonly #pool: TaskPool;
  readonly #temporary: TemporaryFolder;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.#stop(interrupted(this.#name));
  readonly #spare: SpareMemory;
  readonly #counter = new StatisticsCounter();
  readonly #found: Found;
  readonly #identity: DataIdentity;
  #next = { epoch: 0, batch: 0 };
  #iterating = false;
  /** Wakes an iteration that waits for the next of what is iterated. */
  #wake: (() => void) | null = null;

  constructor(
    data: DataSpec,
    plan: LoaderPlan,
    feed: Feed,
    cache: CacheMemory | null,
    name: string,
    pool: TaskPool,
    temporary: TemporaryFolder,
    signal: AbortSignal | undefined,
    found: Found,
  ) {
    this.#found = found;
    this.examples = feed.examples;
    this.batchesPerEpoch = Math.ceil(feed.examples / plan.batchSize);
    this.classes = Object.fromEntries(
      Object.entries(data.labels).flatMap(([label, { classes }]) => (classes ? [[label, classes]] : [])),
    );
    this.sizeBytes = feed.sizeBytes;
    this.data = data;
    this.#identity = identityOf(data, plan, feed);
    this.#name = name;
    this.#plan = plan;
    this.#spare = new SpareMemory(plan.prefetchBatches);
    this.#feed = feed;
    this.#cache = cache;
    this.#pool = pool;
    this.#temporary = temporary;
    this.#signal = signal;
    if (signal?.aborted) this.#onAbort();
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get statistics(): LoaderStatistics {
    return this.#counter.statistics(this.#found, this.#pool.retried, cacheUse(this.#cache));
  }

  get position(): LoaderPosition {
    return { ...this.#next, data: this.#identity };
  }

  batches(epoch: number, from = 0, epochs = 1): AsyncIterableIterator<Batch> {
    const bound = Math.min(this.batchesPerEpoch, Number.MAX_SAFE_INTEGER);
    check('epoch', epoch, 0, Number.MAX_SAFE_INTEGER);
    check('from', from, 0, bound);
    check('epochs', epochs, 1, Number.MAX_SAFE_INTEGER);
    return this.#iterate(epoch, from, epoch + epochs);
  }

  batchesFrom(position: LoaderPosition, endEpoch = position.epoch + 1): AsyncIterableIterator<Batch> {
    checkPosition(position, this.#identity, this.#name);
    const { epoch, batch } = position;
    check('position.batch', batch, 0, Math.min(this.batchesPerEpoch, Number.MAX_SAFE_INTEGER));
    check('endEpoch', endEpoch, 0, Number.MAX_SAFE_INTEGER);
    return this.#iterate(epoch, batch, endEpoch);
  }

  recycle(batch: Batch): void {
    this.#spare.add(batch);
  }

  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await this.#stop(closed(this.#name));
  }

  async #stop(reason: FinetableError): Promise<void> {
    const ended = this.#pool.stop(reason);
    this.#wake?.();
    await ended;
    this.#temporary.remove();
  }

  async *#iterate(epoch: number, from: number, endEpoch: number): AsyncGenerator<Batch, void, undefined> {
    if (this.#iterating) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${this.#name}: an iteration is in progress; leave it before another`,
      );
    }
    this.#iterating = true;
    this.#next = { epoch, batch: from };
    this.#counter.beginIteration();
    const { workers, prefetchBatches, prefetchBytes, taskBatches } = this.#plan;
    const requests = this.#feed.requests(epoch, from, endEpoch, taskBatches);
    const tasks: Promise<Made>[] = []; // in order
    let held = 0; // batches of all tasks that are not consumed
    const bytes = new HeldBytes(prefetchBytes);
    let busy = 0; // tasks not done
    let asking = false; // for the next request
    let ended = false;
    let failed: Error | undefined;
    try {
      const fill = (): void => {
        if (asking || ended || busy >= this.#pool.lanes || held + taskBatches > Math.max(prefetchBatches, taskBatches))
          return;
        if (held > 0 && !bytes.haveRoom(taskBatches)) return;
        asking = true;
        const asked = requests.next();
        if (asked instanceof Promise) {
          void asked.then(take, (error: Error) => {
            failed = error;
            take(null);
          });
        } else take(asked);
      };
      const take = (request: BatchesRequest | null): void => {
        asking = false;
        // It may come when the iteration was left long ago.
        if (request === null || ended) ended = true;
        else {
          const count = batchesOf(request);
          bytes.begin(count);
          const task = this.#make(request).finally(() => {
            busy--;
            fill();
          });
          task.then(({ batchBytes }) => bytes.made(count, batchBytes)).catch(() => undefined);
          // Its turn may come much later; until then a failure is not unhandled.
          task.catch(() => undefined);
          tasks.push(task);
          held += count;
          busy++;
        }
        this.#wake?.();
        fill();
      };
      fill();
      for (;;) {
        const began = performance.now();
        while (tasks.length === 0 && asking && !this.#pool.stopped)
          await new Promise<void>((resolve) => (this.#wake = resolve));
        const task = tasks.shift();
        if (!task) {
          if (this.#pool.stopped) throw this.#pool.stopped;
          if (failed) throw failed;
          if (ended) return;
          // All that was made is consumed, and there was no room for more.
          fill();
          continue;
        }
        const { batches, batchBytes, error } = await task;
        this.#counter.wait((performance.now() - began) / 1000);
        for (const [i, batch] of batches.entries()) {
          // Batches made before a stop are not handed out after it.
          if (this.#pool.stopped) throw this.#pool.stopped;
          held--;
          bytes.consumed(batchBytes[i]!);
          if (workers > 0) fill();
          this.#consume(batch);
          yield batch;
        }
        if (error) throw error;
        fill();
      }
    } finally {
      ended = true;
      await Promise.allSettled(tasks);
      // What never gives its next example does not end either; nobody waits for it.
      const closing = requests.close();
      if (asking) closing.catch(() => undefined);
      else await closing;
      this.#counter.endIteration();
      this.#iterating = false;
    }
  }

  #consume({ epoch, index }: Batch): void {
    this.#counter.consume();
    this.#next = index + 1 === this.batchesPerEpoch ? { epoch: epoch + 1, batch: 0 } : { epoch, batch: index + 1 };
  }

  async #make(request: BatchesRequest): Promise<Made> {
    const place = (): TaskPlace => this.#feed.place(request.examples);
    const count = batchesOf(request);
    let made: BatchesReply | null = null;
    this.#counter.beginTask();
    try {
      made = await this.#pool.run(request, place, () => this.#spare.take(count));
    } finally {
      this.#counter.endTask(made);
    }
    return { batches: made.batches, batchBytes: made.batchBytes, error: made.error && taskError(made.error, place) };
  }
}

function batchesOf({ batchSize, examples: { rows, given } }: BatchesRequest): number {
  return Math.max(1, Math.ceil((rows ?? given.rows).length / batchSize));
}

function check(name: string, value: number, low: number, high: number): void {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return;
  const allowed = high === Number.MAX_SAFE_INTEGER ? `integers from ${low}` : `integers from ${low} to ${high}`;
  throw new FinetableError('INVALID_ARGUMENT', `${name}: found ${value}; allowed: ${allowed}`);
}

function closed(name: string): FinetableError {
  return new FinetableError('CLOSED', `${name}: the loader is closed`, { file: name });
}
