/**
 * Batches with their base rows pooled ahead: while one is trained on, the next is taken from the loader and its rows, which
 * training never changes, are fetched and pooled beside the JavaScript thread. Two sets of buffers take turns.
 */
import { Scratch } from '@finetable/core';
import type { Batch } from '@finetable/data';
import { releasePooled, type PooledBatch } from './device-batch.ts';
import type { Model } from './model.ts';

export interface PreparedBatch {
  readonly batch: Batch;
  /** Null where the lookup is done in the batch's turn. */
  readonly pooled: PooledBatch | null;
}

export class Ahead {
  readonly #model: Model;
  readonly #batches: AsyncIterator<Batch>;
  readonly #early: boolean;
  readonly #buffers = [new Scratch(), new Scratch()] as const;
  readonly #stop = new AbortController();
  #turn: 0 | 1 = 0;
  #current: PreparedBatch | null = null;
  #upcoming: Promise<PreparedBatch | null> | null = null;

  /** @param early false: each batch is taken, and if need be fetched, in its turn */
  constructor(model: Model, batches: AsyncIterator<Batch>, early: boolean) {
    this.#model = model;
    this.#batches = batches;
    this.#early = early;
  }

  /**
   * The next batch, valid until the one after it is asked for; null at the end. Errors of a batch come in its turn.
   * What follows it begins now, so whoever works long without waiting lets other tasks run once before.
   */
  async next(): Promise<PreparedBatch | null> {
    const current = (this.#upcoming ??= this.#take());
    const prepared = await current;
    releasePooled(this.#current?.pooled);
    this.#current = prepared;
    const more = this.#early && prepared !== null && !this.#stop.signal.aborted;
    this.#upcoming = more ? this.#take() : null;
    return prepared;
  }

  /** Ends fetching and the iteration. When it settles, nothing works on a batch or reads a table any more. */
  async close(): Promise<void> {
    this.#stop.abort();
    const unused = await this.#upcoming?.catch(() => null);
    for (const prepared of [this.#current, unused]) releasePooled(prepared?.pooled);
    await this.#batches.return?.();
  }

  #take(): Promise<PreparedBatch | null> {
    const taking = this.#prepare();
    // Its turn comes later, or never; until then a failure is not unhandled.
    taking.catch(() => undefined);
    return taking;
  }

  async #prepare(): Promise<PreparedBatch | null> {
    const { value: batch, done } = await this.#batches.next();
    if (done) return null;
    const pools = this.#early || this.#model.needsPool;
    if (!pools || this.#stop.signal.aborted) return { batch, pooled: null };
    this.#turn = this.#turn === 0 ? 1 : 0;
    return { batch, pooled: await this.#model.pool(batch, this.#buffers[this.#turn], this.#stop.signal) };
  }
}
