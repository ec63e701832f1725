/** How a loader goes about it. */

export interface LoaderOptions {
  readonly batchSize: number;
  /** Worker threads; 0 works on the calling thread. Default 1. Batches do not depend on it. */
  readonly workers?: number | undefined;
  /**
   * A new order each epoch; default false: file order. Up to `shuffleWindow` examples are shuffled as a whole; of more, their blocks
   * in the files are, and then that many examples at a time.
   */
  readonly shuffle?: boolean | undefined;
  /** Default 4,194,304; of examples that are iterated, 65,536, which are held in memory. */
  readonly shuffleWindow?: number | undefined;
  /**
   * A feature: no batch has two examples with the same ids of it, so that in-batch negatives are none of them an example's own. An example
   * whose ids the batch has already waits for a later one; all come in an epoch, in full batches, the same for any number of workers. For
   * what is known whole, of up to `shuffleWindow` examples.
   */
  readonly distinct?: string | undefined;
  /** Only the i-th of every `count` batches' worth of examples: each process of several gets its disjoint part. */
  readonly shard?: { readonly index: number; readonly count: number } | undefined;
  /** Default 0. */
  readonly seed?: number | undefined;
  /** Batches made ahead of the consumer, which bounds memory; default 16 or 2 tasks per worker, whichever is more. */
  readonly prefetchBatches?: number | undefined;
  /** Their bytes: where they are more, none is begun before others are consumed. At least one task is made. Default 256 MiB. */
  readonly prefetchBytes?: number | undefined;
  /**
   * Memory for examples that are kept between epochs, all threads together: ids, labels and numbers, 4 bytes each and 20 more an example. What
   * there is no room for is read again. Default 0; up to 4 GiB. For what is known whole.
   */
  readonly cacheBytes?: number | undefined;
  /**
   * The longest that a worker may be at one task; after it the worker is replaced, as where one fails, and the task tried once more.
   * The pass over a file that finds its examples gets as long again for each 256 MiB. Default 300.
   */
  readonly taskSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}
