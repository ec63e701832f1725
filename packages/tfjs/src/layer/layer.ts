/** The layer: what tfjs asks of a layer, done by checked options, checked ids and rows that live where they should. */
import { FinetableError } from '@finetable/core';
import type {
  LayerVariable,
  layers,
  Scalar,
  serialization,
  Shape,
  SymbolicTensor,
  Tensor,
  Tensor2D,
} from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { checkOptions, oneOf, refuse, refuseConstraint, type CheckedOptions } from './check.ts';
import { resolveIdentifiers, serializeIdentifiers, type Resolved } from './identifiers.ts';
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
import { loraStart } from './lora-start.ts';
import { makeRows } from './make-rows.ts';
import { checkMatrix, matrixTensor } from './matrix.ts';
import type { EmbeddingOptions, LoraOptions } from './options.ts';
import type { EmbeddingRows, QuantizeMode } from './rows.ts';

type Kwargs = Record<string, unknown>;
type TensorInput = Tensor | Tensor[];
type SymbolicInput = SymbolicTensor | SymbolicTensor[];

export class Embedding extends tf.layers.Layer {
  /** Not tfjs' own name: models with stock embeddings load as they did. */
  static className = 'FinetableEmbedding';

  readonly inputDim: number;
  readonly outputDim: number;
  readonly maskZero: boolean;
  readonly inputLength: readonly (number | null)[] | null;
  readonly sparse: boolean;
  readonly #options: CheckedOptions;
  readonly #resolved: Resolved;
  #rows: EmbeddingRows | null = null;
  #warned = false;
  /** Terms of the activity regularizer of the forward pass that is on. */
  #activity: Scalar[] = [];

  /** @throws INVALID_ARGUMENT, MISMATCH; NON_FINITE for weights */
  constructor(given: EmbeddingOptions) {
    const options = checkOptions(given);
    const resolved = resolveIdentifiers(options);
    super(layerArgs(options));
    this.#options = options;
    this.#resolved = resolved;
    this.inputDim = options.inputDim;
    this.outputDim = options.outputDim;
    this.maskZero = options.maskZero ?? false;
    this.supportsMasking = this.maskZero;
    this.sparse = options.sparse ?? false;
    this.inputLength = lengthsOf(options);
    // Refused now, not at the first batch.
    if (options.weights) this.#givenWeights()?.dispose();
  }

  /** Of ours, or of Keras' `Embedding`, wrapped or not. @throws as the constructor does, and UNSUPPORTED */
  static override fromConfig<T extends serialization.Serializable>(
    cls: serialization.SerializableConstructor<T>,
    config: serialization.ConfigDict,
  ): T {
    return new cls(optionsOf(config) as serialization.ConfigDict);
  }

  get loraRank(): number | null {
    return this.#rows ? (this.#rows.lora?.rank ?? null) : (this.#options.loraRank ?? null);
  }

  get loraAlpha(): number | null {
    return this.#rows ? (this.#rows.lora?.alpha ?? null) : (this.#options.loraAlpha ?? this.#options.loraRank ?? null);
  }

  /** Null for f32. */
  get quantization(): QuantizeMode | null {
    return this.#rows ? this.#rows.quantization : (this.#options.quantization ?? null);
  }

