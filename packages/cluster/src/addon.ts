/** The binding of MPI, where the install could build it. */
import { loadBuilt, type Built } from '@finetable/kernels';

/** What a collective that gives something resolves to: one buffer, then how many of its bytes each rank has given. */
export type Gathered = readonly [buffer: ArrayBuffer, ...bytes: number[]];

/** Collectives keep the arrays that they are given until they settle. */
export interface Addon {
  open(): [rank: number, size: number];
  /** Whether the process lives on for what is on its way. */
  hold(held: boolean): void;
  barrier(): Promise<void>;
  allReduce(values: Float32Array | Float64Array): Promise<void>;
  allToAll(all: Uint8Array, bytes: Float64Array): Promise<Gathered>;
  allGather(bytes: Uint8Array): Promise<Gathered>;
  close(): Promise<void>;
  abort(status: number): void;
  version(): string;
}

let found: Built<Addon> | undefined;

/** The addon, or why there is none. */
export function findAddon(): Built<Addon> {
  // From `src` and from `dist` alike.
  found ??= loadBuilt(new URL('../build/', import.meta.url), 'finetable_mpi.node');
  return found;
}
