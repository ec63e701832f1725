/** Rows in ordinary tfjs variables: any tfjs optimizer trains them, and a step costs what V costs. */
import { FinetableError } from '@finetable/core';
import type { LayerVariable, Scalar, Tensor, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { gatherRows } from './gather.ts';
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
  readonly #w: LayerVariable;
  #lora: Factors | null = null;

  constructor(options: RowsOptions) {
    this.#options = options;
    const { inputDim, outputDim, initializer } = options;
    const w = options.weights ?? this.#drawn(initializer, [inputDim, outputDim]);
    this.#w = layerVariable(options.layerName, 'embeddings', w, true, options.constraint);
    if (w !== options.weights) w.dispose();
  }

  get trainableWeights(): readonly LayerVariable[] {
    return this.#lora ? [this.#lora.a, this.#lora.b] : [this.#w];
  }

  get frozenWeights(): readonly LayerVariable[] {
    return this.#lora ? [this.#w] : [];
  }

  get lora(): EmbeddingRows['lora'] {
    return this.#lora;
  }

  get quantization(): QuantizeMode | null {
    return null;
  }

  lookup({ tensor }: Ids): Tensor2D {
    return tf.tidy(() => {
      const w = this.#w.read() as Tensor2D;
      if (!this.#lora) return gatherRows(w, tensor);
      const { a, b, alpha, rank } = this.#lora;
      const delta = tf.matMul(gatherRows(a.read() as Tensor2D, tensor), b.read() as Tensor2D);
      return tf.add(tf.gather(w, tensor), tf.mul(delta, alpha / rank));
    });
  }

  table(): Tensor2D {
    return tf.tidy(() => {
      const w = this.#w.read() as Tensor2D;
      if (!this.#lora) return w.clone();
      const { a, b, alpha, rank } = this.#lora;
      return tf.add(w, tf.mul(tf.matMul(a.read() as Tensor2D, b.read() as Tensor2D), alpha / rank));
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
    this.#w.trainable = false;
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
    this.#w.trainable = true;
  }

  mergeLora(): void {
    const merged = this.table();
    this.#w.write(merged);
    merged.dispose();
    this.disableLora();
  }

  quantize(): void {
    throw new FinetableError('UNSUPPORTED', `${this.#options.layerName}: quantize is not there yet`);
  }

  setBase(w: Tensor): void {
    this.#w.write(w);
    if (this.#lora === null) return;
    const { a, b, init } = this.#lora;
    // One factor 0 makes the delta 0; both would leave a saddle that no gradient leaves.
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
