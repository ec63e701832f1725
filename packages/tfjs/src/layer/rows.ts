/**
 * Where a layer's table lives, behind one interface: ordinary tfjs variables (`VariableRows`) for tables that a dense gradient can
 * afford, row stores of Finetable for the others. The layer checks arguments and ids, and shapes outputs; the rows do the rest.
 */
import type { ShardedTable } from '@finetable/placement';
import type { OptimizerSpec } from '@finetable/lora';
import type { LayerVariable, Scalar, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import type { Constraint, Initializer, Regularizer } from './tfjs-types.ts';

/** Ids of one call, checked: every one is in [0, V). Both forms hold the same. */
export interface Ids {
  /** The input's. */
  readonly shape: readonly number[];
  /** `[n]` int32, on the host: what the check read anyway. */
  readonly values: Int32Array;
  /** `[n]` int32, on the device, new. Disposed when the call is over: a gradient that needs it saves it. */
  tensor(): Tensor1D;
}

/** How A and B start. */
export interface LoraStart {
  /** r, in 1..min(V, D). */
  readonly rank: number;
  /** The delta is scaled by alpha / rank. */
  readonly alpha: number;
  /** Of A `[V, r]` and B `[r, D]`: drawn, or given (copied). */
  readonly a: Initializer | Tensor2D;
  readonly b: Initializer | Tensor2D;
  /** `keras`: he-uniform A, B = 0. `sparse`: A = 0, B ~ N(0, 1), so that an untouched row stays its base row. `given`: neither. */
  readonly init: 'keras' | 'sparse' | 'given';
}

/** What the rows are made from. Everything is checked. */
export interface RowsOptions {
  /** Names variables, errors and warnings. */
  readonly layerName: string;
  /** V. */
  readonly inputDim: number;
  /** D. */
  readonly outputDim: number;
  readonly initializer: Initializer;
  /** Instead of the initializer: `[V, D]` f32, to be copied. */
  readonly weights: Tensor2D | null;
  readonly regularizer: Regularizer | null;
  /** Null with LoRA. */
  readonly constraint: Constraint | null;
  /** Weights will be set before anything is looked up: what is drawn may be left at 0. */
  readonly skipDrawing: boolean;
  /** Of a row store; the layer's `inputDim` and `outputDim` agree with it. */
  readonly table: ShardedTable | null;
  /** Of a row store's rows. */
  readonly optimizer: OptimizerSpec | null;
  readonly device: 'auto' | 'gpu' | 'cpu';
}

/** Dtypes that a layer's rows can be rounded to. */
export type QuantizeMode = 'int8' | 'int4';

export interface EmbeddingRows {
  /**
   * What tfjs optimizers train, and what they do not, in the order of Keras. Read again after `enableLora`, `disableLora`, `mergeLora`
   * and `quantize`. Their shapes are what `summary()` and `countParams()` count; their values are what `model.save` writes and
   * `tf.loadLayersModel` sets. The layer turns the trainable ones' `trainable` off and on, never the frozen ones'.
   */
  readonly trainableWeights: readonly LayerVariable[];
  readonly frozenWeights: readonly LayerVariable[];
  /** Null without LoRA. */
  readonly lora: { readonly rank: number; readonly alpha: number; readonly init: LoraStart['init'] } | null;
  /** Null for f32. */
  readonly quantization: QuantizeMode | null;

  /** `[…]` -> `[…, D]`, new; differentiable in whatever is trained, a repeated id's gradients summed. */
  lookup(ids: Ids): Tensor;
  /** The whole table as it is looked up, W + (alpha / r) A B, `[V, D]`, new. */
  table(): Tensor2D;
  /** Regularizer's terms of what is trained: of W, or of A and of B one by one; differentiable. */
  penalty(): Scalar;

  /** Freezes W. Not called twice. */
  enableLora(start: LoraStart): void;
  /** Drops A and B; W is again as it was before. */
  disableLora(): void;
  /** W takes A B in, and A and B are dropped. */
  mergeLora(): void;
  /** W becomes whole numbers and a scale a row, and is frozen. */
  quantize(mode: QuantizeMode): void;
  /** W `[V, D]`, copied; the delta of LoRA becomes 0, ready to be trained. */
  setBase(w: Tensor): void;

  /** Fields of the layer's config that only these rows know, as options of the layer. Strings in it pass through tfjs' snake_case
   *  unharmed only under a key named `name`. */
  config(): Readonly<Record<string, unknown>>;
  /** Lets go of everything that is not in the weights, which the layer disposes. */
  dispose(): void;
}
