/** Rows in ordinary tfjs variables: any tfjs optimizer trains them, and a step costs what V costs. */
import type { LayerVariable, Scalar, Tensor, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { FloatBase, type Base } from './base.ts';
import { gatherRows } from './gather.ts';
import { QuantizedBase } from './quantized.ts';
import type { EmbeddingRows, Ids, LoraStart, QuantizeMode, RowsOptions } from './rows.ts';
import type { Initializer } from './tfjs-types.ts';
import { layerVariable } from './variable.ts';

interface Factors {
  readonly rank: number;
  readonly alpha: number;
  readonly init: LoraStart['init'];
  readonly a: LayerVariable;
  readonly b: LayerVariable;
}

export class VariableRows implements EmbeddingRows {
  readonly #options: RowsOptions;
  #base: Base;
  #lora: Factors | null = null;

  constructor(options: RowsOptions) {
    this.#options = options;
    const { layerName, inputDim, outputDim, initializer, weights, constraint } = options;
    const w = weights ?? this.#drawn(initializer, [inputDim, outputDim]);
    this.#base = new FloatBase(layerName, w, constraint);
    if (w !== weights) w.dispose();
  }

  get trainableWeights(): readonly LayerVariable[] {
    if (this.#lora) return [this.#lora.a, this.#lora.b];
    return this.#base.trainable ? this.#base.weights : [];
  }

  get frozenWeights(): readonly LayerVariable[] {
    return this.#lora || !this.#base.trainable ? this.#base.weights : [];
  }

  get lora(): EmbeddingRows['lora'] {
    return this.#lora;
  }

  get quantization(): QuantizeMode | null {
    return this.#base instanceof QuantizedBase ? this.#base.mode : null;
  }

  lookup(given: Ids): Tensor {
    return tf.tidy(() => {
      const ids = given.tensor();
      const base = this.#base.rows(ids);
      const shape = [...given.shape, base.shape[1]];
      if (!this.#lora) return base.reshape(shape);
      const { a, b, alpha, rank } = this.#lora;
      const delta = tf.matMul(gatherRows(a.read() as Tensor2D, ids), b.read() as Tensor2D);
      return tf.add(base, tf.mul(delta, alpha / rank)).reshape(shape);
    });
  }

  table(): Tensor2D {
    return tf.tidy(() => {
      const base = this.#base.table();
      if (!this.#lora) return base;
      const { a, b, alpha, rank } = this.#lora;
      return tf.add(base, tf.mul(tf.matMul(a.read() as Tensor2D, b.read() as Tensor2D), alpha / rank));
    });
  }

  penalty(): Scalar {
    const { regularizer } = this.#options;
    return tf.tidy(() => {
      const terms = regularizer ? this.trainableWeights.map((weight) => regularizer.apply(weight.read())) : [];
      return terms.reduce((sum, term) => tf.add(sum, term), tf.scalar(0));
    });
  }

  enableLora({ rank, alpha, init, a, b }: LoraStart): void {
    const { layerName, inputDim, outputDim } = this.#options;
    const variable = (name: string, start: Initializer | Tensor2D, shape: [number, number]): LayerVariable => {
      const value = start instanceof tf.Tensor ? start : this.#drawn(start, shape);
      const made = layerVariable(layerName, name, value, true);
      if (value !== start) value.dispose();
      return made;
    };
    for (const weight of this.#base.weights) weight.trainable = false;
    this.#lora = {
      rank,
      alpha,
      init,
      a: variable('lora_embeddings_a', a, [inputDim, rank]),
      b: variable('lora_embeddings_b', b, [rank, outputDim]),
    };
  }

  disableLora(): void {
    this.#lora?.a.dispose();
    this.#lora?.b.dispose();
    this.#lora = null;
    for (const weight of this.#base.weights) weight.trainable = this.#base.trainable;
  }

  mergeLora(): void {
    const merged = this.table();
    this.#base.write(merged);
    merged.dispose();
    this.disableLora();
  }

  quantize(mode: QuantizeMode): void {
    const w = this.#base.table();
    const quantized = new QuantizedBase(this.#options.layerName, mode, w);
    w.dispose();
    this.#base.dispose();
    this.#base = quantized;
  }

  setBase(w: Tensor): void {
    this.#base.write(w);
    if (this.#lora === null) return;
    const { a, b, init } = this.#lora;
    // One factor 0 makes the delta 0; both would be a saddle that no gradient leaves.
    const factor = init === 'sparse' ? a : b;
    const zeros = tf.zerosLike(factor.read());
    factor.write(zeros);
    zeros.dispose();
  }

  config(): Readonly<Record<string, unknown>> {
    return {};
  }

  dispose(): void {
    // Everything is in the weights.
  }

  #drawn(initializer: Initializer, shape: [number, number]): Tensor2D {
    return this.#options.skipDrawing ? tf.zeros(shape) : (initializer.apply(shape, 'float32') as Tensor2D);
  }
}
