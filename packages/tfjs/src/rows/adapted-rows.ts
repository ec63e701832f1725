/**
 * A layer's rows in Finetable's store: a frozen base and an adapter over it, so that a step costs what the batch touches. LoRA is a
 * LoRA adapter; without, every row has a dense delta, which is the table trained in full.
 *
 * tfjs knows nothing of the rows. A lookup is an operation with a gradient of its own (`tf.customGrad`), whose backward pass keeps ∂L/∂E.
 * Which backward pass of a step is the last, it cannot tell: a layer may be applied twice. So the gradients of a step wait for whatever
 * looks at the rows next, a lookup, saving, reading weights, and are then added and become one step of the rows' own optimiser. A
 * forward pass without a backward pass, as in `evaluate` and `predict`, so never changes a row.
 */
import { FinetableError, makePlan, matrix, range, type LookupPlan, type Matrix } from '@finetable/core';
import {
  adam,
  adapterOf,
  adapterTensors,
  createAdapter,
  loadAdapters,
  saveAdapters,
  type Adapter,
  type OptimizerSpec,
  type SaveAdaptersOptions,
} from '@finetable/lora';
import type { AdapterTensors } from '@finetable/formats';
import { createTable, type ShardedTable } from '@finetable/placement';
import type { LayerVariable, Scalar, Tensor, Tensor2D } from '@tensorflow/tfjs';
import type { EmbeddingRows, Ids, LoraStart, QuantizeMode, RowsOptions } from '../layer/rows.ts';
import { tf } from '../load.ts';
import { drawTable, type DrawnTable } from './drawn.ts';
import { packAdapter, unpackAdapter } from './packed.ts';
import { anchor, packedWeight } from './weights.ts';

/** One use of the layer in a step. */
interface Use {
  readonly plan: LookupPlan;
  /** ∂L/∂E, `[n, D]`. */
  readonly gradient: Matrix;
}

interface Weights {
  readonly trainable: readonly LayerVariable[];
  readonly frozen: readonly LayerVariable[];
}

/** Keras' default optimizer at its default rate. */
const defaultOptimizer: OptimizerSpec = adam({ learningRate: 0.001 });

/** Above it a tensor of the whole table is refused; bytes. */
const mostTensorBytes = 2 ** 30;

export class AdaptedRows implements EmbeddingRows {
  readonly #options: RowsOptions;
  readonly #optimizer: OptimizerSpec;
  readonly #drawn: DrawnTable | null;
  #table: ShardedTable;
  #adapter: Adapter;
  #lora: EmbeddingRows['lora'] = null;
  #weights: Weights;
  /** The plan of the last lookup, whose sums the adapter has kept. */
  #last: LookupPlan | null = null;
  #pending: Use[] = [];