  /** The table as it is looked up, with LoRA W + (alpha / r) A B, `[V, D]`: a new tensor, which the caller disposes. */
  get embeddings(): Tensor2D {
    return this.#built('embeddings').table();
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

  override build(): void {
    if (this.built) return;
    const { inputDim, outputDim, table, optimizer, device, thresholdBytes, loraRank, quantization } = this.#options;
    const weights = this.#givenWeights();
    const { embeddingsInitializer, embeddingsRegularizer, embeddingsConstraint } = this.#resolved;
    this.#rows = makeRows(
      {
        layerName: this.name,
        inputDim,
        outputDim,
        initializer: embeddingsInitializer,
        weights,
        regularizer: embeddingsRegularizer,
        constraint: embeddingsConstraint,
        skipDrawing: (this as unknown as { fastWeightInitDuringBuild: boolean }).fastWeightInitDuringBuild,
        table: table ?? null,
        optimizer: optimizer ?? null,
        device: device ?? 'auto',
      },
      thresholdBytes,
    );
    weights?.dispose();
    this.built = true;
    if (quantization) this.#rows.quantize(quantization);
    if (loraRank) this.#startLora(loraRank, { loraAlpha: this.#options.loraAlpha, init: this.#options.loraInit });
    this.#listWeights();
    if (embeddingsRegularizer) this.addLoss(() => this.#built('losses').penalty());
    if (this.#resolved.activityRegularizer) this.addLoss(() => this.#activityPenalty());
  }

  /** A layer may be called with inputs of any rank. */
  protected override warnOnIncompatibleInputShape(): void {
    // What does not fit `inputLength` is an error of computeOutputShape.
  }

  override call(inputs: Tensor | Tensor[], kwargs: Record<string, unknown>): Tensor {
    const input = oneOfInputs(inputs);
    const shape = [...input.shape, this.outputDim];
    const output = tf.tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      return this.#lookup(this.#readIds(input)).reshape(shape);
    });
    const { activityRegularizer } = this.#resolved;
    // Not in a tidy: the loss that it is a term of comes later in the same pass.
    if (activityRegularizer && kwargs.training === true)
      this.#activity.push(tf.tidy(() => tf.div(activityRegularizer.apply(output), Math.max(1, shape[0] ?? 1))));
    return output;
  }

