/** The layer as models see it: ids in, rows and masks out, configs. */
import type { Scalar, serialization, Shape, SymbolicTensor, Tensor, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { checkOptions, refuse } from './check.ts';
import { serializeIdentifiers } from './identifiers.ts';
import { readIds, type ReadIds } from './ids.ts';
import {
  densify,
  entriesOf,
  isRagged,
  isSparse,
  mapRagged,
  sparseOf,
  sparseRows,
  type Ragged,
  type Sparse,
  type SparseResult,
} from './inputs.ts';
import { optionsOf } from './keras-config.ts';
import { refuseLostMask } from './lost-mask.ts';
import type { EmbeddingOptions } from './options.ts';
import { RowsLayer } from './rows-layer.ts';
import { lengthsOf, oneOfInputs, outputShapeOf } from './shapes.ts';

type Kwargs = Record<string, unknown>;
type TensorInput = Tensor | Tensor[];
type SymbolicInput = SymbolicTensor | SymbolicTensor[];

/** The layer that {@link embedding} makes: Keras' `Embedding` with LoRA. Tables over a threshold are not tfjs variables but rows in a store. */
export class Embedding extends RowsLayer {
  /** Not tfjs' own name: models with stock embeddings load as they did. */
  static className = 'FinetableEmbedding';

  readonly maskZero: boolean;
  readonly inputLength: readonly (number | null)[] | null;
  readonly sparse: boolean;
  #warned = false;
  /** Terms of the activity regularizer of the forward pass that is on. */
  #activity: Scalar[] = [];

  /** @throws INVALID_ARGUMENT, MISMATCH; NON_FINITE for weights */
  constructor(given: EmbeddingOptions) {
    super(checkOptions(given));
    this.maskZero = this.options.maskZero ?? false;
    this.supportsMasking = this.maskZero;
    this.sparse = this.options.sparse ?? false;
    this.inputLength = lengthsOf(this.options);
    if (this.resolved.activityRegularizer) this.addLoss(() => this.#activityPenalty());
  }

  /** Of ours, or of Keras' `Embedding`, wrapped or not. @throws as the constructor does, and UNSUPPORTED */
  static override fromConfig<T extends serialization.Serializable>(
    cls: serialization.SerializableConstructor<T>,
    config: serialization.ConfigDict,
  ): T {
    return new cls(optionsOf(config) as serialization.ConfigDict);
  }

  /**
   * A tensor of ids of any shape, or ragged or sparse ids, which give ragged rows, and dense or (with `sparse`) sparse ones; those do
   * not flow through models of tfjs.
   * @throws ID_OUT_OF_RANGE, NON_FINITE, INVALID_ARGUMENT
   */
  override apply(inputs: Sparse, kwargs?: Kwargs): Tensor | SparseResult;
  override apply(inputs: Ragged, kwargs?: Kwargs): Ragged;
  override apply(
    inputs: TensorInput | SymbolicInput,
    kwargs?: Kwargs,
  ): Tensor | Tensor[] | SymbolicTensor | SymbolicTensor[];
  override apply(inputs: TensorInput | SymbolicInput | Ragged | Sparse, kwargs?: Kwargs): unknown {
    const rowsOf = (ids: Tensor): Tensor => super.apply(ids, kwargs) as Tensor;
    if (isRagged(inputs)) return mapRagged(this.name, inputs, rowsOf);
    if (isSparse(inputs)) {
      if (!this.sparse) return tf.tidy(() => rowsOf(densify(this.name, inputs)));
      return this.#sparseRows(inputs, rowsOf);
    }
    const one = oneOfInputs(inputs);
    // Symbolic or not, what does not fit `inputLength` is refused here: ragged and sparse values have shapes of their own.
    this.computeOutputShape(one.shape);
    if (!(one instanceof tf.SymbolicTensor)) return this.sparse ? this.#sparseOf(rowsOf(one)) : rowsOf(one);
    if (this.sparse)
      refuse(`${this.name}: sparse rows do not flow through models of tfjs; drop sparse, or call the layer on ids`);
    this.#letThrough(one);
    return super.apply(one, kwargs);
  }

  /** A layer may be called with inputs of any rank. */
  protected override warnOnIncompatibleInputShape(): void {
    // What does not fit `inputLength` is an error of computeOutputShape.
  }

  override call(inputs: Tensor | Tensor[], kwargs: Record<string, unknown>): Tensor {
    if (this.maskZero) refuseLostMask(this);
    const input = oneOfInputs(inputs);
    const output = tf.tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      return this.#lookup(this.#readIds(input));
    });
    const { activityRegularizer } = this.resolved;
    // Not in a tidy: the loss that it is a term of comes later in the same pass.
    if (activityRegularizer && kwargs.training === true)
      this.#activity.push(tf.tidy(() => tf.div(activityRegularizer.apply(output), Math.max(1, input.shape[0] ?? 1))));
    return output;
  }

  /** True where the id, cast to int32, is not 0; null without `maskZero`. Ragged ids have ragged masks. */
  override computeMask(inputs: Ragged): Ragged;
  override computeMask(inputs: TensorInput): Tensor;
  override computeMask(inputs: TensorInput | Ragged): unknown {
    if (!this.maskZero) return null;
    if (isRagged(inputs)) return mapRagged(this.name, inputs, (values) => this.computeMask(values));
    const input = oneOfInputs(inputs);
    return tf.tidy(() => tf.notEqual(this.#readIds(input).tensor(), tf.scalar(0, 'int32')).reshape(input.shape));
  }

  /** The input's shape and D. @throws INVALID_ARGUMENT where the input does not fit `inputLength` */
  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    return outputShapeOf(this.name, inputShape, this.inputLength, this.outputDim);
  }

  override getConfig(): serialization.ConfigDict {
    const { inputDType, outOfRange, device, threshold, thresholdBytes } = this.options;
    const config: Record<string, unknown> = {
      ...super.getConfig(),
      inputDim: this.inputDim,
      outputDim: this.outputDim,
      ...serializeIdentifiers(this.resolved),
      maskZero: this.maskZero,
      inputLength: this.inputLength,
      sparse: this.sparse,
      dtype: 'float32',
      inputDType,
      outOfRange,
      device,
      // As a number: saving would turn "500MB" into "500mb".
      threshold: threshold == null ? null : thresholdBytes,
      quantization: this.quantization,
    };
    if (this.loraRank !== null) {
      const init = this.built ? this.rows('getConfig').lora?.init : this.options.loraInit;
      Object.assign(config, {
        loraRank: this.loraRank,
        loraAlpha: this.loraAlpha,
        loraInit: init === 'sparse' ? init : null,
      });
    }
    return Object.assign(config, this.built ? this.rows('getConfig').config() : {}) as serialization.ConfigDict;
  }

  #lookup(ids: ReadIds): Tensor {
    const rows = this.rows('call').lookup(ids);
    return ids.inside ? tf.mul(rows, ids.inside) : rows;
  }

  #readIds(input: Tensor): ReadIds {
    return readIds(input, {
      layerName: this.name,
      inputDim: this.inputDim,
      outOfRange: this.options.outOfRange ?? 'error',
      onCast: (dtype) => this.#warnOfCast(dtype),
    });
  }

  #sparseRows(ids: Sparse, rowsOf: (ids: Tensor) => Tensor): SparseResult {
    const { values, indices } = entriesOf(this.name, ids);
    const rows = rowsOf(values) as Tensor2D;
    const sparse = sparseRows(indices, rows, ids.denseShape);
    tf.dispose([values, rows]);
    return sparse;
  }

  #sparseOf(rows: Tensor): SparseResult {
    const sparse = sparseOf(rows);
    rows.dispose();
    return sparse;
  }

  /**
   * tfjs casts what is fed to a model to the dtype of its input, NaN to 0 and without a word. The input that a sequential model makes
   * for this layer alone lets everything through instead, to be cast, checked and warned of here.
   */
  #letThrough(input: SymbolicTensor): void {
    if (input.sourceLayer.name === `${this.name}_input` && !this.options.inputDType)
      (input as { dtype: unknown }).dtype = null;
  }

  #warnOfCast(dtype: string): void {
    if (this.#warned) return;
    this.#warned = true;
    process.emitWarning(
      `${this.name}: ids came as ${dtype} and are cast to int32, toward zero (3.9 becomes 3), as Keras does; give int32 (tf.input takes a dtype). This is said once per layer.`,
      'FinetableWarning',
    );
  }

  #activityPenalty(): Scalar {
    const terms = this.#activity;
    this.#activity = [];
    return terms.reduce((sum, term) => tf.add(sum, term), tf.scalar(0));
  }
}

tf.serialization.registerClass(Embedding as unknown as Parameters<typeof tf.serialization.registerClass>[0]);

/** A layer from its config: ours, or one of Keras' `Embedding` (Keras 2, tf-keras, Keras 3), wrapped or not. @throws FinetableError */
export const embeddingFromConfig = (config: Readonly<Record<string, unknown>>): Embedding =>
  new Embedding(optionsOf(config));

/** As `tf.layers.embedding`, and as Keras' `Embedding`. @throws FinetableError naming the argument */
export const embedding = (options: EmbeddingOptions): Embedding => new Embedding(options);
