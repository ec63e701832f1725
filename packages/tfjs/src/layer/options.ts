/** What the layer can be asked for. */
import type { OptionNames } from '@finetable/core';
import type { OptimizerSpec } from '@finetable/lora';
import type { ShardedTable } from '@finetable/placement';
import type { Tensor } from '@tensorflow/tfjs';
import type { ConstraintIdentifier, InitializerIdentifier, RegularizerIdentifier } from './tfjs-types.ts';

/** Numbers of a matrix: a tensor, rows of numbers, or V x D numbers row by row. */
export type MatrixLike = Tensor | readonly (readonly number[] | Float32Array)[] | Float32Array;

/** What becomes of an id outside of [0, V), NaN excepted: that is always an error. */
export type OutOfRange = 'error' | 'zero' | 'clip';

/** Arguments of `tf.layers.embedding` and of Keras' `Embedding`, camel case; null counts as not given. */
export interface EmbeddingOptions {
  /** V: ids are in [0, V). With `maskZero` id 0 is padding and counts. May be left out with `table`. */
  readonly inputDim?: number | null | undefined;
  /** D. May be left out with `table`. */
  readonly outputDim?: number | null | undefined;
  /** Default: uniform in ±0.05. */
  readonly embeddingsInitializer?: InitializerIdentifier | null | undefined;
  /** With LoRA of A and of B, one by one. */
  readonly embeddingsRegularizer?: RegularizerIdentifier | null | undefined;
  /** Of the output, divided by the batch's size. */
  readonly activityRegularizer?: RegularizerIdentifier | null | undefined;
  /** Applied whenever the table is written. Not with LoRA. */
  readonly embeddingsConstraint?: ConstraintIdentifier | null | undefined;
  /** Id 0 is padding, and masked. */
  readonly maskZero?: boolean | null | undefined;
  /** Lengths of the input's dimensions after the batch, null for any. */
  readonly inputLength?: number | readonly (number | null)[] | null | undefined;
  /** The output is sparse: `{indices, values, denseShape}`. Only for calls on values; not with `maskZero`. */
  readonly sparse?: boolean | null | undefined;
  /** W, or [W], instead of the initializer. */
  readonly weights?: MatrixLike | readonly [MatrixLike] | null | undefined;
  /** r: W is frozen, and A `[V, r]` and B `[r, D]` are trained. */
  readonly loraRank?: number | null | undefined;
  /** The delta is scaled by alpha / r. Default: r. */
  readonly loraAlpha?: number | null | undefined;
  /** `keras` (default): A he-uniform, B = 0. `sparse`: A = 0, B ~ N(0, 1), so that a row no example touched stays as it was. */
  readonly loraInit?: 'keras' | 'sparse' | null | undefined;
  readonly trainable?: boolean | null | undefined;
  readonly name?: string | null | undefined;
  /** Of the rows and the output. */
  readonly dtype?: 'float32' | null | undefined;
  readonly inputShape?: readonly (number | null)[] | null | undefined;
  readonly batchInputShape?: readonly (number | null)[] | null | undefined;
  readonly batchSize?: number | null | undefined;
  /** Of the input that a sequential model makes for the layer. Default: what is fed arrives as it is. */
  readonly inputDType?: 'int32' | 'float32' | null | undefined;
  /** Default `error`. `zero`: a row of zeros, without a gradient. `clip`: the nearest row. */
  readonly outOfRange?: OutOfRange | null | undefined;
  /** The base is stored as whole numbers with a scale a row. */
  readonly quantization?: 'int8' | 'int4' | null | undefined;
  /** Rows in Finetable's store. The caller keeps and closes it. */
  readonly table?: ShardedTable | null | undefined;
  /** Trains the rows of a row store; the model's optimizer trains the rest. */
  readonly optimizer?: OptimizerSpec | null | undefined;
  /**
   * Where the table lives. `auto`, the default: in tfjs variables while it is below `threshold` and the backend has room for it, its gradient and
   * an optimizer's state; else in RAM beside tfjs, which is told once. `cpu`: never on a GPU. `gpu`: in variables on the GPU, or an error.
   */
  readonly device?: 'auto' | 'gpu' | 'cpu' | null | undefined;
  /** Bytes, or text such as "64MiB": an f32 table that is larger lives in a row store. Default 64 MiB. */
  readonly threshold?: number | string | null | undefined;
}

export const embeddingOptionNames: OptionNames<EmbeddingOptions> = {
  inputDim: true,
  outputDim: true,
  embeddingsInitializer: true,
  embeddingsRegularizer: true,
  activityRegularizer: true,
  embeddingsConstraint: true,
  maskZero: true,
  inputLength: true,
  sparse: true,
  weights: true,
  loraRank: true,
  loraAlpha: true,
  loraInit: true,
  trainable: true,
  name: true,
  dtype: true,
  inputShape: true,
  batchInputShape: true,
  batchSize: true,
  inputDType: true,
  outOfRange: true,
  quantization: true,
  table: true,
  optimizer: true,
  device: true,
  threshold: true,
};

/** Beside the rank. */
export interface LoraOptions {
  /** The delta is scaled by alpha / r. Default: r. */
  readonly loraAlpha?: number | null | undefined;
  /** Default he-uniform. */
  readonly aInitializer?: InitializerIdentifier | null | undefined;
  /** Default zeros. */
  readonly bInitializer?: InitializerIdentifier | null | undefined;
  /** `sparse`: A = 0 and B ~ N(0, 1), so that a row no example touched stays as it was. Not with initializers. */
  readonly init?: 'keras' | 'sparse' | null | undefined;
  /** A `[V, r]` and B `[r, D]`, instead of drawing them. */
  readonly weights?: readonly [MatrixLike, MatrixLike] | null | undefined;
}

export const loraOptionNames: OptionNames<LoraOptions> = {
  loraAlpha: true,
  aInitializer: true,
  bInitializer: true,
  init: true,
  weights: true,
};