  /** True where the id, cast to int32, is not 0; null without `maskZero`. Ragged ids have ragged masks. */
  override computeMask(inputs: Ragged): Ragged;
  override computeMask(inputs: TensorInput): Tensor;
  override computeMask(inputs: TensorInput | Ragged): unknown {
    if (!this.maskZero) return null;
    if (isRagged(inputs)) return mapRagged(this.name, inputs, (values) => this.computeMask(values));
    const input = oneOfInputs(inputs);
    return tf.tidy(() => tf.notEqual(this.#readIds(input).tensor, tf.scalar(0, 'int32')).reshape(input.shape));
  }

  /** The input's shape and D. @throws INVALID_ARGUMENT where the input does not fit `inputLength` */
  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    const shape = (Array.isArray(inputShape[0]) ? inputShape[0] : inputShape) as Shape;
    if (this.inputLength === null) return [...shape, this.outputDim];
    const lengths = this.inputLength;
    const given = shape.slice(1);
    const agree = (length: number | null, i: number): boolean =>
      length === null || given[i] == null || given[i] === length;
    if (given.length !== lengths.length || !lengths.every(agree))
      refuse(
        `${this.name}: the input's shape is ${shapeText(shape)}, but inputLength is ${shapeText(lengths)}, the dimensions after the batch`,
        { layer: this.name },
      );
    return [shape[0] ?? null, ...lengths.map((length, i) => length ?? given[i] ?? null), this.outputDim];
  }

  /**
   * Freezes W; from now on A `[V, r]` and B `[r, D]` are trained. A compiled model must be compiled again.
   * @throws INVALID_ARGUMENT before the layer is built, a second time, with a constraint, or for a rank that is not in 1..min(V, D)
   */
  enableLora(rank: number, options: LoraOptions = {}): void {
    this.#startLora(rank, options);
    this.#listWeights();
  }

  /** Drops A and B: the table is W again, and trained. To keep them, clone `getWeights(true)` first. */
  disableLora(): void {
    this.#withLora('disableLora').disableLora();
    this.#listWeights();
  }

  /** W becomes W + (alpha / r) A B, A and B are dropped, and W is trained again. */
  mergeLora(): void {
    this.#withLora('mergeLora').mergeLora();
    this.#listWeights();
  }

  /** W becomes whole numbers with a scale a row, and is frozen. With LoRA, A and B stay f32. */
  quantize(mode: QuantizeMode): void {
    oneOf('quantize', mode ?? null, ['int8', 'int4']);
    const rows = this.#built('quantize');
    if (rows.quantization) refuse(`${this.name}: the rows are ${rows.quantization} already`);
    if (this.#resolved.embeddingsConstraint)
      refuse(`${this.name}: quantized rows are frozen; drop embeddingsConstraint`);
    rows.quantize(mode);
    this.#listWeights();
  }

  /**
   * Values of `weights`, in that order. With LoRA also W alone, `[V, D]`, as a layer without LoRA has it: the delta becomes 0.
   * @throws INVALID_ARGUMENT for another number of tensors, shape or dtype; NON_FINITE
   */
  override setWeights(weights: Tensor[]): void {
    const rows = this.#built('setWeights');
    if (rows.lora && weights.length === 1) {
      checkMatrix(`${this.name}: weights[0]`, weights[0]!, [this.inputDim, this.outputDim]);
      rows.setBase(weights[0]!);
      return;
    }
    if (weights.length !== this.weights.length)
      refuse(
        `${this.name}: ${weights.length} weights are given; allowed: ${this.weights.map((w) => `${w.originalName} ${shapeText(w.shape)}`).join(', ')}`,
      );
    this.weights.forEach((weight, i) => {
      if (weight.dtype === 'float32') checkMatrix(`${this.name}: weights[${i}]`, weights[i]!, weight.shape as number[]);
    });
    super.setWeights(weights);
  }

  override getConfig(): serialization.ConfigDict {
    const { inputDType, outOfRange, device, threshold } = this.#options;
    const config: Record<string, unknown> = {
      ...super.getConfig(),
      inputDim: this.inputDim,
      outputDim: this.outputDim,
      ...serializeIdentifiers(this.#resolved),
      maskZero: this.maskZero,
      inputLength: this.inputLength,
      sparse: this.sparse,
      dtype: 'float32',
      inputDType,
      outOfRange,
      device,
      threshold,
      quantization: this.quantization,
    };
    if (this.loraRank !== null) {
      const init = this.#rows?.lora?.init ?? this.#options.loraInit;
      Object.assign(config, {
        loraRank: this.loraRank,
        loraAlpha: this.loraAlpha,
        loraInit: init === 'sparse' ? init : null,
      });
    }
    return Object.assign(config, this.#rows?.config()) as serialization.ConfigDict;
  }

  override dispose(): ReturnType<layers.Layer['dispose']> {
    this.#rows?.dispose();
    return super.dispose();
  }

  #lookup(ids: ReadIds): Tensor2D {
    const rows = this.#built('call').lookup(ids);
    return ids.inside ? tf.mul(rows, ids.inside.expandDims(1)) : rows;
  }

  #readIds(input: Tensor): ReadIds {
    return readIds(input, {
      layerName: this.name,
      inputDim: this.inputDim,
      outOfRange: this.#options.outOfRange ?? 'error',
      onCast: (dtype) => this.#warnOfCast(dtype),
    });
  }

  #sparseRows(ids: Sparse, rowsOf: (ids: Tensor) => Tensor): SparseResult {
    const { values, indices } = entriesOf(this.name, ids);
    const rows = rowsOf(values) as Tensor2D;
    values.dispose();
    return sparseRows(indices, rows, ids.denseShape);
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
    if (input.name === `${this.name}_input` && !this.#options.inputDType) (input as { dtype: unknown }).dtype = null;
  }

  #warnOfCast(dtype: string): void {
    if (this.#warned) return;
    this.#warned = true;
    process.emitWarning(
      `${this.name}: ids came as ${dtype} and are cast to int32, toward zero (3.9 becomes 3), as Keras does; give int32 (tf.input takes a dtype). This is said once per layer.`,
      'FinetableWarning',
    );
  }

  #startLora(rank: number, options: LoraOptions): void {
    const rows = this.#built('enableLora');
    if (rows.lora)
      refuse(`${this.name}: LoRA is on already, with rank ${rows.lora.rank}; disableLora() or mergeLora() comes first`);
    if (this.#resolved.embeddingsConstraint) refuseConstraint();
    const start = loraStart(`${this.name}: enableLora`, [this.inputDim, this.outputDim], rank, options);
    rows.enableLora(start);
    for (const factor of [start.a, start.b]) if (factor instanceof tf.Tensor) factor.dispose();
  }

  /** After whatever changes the rows' weights. */
  #listWeights(): void {
    const rows = this.#built('weights');
    const { trainable } = this;
    this.trainableWeights = [...rows.trainableWeights] as LayerVariable[];
    this.nonTrainableWeights = [...rows.frozenWeights] as LayerVariable[];
    for (const weight of rows.trainableWeights) weight.trainable = trainable;
  }

  #givenWeights(): Tensor2D | null {
    const { weights } = this.#options;
    if (weights == null) return null;
    // A list of one matrix, not a matrix of one row.
    const first: unknown = Array.isArray(weights) && weights.length === 1 ? weights[0] : null;
    const isMatrix = first instanceof tf.Tensor || (Array.isArray(first) && typeof first[0] !== 'number');
    const isFlat = first instanceof Float32Array && first.length === this.inputDim * this.outputDim;
    return matrixTensor(`${this.name}: weights`, isMatrix || isFlat ? first : weights, [this.inputDim, this.outputDim]);
  }

