/** Nearest rows, handed to the addon. */
import { FinetableError, formatBytes } from '@finetable/core';
import type { NearestArgs } from '../kernels.ts';
import type { Addon, Context } from './addon.ts';
import { handleOf } from './native.ts';

/** Candidates that a query may have beside its results, of 8 bytes; for the message of an error. */
const candidateBytes = 8;

export async function nearest(addon: Addon, context: Context, args: NearestArgs): Promise<void> {
  const { base, tableRows, queries, metric, delta, rows, scores } = args;
  const shards = base.flatMap(({ store, firstRow, firstColumn = 0 }) => [handleOf(store), firstRow, firstColumn]);
  try {
    await addon.nearest(
      context,
      queries.cols,
      tableRows,
      shards,
      queries.data,
      queries.rows,
      scores.cols,
      metric === 'cosine',
      delta ? handleOf(delta.factors) : null,
      delta ? delta.rows : null,
      delta ? delta.slots : null,
      delta?.b?.data ?? null,
      delta ? delta.scale : 0,
      rows,
      scores.data,
    );
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOMEM') throw cause;
    const sizeBytes = scores.data.length * candidateBytes;
    const message = `nearest: no memory for ${formatBytes(sizeBytes)} or more of candidates; ask for fewer queries at once`;
    throw new FinetableError('OUT_OF_MEMORY', message, { sizeBytes }, { cause });
  }
}