  /** @throws UNSUPPORTED for what needs the whole table in every step */
  constructor(options: RowsOptions) {
    const { layerName, inputDim, outputDim, table, weights, regularizer, constraint, device, initializer } = options;
    this.#options = options;
    this.#optimizer = options.optimizer ?? defaultOptimizer;
    if (regularizer)
      this.#refuse(
        'embeddingsRegularizer would read the whole table in every step; allowed: `optimizer` with weightDecay',
      );
    if (constraint)
      this.#refuse(
        'embeddingsConstraint would read the whole table in every step; allowed: tables below the threshold',
      );
    if (device === 'gpu')
      this.#refuse(
        'device "gpu" is not for the rows of a `table`, which lie where it was opened; allowed: "auto", "cpu"',
      );
    if (table?.needsFetch)
      this.#refuse(`table "${table.name}" has rows on devices, which cannot be read without waiting`);
    this.#drawn = table || weights ? null : drawTable(layerName, inputDim, outputDim, initializer);
    this.#table = table ?? this.#drawn?.table ?? tableOf(layerName, weights!);
    this.#adapter = this.#dense();
    this.#adapter.startTraining(this.#optimizer);
    this.#weights = this.#makeWeights();
  }

  get trainableWeights(): readonly LayerVariable[] {
    return this.#weights.trainable;
  }

  get frozenWeights(): readonly LayerVariable[] {
    return this.#weights.frozen;
  }

  get lora(): EmbeddingRows['lora'] {
    return this.#lora;
  }

  get quantization(): QuantizeMode | null {
    const { dtype } = this.#table;
    return dtype === 'int8' || dtype === 'int4' ? dtype : null;
  }

  /** With every step that was taken. */
  get adapter(): Adapter {
    this.#flush();
    return this.#adapter;
  }

  lookup({ values, shape }: Ids): Tensor {
    this.#flush();
    const n = values.length;
    const { dim, rows } = this.#table;
    // One is enough for tfjs to call the backward pass. Its optimizers pass over the others, which have no gradient.
    const anchored = this.#weights.trainable[0]!.read();
    return tf.customGrad(() => {
      const plan = makePlan({ values, offsets: range(n + 1) }, rows, { table: this.#options.layerName });
      const out = matrix(n, dim);
      this.#adapter.lookup(plan, out, true);
      this.#last = plan;
      const gradFunc = (dy: Tensor): Tensor[] => {
        this.#receive(plan, dy);
        return [tf.scalar(0)];
      };
      return { value: tf.tensor(out.data, [...shape, dim]), gradFunc };
    })(anchored);
  }

  table(): Tensor2D {
    const { rows, dim } = this.#table;
    if (rows * dim * 4 > mostTensorBytes) this.#refuse(`its ${rows} rows are not to be had as one tensor`);
    const all = this.adapter.vectors(range(rows));
    return tf.tensor2d(all.data, [rows, dim]);
  }

  penalty(): Scalar {
    return tf.scalar(0);
  }

  enableLora({ rank, alpha, init }: LoraStart): void {
    if (init === 'given')
      this.#refuse(
        "A and B cannot be given or drawn by an initializer; allowed: init 'keras', 'sparse', or loadAdapter",
      );
    const { touchedRows } = this.adapter;
    if (touchedRows > 0)
      this.#refuse(`${touchedRows} rows were trained, which LoRA would freeze; allowed: enableLora before training`);
    const seed = Math.floor(Math.random() * 2 ** 31);
    this.#replace(createAdapter(this.#table, { rank, alpha, init, seed }), { rank, alpha, init });
  }

  disableLora(): void {
    this.#flush();
    this.#replace(this.#dense(), null);
  }

  mergeLora(): void {
    const { adapter } = this;
    adapter.settle();
    const group = adapter.groups[0]!;
    if (group.untouched)
      this.#refuse("A was drawn for every row (init 'keras'), so merging changes all of them; allowed: init 'sparse'");
    const { groups, ...tensors } = adapterTensors(adapter);
    const { rows } = groups[0]!;
    const rank = this.#table.dim;
    const merged = { ...groups[0]!, kind: 'dense' as const, rank, alpha: rank, rsLora: false, b: null };
    const dense: AdapterTensors = { ...tensors, groups: [{ ...merged, a: group.deltaOf(rows).data }] };
    this.#replace(adapterOf(this.#table, dense), null);
  }

  quantize(mode: QuantizeMode): void {
    if (this.quantization === mode) return;
    this.#refuse(
      `its rows cannot be made ${mode} here; allowed: a \`table\` that is, which \`finetable convert\` makes`,
    );
  }

  setBase(w: Tensor): void {
    if (this.#options.table) this.#refuse('its rows are those of `table`, which stays as it is');
    this.#flush();
    const [table, lora] = [this.#table, this.#lora];
    this.#table = tableOf(this.#options.layerName, w as Tensor2D);
    const made = lora ? createAdapter(this.#table, { ...lora, init: lora.init as 'keras' | 'sparse' }) : this.#dense();
    this.#replace(made, lora);
    table.close();
  }

  /** What was learnt, as a folder that every part of Finetable reads. @throws what `saveAdapters` throws */
  async saveAdapter(folder: string, options: SaveAdaptersOptions = {}): Promise<void> {
    await saveAdapters(folder, [this.adapter], options);
  }

  /** Goes on from a folder, with fresh optimiser state. @throws what `loadAdapters` throws; MISMATCH for LoRA where there is none, or of another rank */
  async loadAdapter(folder: string): Promise<void> {
    const [loaded] = await loadAdapters(folder, [this.#table]);
    this.#flush();
    this.#take(loaded!, folder);
  }

  config(): Readonly<Record<string, unknown>> {
    const { table, optimizer } = this.#options;
    return {
      // Without what is undefined, which tfjs' walk over a config does not know.
      ...(optimizer && { optimizer: JSON.parse(JSON.stringify(optimizer)) as unknown }),
      ...(table && { table: { name: table.name } }),
      ...(this.#drawn && { embeddingsInitializer: this.#drawn.initializer }),
    };
  }

  dispose(): void {
    this.#pending = [];
    this.#adapter.close();
    if (!this.#options.table) this.#table.close();
  }

  #dense(): Adapter {
    return createAdapter(this.#table, { kind: 'dense' });
  }

  #replace(adapter: Adapter, lora: EmbeddingRows['lora']): void {
    try {
      adapter.startTraining(this.#optimizer);
    } catch (error) {
      adapter.close();
      throw error;
    }
    for (const weight of [...this.#weights.trainable, ...this.#weights.frozen]) weight.dispose();
    this.#adapter.close();
    this.#adapter = adapter;
    this.#last = null;
    this.#lora = lora;
    this.#weights = this.#makeWeights();
  }

  #makeWeights(): Weights {
    const { layerName } = this.#options;
    const { rows, dim } = this.#table;
    const packed = packedWeight(
      layerName,
      'adapter',
      () => packAdapter(adapterTensors(this.adapter)),
      (values) => this.#unpack(values),
    );
    if (!this.#lora) return { trainable: [anchor(layerName, 'embeddings', [rows, dim], true)], frozen: [packed] };
    const { rank } = this.#lora;
    const a = anchor(layerName, 'lora_embeddings_a', [rows, rank], true);
    const b = anchor(layerName, 'lora_embeddings_b', [rank, dim], true);
    return { trainable: [a, b], frozen: [anchor(layerName, 'embeddings', [rows, dim], false), packed] };
  }

  #unpack(packed: Int32Array): void {
    const where = this.#options.layerName;
    const tensors = unpackAdapter(packed, where);
    const { rows, dim, fingerprint } = tensors.base;
    if (rows !== this.#table.rows || dim !== this.#table.dim || fingerprint !== this.#table.fingerprint) {
      const remedy = this.#options.table
        ? 'register the table that it was trained on'
        : 'rows that were given as `weights` are not saved; keep them in a file and give that as `table`';
      throw new FinetableError('MISMATCH', `${where}: what was learnt belongs to other rows than these; ${remedy}`, {
        layer: where,
      });
    }
    this.#pending = [];
    this.#take(adapterOf(this.#table, tensors), where);
  }

  /** In the place of the adapter, whose weights stay the same objects: tfjs may be walking over them. */
  #take(adapter: Adapter, where: string): void {
    const [was, is] = [describe(this.#adapter), describe(adapter)];
    try {
      if (adapter.table !== this.#table)
        throw new FinetableError('MISMATCH', `${where}: it adds rows to the table`, { file: where });
      if (was !== is)
        throw new FinetableError('MISMATCH', `${where}: it has ${is}; the layer trains ${was}`, { file: where });
      adapter.startTraining(this.#optimizer);
    } catch (error) {
      adapter.close();
      throw error;
    }
    this.#adapter.close();
    this.#adapter = adapter;
    this.#last = null;
  }

  #receive(plan: LookupPlan, dy: Tensor): void {
    const gradient = matrix(plan.placeRows.length, this.#table.dim, dy.dataSync<'float32'>() as Float32Array);
    const { layerName } = this.#options;
    if (this.#table.kernels.firstNonFinite(gradient.data) >= 0) {
      this.#pending = [];
      throw new FinetableError(
        'NON_FINITE',
        `${layerName}: the gradient is not finite; a lower learning rate usually helps`,
        { layer: layerName },
      );
    }
    this.#pending.push({ plan, gradient });
  }

  /** The step whose gradients wait, if any. */
  #flush(): void {
    if (this.#pending.length === 0) return;
    const uses = this.#pending;
    this.#pending = [];
    const [first] = uses;
    const alone = uses.length === 1 && first!.plan === this.#last;
    const { plan, gradient } = alone ? first! : this.#join(uses);
    this.#last = null;
    this.#adapter.update(plan, this.#adapter.gradients(plan, gradient));
  }

  /** Several uses as one, looked up again: the adapter keeps sums of one lookup. */
  #join(uses: readonly Use[]): Use {
    const { rows, dim } = this.#table;
    const total = uses.reduce((sum, { plan }) => sum + plan.placeRows.length, 0);
    const values = new Int32Array(total);
    const gradient = matrix(total, dim);
    let at = 0;
    for (const use of uses) {
      values.set(use.plan.placeRows, at);
      gradient.data.set(use.gradient.data, at * dim);
      at += use.plan.placeRows.length;
    }
    const plan = makePlan({ values, offsets: range(total + 1) }, rows);
    this.#adapter.lookup(plan, matrix(total, dim), true);
    return { plan, gradient };
  }

  #refuse(message: string): never {
    const { layerName } = this.#options;
    throw new FinetableError('UNSUPPORTED', `${layerName}: ${message}`, { layer: layerName });
  }
}

/** What an adapter trains. */
function describe({ groups, magnitude }: Adapter): string {
  if (magnitude) return 'DoRA';
  if (groups.length > 1) return 'groups of rows';
  const { kind, rank } = groups[0]!;
  return kind === 'lora' ? `LoRA of rank ${rank}` : 'the rows in full';
}

/** A copy in RAM. */
function tableOf(name: string, values: Tensor2D): ShardedTable {
  const [rows, dim] = values.shape;
  return createTable(name, matrix(rows, dim, values.dataSync<'float32'>() as Float32Array));
}
