/** What a loader did, and how long it took. */
import { addRetried, type Retried } from './pool.ts';
import type { BatchesReply } from './protocol.ts';
import type { Skipped } from './skipped.ts';

/** Totals since the loader was opened. */
export interface LoaderStatistics {
  /** Batches made, their examples, and the bytes of the files read for them. */
  readonly batches: number;
  readonly examples: number;
  readonly sizeBytes: number;
  /** Time in iterations, that of the consumer included; and what was made in each second of it. */
  readonly seconds: number;
  readonly examplesPerSecond: number;
  readonly bytesPerSecond: number;
  /** Time the consumer waited for batches. */
  readonly waitSeconds: number;
  /** Time spent on making them, summed over the workers; of which: */
  readonly workSeconds: number;
  readonly stages: StageSeconds;
  /** As of now; both small where the consumer waits: there are too few workers. */
  readonly queue: {
    /** Made, and not yet consumed. */
    readonly readyBatches: number;
    /** Tasks in workers. */
    readonly busyTasks: number;
  };
  /** Examples that are kept, so that they are not read again; and the memory that they take. */
  readonly cache: { readonly examples: number; readonly sizeBytes: number };
  /** Bad rows that were left out, and what is wrong with the first of them. */
  readonly skipped: Skipped;
  /** Tasks that a worker failed at, opening included, and that were done again. */
  readonly retried: Retried;
}

/** Where the time of making batches went, summed over the workers. */
export interface StageSeconds {
  /** Reading examples from their files, and parsing them. */
  readonly readSeconds: number;
  /** Ids, labels and numbers from their columns: tokenizers, vocabularies, hashes. */
  readonly extractSeconds: number;
  /** Lookup plans. */
  readonly planSeconds: number;
  /** Batches that were made, until the loader's thread took them. */
  readonly handoverSeconds: number;
}

/** While opening, and bad rows also later. */
export type Found = Pick<LoaderStatistics, 'skipped' | 'retried'>;

/** Adds up. */
export class StatisticsCounter {
  readonly #totals = { batches: 0, examples: 0, sizeBytes: 0, waitSeconds: 0, workSeconds: 0 };
  readonly #stages = { readSeconds: 0, extractSeconds: 0, planSeconds: 0, handoverSeconds: 0 };
  readonly #queue = { readyBatches: 0, busyTasks: 0 };
  #seconds = 0;
  #begun: number | null = null;

  beginIteration(): void {
    this.#begun = performance.now();
  }

  endIteration(): void {
    this.#seconds = this.#elapsed;
    this.#begun = null;
    this.#queue.readyBatches = 0;
  }

  beginTask(): void {
    this.#queue.busyTasks++;
  }

  /** No reply where it failed. */
  endTask(made: BatchesReply | null): void {
    this.#queue.busyTasks--;
    if (!made) return;
    const { batches, sizeBytes, workSeconds, readSeconds, planSeconds, doneMs } = made;
    this.#totals.batches += batches.length;
    for (const { size } of batches) this.#totals.examples += size;
    this.#totals.sizeBytes += sizeBytes;
    this.#totals.workSeconds += workSeconds;
    this.#stages.readSeconds += readSeconds;
    this.#stages.planSeconds += planSeconds;
    this.#stages.extractSeconds += workSeconds - readSeconds - planSeconds;
    this.#stages.handoverSeconds += Math.max(0, performance.timeOrigin + performance.now() - doneMs) / 1000;
    this.#queue.readyBatches += batches.length;
  }

  consume(): void {
    this.#queue.readyBatches--;
  }

  wait(seconds: number): void {
    this.#totals.waitSeconds += seconds;
  }

  statistics({ skipped, retried }: Found, later: Retried, cache: LoaderStatistics['cache']): LoaderStatistics {
    const { examples, sizeBytes } = this.#totals;
    const seconds = this.#elapsed;
    const rate = (count: number): number => (seconds === 0 ? 0 : count / seconds);
    return {
      ...this.#totals,
      ...{ seconds, examplesPerSecond: rate(examples), bytesPerSecond: rate(sizeBytes) },
      ...{ stages: { ...this.#stages }, queue: { ...this.#queue } },
      ...{ cache, skipped, retried: addRetried(retried, later) },
    };
  }

  get #elapsed(): number {
    return this.#seconds + (this.#begun === null ? 0 : (performance.now() - this.#begun) / 1000);
  }
}
