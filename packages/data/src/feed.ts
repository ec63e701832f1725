/** What tasks are given: examples by number, in an epoch's order; or the next of what is iterated. */
import { FinetableError, permutation } from '@finetable/core';
import { isCached, type CacheMemory } from './cache.ts';
import type { Keys } from './distinct.ts';
import type { Histories } from './histories/histories.ts';
import { ExampleOrder } from './order.ts';
import { placeOfExamples, type TaskPlace } from './place.ts';
import { textWindowBytes, type LoaderPlan } from './plan.ts';
import { examplesOf, rowsOf } from './task-examples.ts';
import type { BatchesRequest, ScreenReply, TaskExamples } from './protocol.ts';
import type { Selection } from './selection.ts';
import { addSkipped, noneSkipped } from './skipped.ts';
import type { GivenRows } from './source/rows.ts';
import type { SourceIndex } from './source/source.ts';
import type { Row, RowSource } from './spec.ts';

export interface Feed {
  /** Of an epoch; Infinity where nobody knows. */
  readonly examples: number;
  /** Of its files. */
  readonly sizeBytes: number;
  /** Examples that are shuffled as a whole: all, or fewer; 0 where they are not shuffled. */
  readonly window: number;
  /** Requests for batches `from ..` of `epoch`, then those of the epochs before `endEpoch`. */
  requests(epoch: number, from: number, endEpoch: number, taskBatches: number): Requests;
  /** For errors. */
  place(examples: TaskExamples): TaskPlace;
}

export interface Requests {
  /** Null at the end. Not called again before it has settled. */
  next(): BatchesRequest | null | Promise<BatchesRequest | null>;
  close(): Promise<void>;
}

/** The part of `size` examples of a batch that is this process's. */
function partOf(
  size: number,
  { shard: { index, count } }: LoaderPlan,
): { readonly begin: number; readonly end: number } {
  return { begin: Math.floor((index * size) / count), end: Math.floor(((index + 1) * size) / count) };
}

/**
 * @param source of the rows, for errors
 * @param index of what is counted as examples: rows, or interactions
 */
export function exampleFeed(
  source: SourceIndex,
  index: SourceIndex,
  selection: Selection | null,
  rows: readonly Row[] | null,
  histories: Histories | null,
  keys: Keys | null,
  name: string,
  plan: LoaderPlan,
  cache: CacheMemory | null,
): Feed {
  const { shuffle, shuffleWindow: window, seed, batchSize } = plan;
  const distinct = keys && { keys, batchSize };
  const order = new ExampleOrder(index, selection, { shuffle, seed, window, distinct });
  const batchesPerEpoch = Math.ceil(order.examples / batchSize);

  const decoded = !index.randomAccess;
  const windowBytes = (Math.min(order.examples, window) / index.examples) * index.sizeBytes;
  const kept = decoded || (index.strided && windowBytes <= 2 * textWindowBytes);
  /** Of blocks that are kept: which window a place is in, counted over all epochs. In file order blocks follow each other. */
  const windowOf = (epoch: number, place: number): number | null => {
    if (order.examples <= window) return 0;
    return shuffle ? epoch * Math.ceil(order.examples / window) + Math.floor(place / window) : null;
  };
  /** Batches from `from` on that a task makes: where blocks are kept, all of one window. */
  const countFrom = (from: number, taskBatches: number): number => {
    // With a shard every batch is cut, so a task is one batch.
    if (plan.shard.count > 1) return 1;
    const count = Math.min(taskBatches, batchesPerEpoch - from);
    if (!kept || order.examples <= window || window % batchSize !== 0) return count;
    const perWindow = window / batchSize;
    return Math.min(count, perWindow - (from % perWindow), taskBatches - (from % taskBatches));
  };

  /** Of batches `first .. first + count`, those of this process. */
  const take = (epoch: number, first: number, count: number): BatchesRequest => {
    const begin = first * batchSize;
    const end = Math.min(begin + count * batchSize, order.examples);
    const all = order.rows(epoch, begin, end);
    const number = kept ? windowOf(epoch, begin) : null;
    const { begin: from, end: to } = partOf(all.length, plan);
    const own = plan.shard.count === 1 ? all : all.subarray(from, to);
    // Rows of a program are copied for the worker, unless it needs none of them.
    const sent = rows && cache && isCached(cache, own) ? null : rows;
    const examples = examplesOf(sent, histories, name, own);
    return { type: 'batches', epoch, first, batchSize, window: number, examples };
  };

  return {
    examples: order.examples,
    sizeBytes: index.sizeBytes,
    window: shuffle ? Math.min(window, order.examples) : 0,
    requests: (epoch, from, endEpoch, taskBatches) => ({
      next: () => {
        if (from === batchesPerEpoch) {
          epoch++;
          from = 0;
        }
        if (epoch >= endEpoch) return null;
        const count = countFrom(from, taskBatches);
        const request = take(epoch, from, count);
        from += count;
        return request;
      },
      close: () => Promise.resolve(),
    }),
    place: (examples) => placeOfExamples(source, name, rowsOf(examples, histories)),
  };
}

