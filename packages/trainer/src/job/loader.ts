/** How a job's loaders are opened. */
import { parseBytes } from '@finetable/core';
import type { LoaderOptions } from '@finetable/data';
import type { Job } from './schema.ts';

/** Shuffled only for training; what is passed over once is not kept. */
export function loaderOptions({ data, train }: Job, use: 'train' | 'evaluate'): LoaderOptions {
  const { batchSize, workers, prefetchBatches, taskSeconds, shuffle, shuffleWindow, distinct } = data;
  return {
    ...{ batchSize, workers, prefetchBatches, taskSeconds, shuffleWindow },
    seed: train.seed,
    shuffle: shuffle && use === 'train',
    distinct: use === 'train' ? distinct : undefined,
    prefetchBytes: parseBytes(data.prefetchBytes, 'data.prefetchBytes'),
    cacheBytes: train.epochs > 1 ? parseBytes(data.cache, 'data.cache') : 0,
  };
}
