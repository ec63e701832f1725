/** A batch as a loss sees it: labels, and ids where they are asked for, as tensors that live as long as the call. */
import { FinetableError } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Tensor1D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';

/** The bags of one feature. */
export interface TensorBags {
  /** `[n]` int32: rows of the feature's table, bag after bag. */
  readonly ids: Tensor1D;
  /** `[size + 1]` int32: example i has `ids[offsets[i] .. offsets[i + 1]]`. */
  readonly offsets: Tensor1D;
  /** `[n]` float32, pooling folded in: an example's vector is the sum of its rows times these. */
  readonly weights: Tensor1D;
}

/** A batch as a loss in tfjs sees it. Tensors are disposed after the step. */
export class TensorBatch {
  /** Examples in it. */
  readonly size: number;
  /** Counted from 0. */
  readonly epoch: number;
  /** Within the epoch, counted from 0. */
  readonly index: number;
  /** False in an evaluation: no dropout then. */
  readonly training: boolean;
  /** `[size]` int32 class indices by label name. */
  readonly labels: Readonly<Record<string, Tensor1D>>;
  /** `[size]` line numbers in the source file. */
  readonly lines: Float64Array;
  readonly #batch: Batch;

  constructor(batch: Batch, labels: readonly string[], training: boolean) {
    this.size = batch.size;
    this.epoch = batch.epoch;
    this.index = batch.index;
    this.training = training;
    this.labels = Object.fromEntries(labels.map((name) => [name, tf.tensor1d(batch.labels[name]!, 'int32')]));
    this.lines = batch.lines;
    this.#batch = batch;
  }

  /** The ids and weights that a feature's vectors were pooled from. @throws INVALID_ARGUMENT where there is no such feature */
  bags(feature: string): TensorBags {
    const found = this.#batch.features[feature];
    if (!found) {
      const names = Object.keys(this.#batch.features).join(', ');
      throw new FinetableError('INVALID_ARGUMENT', `batch.bags: no feature "${feature}"; there are ${names}`);
    }
    const { placeRows, offsets, weights } = this.#batch.plans[found.table]!;
    const own = offsets.subarray(found.firstBag, found.firstBag + found.bags + 1);
    const [from, to] = [own[0]!, own.at(-1)!];
    return {
      ids: tf.tensor1d(placeRows.slice(from, to), 'int32'),
      offsets: tf.tensor1d(found.offsets?.slice() ?? own.map((offset) => offset - from), 'int32'),
      weights: weights ? tf.tensor1d(weights.slice(from, to)) : tf.ones([to - from]),
    };
  }
}