/** Examples held to be shuffled, where the options do not say. */
const defaultWindow = 1 << 16;

/** Finds bad rows of what is iterated, which no pass before has seen. */
export interface Screen {
  /** Of an epoch. */
  readonly limit: number;
  readonly find: (given: GivenRows) => Promise<Pick<ScreenReply, 'excluded' | 'problems'>>;
}

type Iterated = Exclude<RowSource['rows'], readonly Row[]>;

/** @param shuffleWindow as it was given */
export function streamFeed(
  rows: RowSource['rows'],
  name: string,
  plan: LoaderPlan,
  shuffleWindow = defaultWindow,
  screen: Screen | null = null,
): Feed {
  const { batchSize, shuffle, seed } = plan;
  // Whole batches, so that none is made of two windows.
  const window = shuffle ? Math.ceil(shuffleWindow / batchSize) * batchSize : 0;
  return {
    examples: Infinity,
    sizeBytes: 0,
    window,
    requests: (epoch, from, endEpoch, taskBatches) =>
      new StreamRequests(
        rows as Iterated,
        name,
        plan,
        { window, seed },
        { epoch, from, endEpoch },
        taskBatches,
        screen,
      ),
    place: (examples) => placeOfExamples({ files: [{ file: name, examples: Infinity, text: null }] }, name, examples),
  };
}

class StreamRequests implements Requests {
  readonly #source: Iterated;
  readonly #name: string;
  readonly #plan: LoaderPlan;
  readonly #shuffling: { readonly window: number; readonly seed: number };
  readonly #taskBatches: number;
  readonly #endEpoch: number;
  readonly #screen: Screen | null;
  #epoch: number;
  /** The next batch of the epoch. */
  #batch: number;
  #iterator: Iterator<Row> | AsyncIterator<Row> | null = null;
  /** Examples taken from the iterator in this epoch, and those of them that are good. */
  #taken = 0;
  #good = 0;
  #skipped = noneSkipped;
  /** A shuffled window that is not handed out yet. */
  #held: { rows: Row[]; numbers: Uint32Array; at: number } = { rows: [], numbers: new Uint32Array(), at: 0 };

  constructor(
    source: Iterated,
    name: string,
    plan: LoaderPlan,
    shuffling: { readonly window: number; readonly seed: number },
    { epoch, from, endEpoch }: { readonly epoch: number; readonly from: number; readonly endEpoch: number },
    taskBatches: number,
    screen: Screen | null,
  ) {
    this.#screen = screen;
    this.#source = source;
    this.#name = name;
    this.#plan = plan;
    this.#shuffling = shuffling;
    this.#taskBatches = taskBatches;
    this.#epoch = epoch;
    this.#batch = from;
    this.#endEpoch = endEpoch;
  }

