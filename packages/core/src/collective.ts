/**
 * Processes that train together, as they see each other. Every rank makes the same calls in the same order; each call ends for all of them, or for none.
 * Implementations: one process by itself (`alone`), and MPI (`@finetable/cluster`).
 */
export interface Collective {
  /** Of this process, from 0. */
  readonly rank: number;
  /** How many processes there are. */
  readonly size: number;
  /** For people: `Open MPI 4.1.4, rank 2 of 8`. */
  readonly description: string;
  /** Bytes that this process has given to others so far, without what the transport adds. */
  readonly sentBytes: number;
  /** Waits until every rank is here. */
  barrier(): Promise<void>;
  /**
   * Sums, in place, over the ranks: in f64 and in their order, so that all ranks have the same bytes, and the same ones every time.
   * @param values the same length at every rank; the collective's until the promise settles
   */
  allReduce(values: Float32Array | Float64Array): Promise<void>;
  /**
   * Gives each rank bytes of its own.
   * @param parts `[size]`: what goes to each rank, of any length; free when the call returns
   * @returns `[size]`: what each rank has given; the caller's, and parts of one buffer
   */
  allToAll(parts: readonly Uint8Array[]): Promise<Uint8Array[]>;
  /** Gives all ranks the same bytes. @param bytes of any length; free when the call returns @returns as of `allToAll` */
  allGather(bytes: Uint8Array): Promise<Uint8Array[]>;
  /** Ends every rank at once, with this exit status; nothing after it runs. For what cannot be put right: a rank that ends by itself leaves the others waiting. */
  abort(status: number): void;
  /** The last call. */
  close(): Promise<void>;
}

/** A process by itself. */
export const alone: Collective = {
  rank: 0,
  size: 1,
  description: 'one process',
  sentBytes: 0,
  barrier: () => Promise.resolve(),
  allReduce: () => Promise.resolve(),
  allToAll: ([own]) => Promise.resolve([own!.slice()]),
  allGather: (bytes) => Promise.resolve([bytes.slice()]),
  abort: (status) => process.exit(status),
  close: () => Promise.resolve(),
};