  #activityPenalty(): Scalar {
    const terms = this.#activity;
    this.#activity = [];
    return terms.reduce((sum, term) => tf.add(sum, term), tf.scalar(0));
  }

  #built(what: string): EmbeddingRows {
    return (
      this.#rows ??
      refuse(`${this.name}: ${what} needs a layer that is built; call it, put it into a model, or build() it first`)
    );
  }

  #withLora(what: string): EmbeddingRows {
    const rows = this.#built(what);
    if (!rows.lora) throw new FinetableError('INVALID_ARGUMENT', `${this.name}: ${what}: LoRA is not on`);
    return rows;
  }
}

/** Arguments of tfjs' `Layer`. */
function layerArgs(options: CheckedOptions): ConstructorParameters<typeof tf.layers.Layer>[0] {
  const { name, trainable, inputShape, batchInputShape, batchSize, inputLength, inputDType } = options;
  const lengths = inputLength == null ? [null] : typeof inputLength === 'number' ? [inputLength] : inputLength;
  return {
    ...(name ? { name } : {}),
    trainable: trainable ?? true,
    batchInputShape: [...(batchInputShape ?? [batchSize ?? null, ...(inputShape ?? lengths)])],
    dtype: inputDType ?? 'int32',
  };
}

function lengthsOf({ inputLength }: EmbeddingOptions): readonly (number | null)[] | null {
  if (inputLength == null) return null;
  return typeof inputLength === 'number' ? [inputLength] : [...inputLength];
}

function oneOfInputs<T extends Tensor | SymbolicTensor>(inputs: T | T[]): T {
  if (!Array.isArray(inputs)) return inputs;
  if (inputs.length !== 1) refuse(`embedding: ${inputs.length} inputs; allowed: one tensor of ids`);
  return inputs[0]!;
}

const shapeText = (shape: readonly (number | null | undefined)[]): string =>
  `[${shape.map((n) => n ?? 'null').join(', ')}]`;

tf.serialization.registerClass(Embedding as unknown as Parameters<typeof tf.serialization.registerClass>[0]);

/** A layer from its config: ours, or one of Keras' `Embedding` (Keras 2, tf-keras, Keras 3), wrapped or not. @throws FinetableError */
export const embeddingFromConfig = (config: Readonly<Record<string, unknown>>): Embedding =>
  new Embedding(optionsOf(config));

/** As `tf.layers.embedding`, and as Keras' `Embedding`. @throws FinetableError naming the argument */
export const embedding = (options: EmbeddingOptions): Embedding => new Embedding(options);