  async next(): Promise<BatchesRequest | null> {
    const { batchSize, shard } = this.#plan;
    while (this.#epoch < this.#endEpoch) {
      if (!this.#iterator) await this.#begin();
      const count = batchSize * (shard.count === 1 ? this.#taskBatches : 1);
      const { rows, numbers } = await this.#take(count);
      if (rows.length > 0) {
        const first = this.#batch;
        this.#batch += Math.ceil(rows.length / batchSize);
        const { begin, end } = partOf(rows.length, this.#plan);
        const given = { name: this.#name, rows: rows.slice(begin, end), numbers: numbers.slice(begin, end) };
        return { type: 'batches', epoch: this.#epoch, first, batchSize, window: null, examples: { given } };
      }
      if (this.#good === 0) {
        throw new FinetableError(
          'INVALID_DATA',
          `${this.#name}: no examples in epoch ${this.#epoch}; where an iterable can be used once only, give a function that makes one`,
        );
      }
      await this.close();
      this.#epoch++;
      this.#batch = 0;
    }
    return null;
  }

  async close(): Promise<void> {
    const iterator = this.#iterator;
    this.#iterator = null;
    this.#held = { rows: [], numbers: new Uint32Array(), at: 0 };
    await iterator?.return?.();
  }

  /** Starts the epoch, and passes what comes before its first batch. */
  async #begin(): Promise<void> {
    const source = typeof this.#source === 'function' ? this.#source(this.#epoch) : this.#source;
    this.#iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#taken = 0;
    this.#good = 0;
    this.#skipped = noneSkipped;
    for (let left = this.#batch * this.#plan.batchSize; left > 0;) {
      const { rows } = await this.#take(Math.min(left, 1 << 16));
      if (rows.length === 0) return;
      left -= rows.length;
    }
  }

  /** The next examples, as many as there are up to `count`. */
  async #take(count: number): Promise<{ readonly rows: Row[]; readonly numbers: Uint32Array }> {
    const { window, seed } = this.#shuffling;
    if (window === 0) return this.#pull(count);
    if (this.#held.at === this.#held.rows.length) {
      const number = Math.floor(this.#good / window);
      const { rows, numbers } = await this.#pull(window);
      const order = permutation(rows.length, seed, `shuffle/${this.#epoch}/${number}`);
      this.#held = { rows: Array.from(order, (i) => rows[i]!), numbers: order.map((i) => numbers[i]!), at: 0 };
    }
    const { rows, numbers, at } = this.#held;
    const end = Math.min(at + count, rows.length);
    this.#held.at = end;
    return { rows: rows.slice(at, end), numbers: numbers.slice(at, end) };
  }

  /** Good ones, as many as there are up to `count`. */
  async #pull(count: number): Promise<{ readonly rows: Row[]; readonly numbers: Uint32Array }> {
    let rows: Row[] = [];
    let numbers: number[] = [];
    for (let ended = false; !ended && rows.length < count;) {
      const first = rows.length;
      while (!ended && rows.length < count) {
        const step = this.#iterator!.next();
        const { done, value } = step instanceof Promise ? await step : (step as IteratorResult<Row>);
        if (done) ended = true;
        else {
          rows.push(value as Row);
          numbers.push(this.#taken++);
        }
      }
      if (!this.#screen || rows.length === first) continue;
      const given = { name: this.#name, rows: rows.slice(first), numbers: Uint32Array.from(numbers.slice(first)) };
      const { excluded, problems } = await this.#screen.find(given);
      if (excluded.length === 0) continue;
      this.#skipped = addSkipped(this.#skipped, excluded.length, problems, this.#screen.limit, this.#name);
      const bad = new Set(excluded);
      rows = rows.filter((_, i) => !bad.has(numbers[i]!));
      numbers = numbers.filter((number) => !bad.has(number));
    }
    this.#good += rows.length;
    return { rows, numbers: Uint32Array.from(numbers) };
  }
}
