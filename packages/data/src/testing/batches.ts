/** Loaders that are closed whatever happens, and what is in their batches. */
import type { Batch } from '../batch.ts';
import { openLoader, type Loader } from '../loader.ts';
import type { DataSpec, LoaderOptions } from '../spec.ts';

export async function using<T>(
  data: DataSpec,
  options: LoaderOptions,
  use: (loader: Loader) => Promise<T>,
): Promise<T> {
  const loader = await openLoader(data, options);
  try {
    return await use(loader);
  } finally {
    await loader.close();
  }
}

export async function collect(batches: AsyncIterable<Batch>): Promise<Batch[]> {
  const all: Batch[] = [];
  for await (const batch of batches) all.push(batch);
  return all;
}

/** Batches `from ..` of `epochs` epochs; of 4 examples, on this thread, unless the options say otherwise. */
export function batchesOf(
  data: DataSpec,
  options: Partial<LoaderOptions> = {},
  { epoch = 0, epochs = 1, from = 0 } = {},
): Promise<Batch[]> {
  return using(data, { batchSize: 4, workers: 0, ...options }, (loader) =>
    collect(loader.batches(epoch, from, epochs)),
  );
}

/** All ids of a table, as they come. */
export function idsOf(batches: readonly Batch[], table = 'items'): number[] {
  return batches.flatMap(({ plans }) => [...plans[table]!.placeRows]);
}

/** The ids of each bag of a table. */
export function bagsOf({ plans }: Batch, table: string): number[][] {
  const { offsets, placeRows } = plans[table]!;
  return Array.from({ length: offsets.length - 1 }, (_, i) => [...placeRows.subarray(offsets[i], offsets[i + 1])]);
}
