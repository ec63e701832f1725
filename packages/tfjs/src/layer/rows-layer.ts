/** What a layer has: its rows, and what is done to them. What it does with ids is in `layer.ts`. */
import type { Adapter, SaveAdaptersOptions } from '@finetable/lora';
import type { LayerVariable, layers, Tensor, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { AdaptedRows } from '../rows/adapted-rows.ts';
import { oneOf, refuse, refuseConstraint, type CheckedOptions } from './check.ts';
import { resolveIdentifiers, type Resolved } from './identifiers.ts';
import { loraStart } from './lora-start.ts';
import { makeRows } from './make-rows.ts';
import { checkMatrix, weightsTensor } from './matrix.ts';
import type { LoraOptions } from './options.ts';
import type { EmbeddingRows, QuantizeMode } from './rows.ts';
import { layerArgs, shapeText } from './shapes.ts';

export abstract class RowsLayer extends tf.layers.Layer {
  readonly inputDim: number;
  readonly outputDim: number;
  protected readonly options: CheckedOptions;
  protected readonly resolved: Resolved;
  #rows: EmbeddingRows | null = null;

  constructor(options: CheckedOptions) {
    const resolved = resolveIdentifiers(options);
    super(layerArgs(options));
    this.options = options;
    this.resolved = resolved;
    this.inputDim = options.inputDim;
    this.outputDim = options.outputDim;
    // Refused now, not at the first batch.
    this.#givenWeights()?.dispose();
  }

  get loraRank(): number | null {
    return this.#rows ? (this.#rows.lora?.rank ?? null) : (this.options.loraRank ?? null);
  }

  get loraAlpha(): number | null {
    return this.#rows ? (this.#rows.lora?.alpha ?? null) : (this.options.loraAlpha ?? this.options.loraRank ?? null);
  }

  /** Null for f32. */
  get quantization(): QuantizeMode | null {
    return this.#rows ? this.#rows.quantization : (this.options.quantization ?? null);
  }

  /** The table as it is looked up, with LoRA W + (alpha / r) A B, `[V, D]`: a new tensor, which the caller disposes. */
  get embeddings(): Tensor2D {
    return this.rows('embeddings').table();
  }

  override build(): void {
    if (this.built) return;
    const { inputDim, outputDim, table, optimizer, device, thresholdBytes, loraRank, quantization } = this.options;
    const weights = this.#givenWeights();
    const { embeddingsInitializer, embeddingsRegularizer, embeddingsConstraint } = this.resolved;
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
      { bytes: thresholdBytes, given: this.options.threshold != null },
    );
    weights?.dispose();
    this.built = true;
    if (quantization) this.#rows.quantize(quantization);
    if (loraRank) this.#startLora(loraRank, { loraAlpha: this.options.loraAlpha, init: this.options.loraInit });
    this.#listWeights();
    // As in Keras, what is frozen has no penalty.
    if (embeddingsRegularizer) this.addLoss(() => (this.trainable ? this.rows('losses').penalty() : tf.scalar(0)));
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

  /**
   * What a row store has learnt so far, owned by the layer: what the rest of Finetable reads and saves.
   * @throws UNSUPPORTED where the rows are tfjs variables
   */
  get adapter(): Adapter {
    return this.#adapted('adapter').adapter;
  }

  /** Writes that into a folder. @throws as `adapter`, and what `saveAdapters` throws */
  async saveAdapter(folder: string, options: SaveAdaptersOptions = {}): Promise<void> {
    await this.#adapted('saveAdapter').saveAdapter(folder, options);
  }

  /** Goes on from such a folder, with fresh optimiser state. @throws as `adapter`; MISMATCH where it is for other rows or another rank */
  async loadAdapter(folder: string): Promise<void> {
    await this.#adapted('loadAdapter').loadAdapter(folder);
  }

  /** W becomes whole numbers with a scale a row, and is frozen. With LoRA, A and B stay f32. */
  quantize(mode: QuantizeMode): void {
    oneOf('quantize', mode ?? null, ['int8', 'int4']);
    const rows = this.rows('quantize');
    if (rows.quantization) refuse(`${this.name}: the rows are ${rows.quantization} already`);
    if (this.resolved.embeddingsConstraint)
      refuse(`${this.name}: quantized rows are frozen; drop embeddingsConstraint`);
    rows.quantize(mode);
    this.#listWeights();
  }

  /**
   * Values of `weights`, in that order. With LoRA also W alone, `[V, D]`, as a layer without LoRA has it: the delta becomes 0.
   * @throws INVALID_ARGUMENT for another number of tensors, shape or dtype; NON_FINITE
   */
  override setWeights(weights: Tensor[]): void {
    const rows = this.rows('setWeights');
    if (rows.lora && weights.length === 1) {
      checkMatrix(`${this.name}: weights[0]`, weights[0]!, [this.inputDim, this.outputDim]);
      rows.setBase(weights[0]!);
      return;
    }
    if (weights.length !== this.weights.length)
      refuse(
        `${this.name}: ${weights.length} weights are given; allowed: ${this.weights.map((w) => `${w.originalName} ${shapeText(w.shape)}`).join(', ')}`,
      );
    // Of the value: rows that live elsewhere have variables that stand for more than they hold.
    this.weights.forEach((weight, i) => {
      checkMatrix(`${this.name}: weights[${i}]`, weights[i]!, weight.read().shape, weight.dtype);
    });
    this.weights.forEach((weight, i) => void weight.write(weights[i]!));
  }

  override dispose(): ReturnType<layers.Layer['dispose']> {
    this.#rows?.dispose();
    return super.dispose();
  }

  /** The rows. @throws INVALID_ARGUMENT before the layer is built */
  protected rows(what: string): EmbeddingRows {
    return (
      this.#rows ??
      refuse(`${this.name}: ${what} needs a layer that is built; call it, put it into a model, or build() it first`)
    );
  }

  #adapted(what: string): AdaptedRows {
    const rows = this.rows(what);
    if (rows instanceof AdaptedRows) return rows;
    const message = `${this.name}: ${what}: its rows are tfjs variables, which model.save and getWeights have; allowed with \`table\`, or above \`threshold\``;
    refuse(message, { layer: this.name }, 'UNSUPPORTED');
  }

  #withLora(what: string): EmbeddingRows {
    const rows = this.rows(what);
    if (!rows.lora) refuse(`${this.name}: ${what}: LoRA is not on`);
    return rows;
  }

  #startLora(rank: number, options: LoraOptions): void {
    const rows = this.rows('enableLora');
    if (rows.lora)
      refuse(`${this.name}: LoRA is on already, with rank ${rows.lora.rank}; disableLora() or mergeLora() comes first`);
    if (this.resolved.embeddingsConstraint) refuseConstraint();
    const start = loraStart(`${this.name}: enableLora`, [this.inputDim, this.outputDim], rank, options);
    rows.enableLora(start);
    for (const factor of [start.a, start.b]) if (factor instanceof tf.Tensor) factor.dispose();
  }

  /** After whatever changes the rows' weights. */
  #listWeights(): void {
    const rows = this.rows('weights');
    const { trainable } = this;
    this.trainableWeights = [...rows.trainableWeights] as LayerVariable[];
    this.nonTrainableWeights = [...rows.frozenWeights] as LayerVariable[];
    for (const weight of rows.trainableWeights) weight.trainable = trainable;
  }

  #givenWeights(): Tensor2D | null {
    const { weights } = this.options;
    return weights == null ? null : weightsTensor(`${this.name}: weights`, weights, [this.inputDim, this.outputDim]);
  }
}
