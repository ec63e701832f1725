/** What objectives read of a batch's ids: the rows behind a feature's vectors. */
import { FinetableError, upperBound, type Jagged } from '@finetable/core';
import type { Batch } from '@finetable/data';

/** `[bags]`: the one row of each of a feature's bags. @throws INVALID_DATA naming the example that has none or several */
export function rowOfEach(batch: Batch, feature: string): Int32Array {
  const { values, offsets } = rowsOfEach(batch, feature);
  for (let i = 0; i + 1 < offsets.length; i++) {
    const count = offsets[i + 1]! - offsets[i]!;
    if (count === 1) continue;
    const example = upperBound(vectorsOfEach(batch, feature), i) - 1;
    throw new FinetableError(
      'INVALID_DATA',
      `${batch.files[batch.fileOf?.[example] ?? 0] ?? 'the batch'}, ${batch.unit} ${batch.lines[example]}: feature "${feature}" has ${count} ids; allowed: one`,
      { feature, line: batch.lines[example]! },
    );
  }
  return values;
}

/** The rows of each of a feature's bags: `bags` bags. */
function rowsOfEach(batch: Batch, feature: string): Jagged {
  const { table, firstBag, bags } = batch.features[feature]!;
  const { placeRows, offsets } = batch.plans[table]!;
  const first = offsets[firstBag]!;
  return {
    values: placeRows.subarray(first, offsets[firstBag + bags]),
    offsets: offsets.slice(firstBag, firstBag + bags + 1).map((at) => at - first),
  };
}

/**
 * `[size + 1]`: example i has vectors `offsets[i] .. offsets[i + 1]` of the feature; of a feature that is pooled, one.
 */
export function vectorsOfEach(batch: Batch, feature: string): Int32Array {
  return batch.features[feature]!.offsets ?? Int32Array.from({ length: batch.size + 1 }, (_, i) => i);
}

/** The rows of each example, of a feature that is pooled or not: `size` bags. */
export function rowsOfExamples(batch: Batch, feature: string): Jagged {
  const { values, offsets } = rowsOfEach(batch, feature);
  return { values, offsets: vectorsOfEach(batch, feature).map((bag) => offsets[bag]!) };
}

/** @param what the counts are called @throws INVALID_ARGUMENT where they are not one for each row of the feature's table */
export function checkCounts(batch: Batch, feature: string, counts: ArrayLike<number> | undefined, what: string): void {
  const { table } = batch.features[feature]!;
  const { tableRows } = batch.plans[table]!;
  if (counts === undefined || counts.length === tableRows) return;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${what}: found ${counts.length} numbers; allowed: ${tableRows}, one for each row of table "${table}"`,
    { table },
  );
}
