/**
 * A loss written with tfjs as an objective of the trainer. One backward pass gives the gradients of the looked-up vectors and of
 * the variables; both are read to the host, where the trainer checks and clips them. The variables are moved by the trainer's
 * optimiser, on copies that are uploaded after each step, or by a tfjs optimizer, whose own variables then go into checkpoints.
 * Tensors are read without blocking, so backends that can only be read so, such as WebGPU, do.
 */
import { checkOptionNames, FinetableError, isFinetableError, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { DeviceMatrix } from '@finetable/placement';
import type {
  DenseParameter,
  DeviceObjective,
  Evaluated,
  MetricSums,
  Objective,
  ObjectiveContext,
  ObjectiveSnapshot,
  ObjectiveTensor,
} from '@finetable/trainer';
import type { Optimizer, Scalar, Tensor, Tensor2D, Variable } from '@tensorflow/tfjs';
import { TfjsMatrix } from '../device/matrix.ts';
import { tf } from '../load.ts';
import { TensorBatch } from './batch.ts';
import { checkLoss, checkOptimizer, checkVariables, invalid } from './check.ts';
import { readOptimizer, writeOptimizer } from './optimizer.ts';
import { withRandom } from './random.ts';

/** Looked-up vectors by feature: `[size, D]` float32, one per example. */
export type Embeddings = Readonly<Record<string, Tensor2D>>;

/**
 * The mean loss over a batch's examples, or an object with it as `loss` and metrics beside it, which are means over the examples
 * too. A metric named `accuracy` can choose the best epoch.
 */
export type Loss = Scalar | Readonly<Record<string, Scalar>>;

/** A loss written in tfjs, what it reads and what it trains. */
export interface TfjsObjectiveOptions {
  /** The features it reads. */
  readonly features: readonly string[];
  /** The labels it reads; default none. */
  readonly labels?: readonly string[] | undefined;
  /**
   * Called once a step, and once for each batch of an evaluation, as inside `tf.tidy`. It must not wait. `Math.random` is a stream
   * of the batch's own meanwhile, so that dropout is the same in a resumed training.
   */
  readonly loss: (embeddings: Embeddings, batch: TensorBatch) => Loss;
  /**
   * What is trained, float32; those with `trainable: false`, such as moving averages, are saved and restored with the others. Files
   * know them by their names here, or by their places. Default none.
   */
  readonly variables?: readonly Variable[] | Readonly<Record<string, Variable>> | undefined;
  /** Moves the variables. Default: the trainer's optimiser does, beginning with the values that the first step finds. */
  readonly optimizer?: Optimizer | undefined;
  /** Of `Math.random` in `loss`, an integer of 0 or more; default 0. */
  readonly seed?: number | undefined;
  /** Overrides of the trainer's optimiser, where that moves the variables. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

const names: OptionNames<TfjsObjectiveOptions> = {
  features: true,
  labels: true,
  loss: true,
  variables: true,
  optimizer: true,
  seed: true,
  learningRate: true,
  weightDecay: true,
};

/**
 * An objective from a loss in tfjs, on the backend that tfjs is set to.
 * @throws INVALID_ARGUMENT for options that are wrong or unknown
 */
export function tfjsObjective(options: TfjsObjectiveOptions): Objective {
  checkOptionNames('tfjsObjective', options, names);
  return new TfjsObjective('tfjsObjective', options);
}

/** Kept tensors: means over a batch's examples, `loss` among them. */
type Means = Record<string, Scalar>;

// A type, not an interface: that is what tfjs takes for a container of tensors.
type Backward = { means: Means; gradients: (Tensor | undefined)[] };

export class TfjsObjective implements Objective {
  readonly inputs: readonly string[];
  readonly labels: readonly string[];
  readonly learningRate: number | undefined;
  readonly weightDecay: number | undefined;
  /** Absent where the trainer's optimiser moves the parameters. */
  readonly update?: () => void;
  /** Of tables on tfjs devices. */
  readonly onDevice: DeviceObjective = {
    accepts: (input) => input instanceof TfjsMatrix,
    train: (inputs, batch, wanted) => this.#trainOnDevice(inputs, batch, wanted),
    evaluate: (inputs, batch) => this.evaluate(inputs, batch),
  };
  readonly #where: string;
  readonly #options: TfjsObjectiveOptions;
  readonly #checkDims: (featureDims: Readonly<Record<string, number>>) => void;
  /** By their names in files. */
  readonly #trained: ReadonlyMap<string, Variable>;
  readonly #fixed: ReadonlyMap<string, Variable>;
  readonly #parameters: readonly DenseParameter[];
  #initialized = false;
  /** Whether the parameters' values are those of the variables. */
  #current = false;

  /** @param where names it in errors */
  constructor(
    where: string,
    options: TfjsObjectiveOptions,
    checkDims: (featureDims: Readonly<Record<string, number>>) => void = () => undefined,
  ) {
    this.#where = where;
    this.#options = options;
    this.#checkDims = checkDims;
    const { features, labels = [], loss, variables = {}, optimizer, learningRate, weightDecay } = options;
    for (const [name, list] of Object.entries({ features, labels })) {
      if (!Array.isArray(list) || list.some((item) => typeof item !== 'string') || new Set(list).size < list.length)
        throw invalid(where, `${name} ${JSON.stringify(list)}; allowed: a list of names, each once`);
    }
    if (features.length === 0) throw invalid(where, 'features: an empty list; allowed: one feature or more');
    if (typeof loss !== 'function') throw invalid(where, `loss: found ${typeof loss}; allowed: a function`);
    this.inputs = features;
    this.labels = labels;
    this.learningRate = learningRate;
    this.weightDecay = weightDecay;
    const all = checkVariables(where, variables);
    this.#trained = new Map(all.filter(([, { trainable }]) => trainable));
    this.#fixed = new Map(all.filter(([, { trainable }]) => !trainable));
    this.#parameters = [...this.#trained].map(([name, { shape, size }]) => ({
      name,
      shape,
      value: new Float32Array(size),
      gradient: new Float32Array(size),
    }));
    if (!optimizer) return;
    checkOptimizer(where, options);
    this.update = () => this.#apply(optimizer);
  }

  initialize({ featureDims }: ObjectiveContext): readonly DenseParameter[] {
    if (this.#initialized) throw invalid(this.#where, 'the objective is in use by another trainer; make one for each');
    this.#checkDims(featureDims);
    this.#initialized = true;
    return this.#parameters;
  }

  async train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): Promise<MetricSums> {
    if (!this.update) await this.#download();
    const wanted = this.inputs.filter((name) => name in gradients);
    const made = tf.tidy(() => this.#backward(inputs, batch, wanted));
    const targets = [...wanted.map((name) => gradients[name]!), ...this.#parameters.map(({ gradient }) => gradient)];
    try {
      await Promise.all(
        targets.map((target, i) => readInto(made.gradients[i], 'data' in target ? target.data : target)),
      );
      return await sumsOf(made.means, batch.size);
    } finally {
      tf.dispose([made.means, made.gradients.filter((gradient) => gradient !== undefined)]);
    }
  }

  async #trainOnDevice(
    inputs: Readonly<Record<string, DeviceMatrix>>,
    batch: Batch,
    wanted: readonly string[],
  ): ReturnType<DeviceObjective['train']> {
    if (!this.update) await this.#download();
    const made = tf.tidy(() => this.#backward(inputs, batch, wanted));
    const ofParameters = made.gradients.slice(wanted.length);
    const staying = wanted.map((name, i) => {
      const { rows, cols } = inputs[name]!;
      return [name, new TfjsMatrix((made.gradients[i] as Tensor2D | undefined) ?? tf.keep(tf.zeros([rows, cols])))];
    });
    const gradients = Object.fromEntries(staying) as Record<string, TfjsMatrix>;
    try {
      await Promise.all(this.#parameters.map(({ gradient }, i) => readInto(ofParameters[i], gradient)));
      return { sums: await sumsOf(made.means, batch.size), gradients };
    } catch (error) {
      for (const gradient of Object.values(gradients)) gradient.dispose();
      throw error;
    } finally {
      tf.dispose([made.means, ofParameters.filter((gradient) => gradient !== undefined)]);
    }
  }

  async evaluate(inputs: Readonly<Record<string, Matrix | DeviceMatrix>>, batch: Batch): Promise<Evaluated> {
    const means = tf.tidy(() => this.#forward(toTensors(inputs, this.inputs), batch, false));
    try {
      return { sums: await sumsOf(means, batch.size) };
    } finally {
      tf.dispose(means);
    }
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / examples]));
  }

  updated(): void {
    this.#upload();
  }

  async snapshot(): Promise<ObjectiveSnapshot> {
    await this.#download();
    const { optimizer } = this.#options;
    const values = [...this.#fixed].map(async ([name, variable]) => {
      return { name, shape: variable.shape, data: Float32Array.from(await variable.data()) };
    });
    return { values: await Promise.all(values), state: optimizer ? await readOptimizer(optimizer) : [] };
  }

  restore(tensors: ReadonlyMap<string, ObjectiveTensor>): void {
    for (const [name, variable] of this.#fixed) {
      const found = tensors.get(name);
      if (found?.shape.join() === variable.shape.join()) continue;
      const what = found ? `has shape [${found.shape.join(', ')}]` : 'is missing';
      const message = `${this.#where}: variable "${name}" of the file ${what}; it must have [${variable.shape.join(', ')}]`;
      throw new FinetableError('MISMATCH', message, { tensor: name });
    }
    const { optimizer } = this.#options;
    // The result of a training has no state.
    const hasState = tensors.size > this.#fixed.size;
    if (optimizer && hasState) writeOptimizer(optimizer, [...this.#trained.values()], tensors);
    for (const [name, variable] of this.#fixed) assign(variable, tensors.get(name)!.data);
    this.#upload();
  }

  /** The loss with its gradients, all kept: of the inputs `wanted`, then of the trained variables; none where it does not depend on one. */
  #backward(
    inputs: Readonly<Record<string, Matrix | DeviceMatrix>>,
    batch: Batch,
    wanted: readonly string[],
  ): Backward {
    const embeddings = toTensors(inputs, this.inputs);
    const xs = [...wanted.map((name) => embeddings[name]!), ...this.#trained.values()];
    if (xs.length === 0) return { means: this.#forward(embeddings, batch, true), gradients: [] };
    let means: Means = {};
    const forward = (): Scalar => {
      means = this.#forward(embeddings, batch, true);
      return means.loss!;
    };
    // What `tf.grads` and `tf.variableGrads` call, which refuse a loss that does without one of the variables.
    const gradients = tf.engine().gradients(forward, xs, undefined, true).grads as (Tensor | undefined)[];
    if (gradients.every((gradient) => gradient === undefined)) {
      tf.dispose(means);
      throw invalid(
        this.#where,
        'loss depends neither on the embeddings nor on the variables, so nothing can be learnt',
      );
    }
    for (const gradient of gradients) if (gradient) tf.keep(gradient);
    return { means, gradients };
  }

  #forward(embeddings: Embeddings, batch: Batch, training: boolean): Means {
    const { loss, seed = 0 } = this.#options;
    const stream = `tfjs/${training ? 'training' : 'evaluation'}/${batch.epoch}/${batch.index}`;
    let found: unknown;
    try {
      found = withRandom(seed, stream, () => loss(embeddings, new TensorBatch(batch, this.labels, training)));
    } catch (error) {
      if (isFinetableError(error)) throw error;
      const message = `${this.#where}: loss failed in epoch ${batch.epoch}, batch ${batch.index}: ${(error as Error).message}`;
      throw new FinetableError('INVALID_ARGUMENT', message, {}, { cause: error });
    }
    const scalars = Object.entries(checkLoss(this.#where, found));
    // Clones, so that disposing them leaves what the program holds.
    return Object.fromEntries(scalars.map(([name, scalar]) => [name, tf.keep(tf.clone(scalar))]));
  }

  #apply(optimizer: Optimizer): void {
    const variables = [...this.#trained.values()];
    tf.tidy(() => {
      optimizer.applyGradients(
        this.#parameters.map(({ gradient }, i) => {
          const { name, shape } = variables[i]!;
          return { name, tensor: tf.tensor(gradient.slice(), shape) };
        }),
      );
    });
    this.#current = false;
  }

  /** Brings the parameters' values up to the variables. */
  async #download(): Promise<void> {
    if (this.#current) return;
    const variables = [...this.#trained.values()];
    await Promise.all(this.#parameters.map(({ value }, i) => readInto(variables[i], value)));
    this.#current = true;
  }

  #upload(): void {
    this.#parameters.forEach(({ name, value }) => assign(this.#trained.get(name)!, value));
    this.#current = true;
  }
}

/** A copy: some backends keep the array that they are given. */
function assign(variable: Variable, values: Float32Array): void {
  tf.tidy(() => variable.assign(tf.tensor(values.slice(), variable.shape)));
}

/** They share memory with the matrices, which stay as they are until the step is done. */
function toTensors(inputs: Readonly<Record<string, Matrix | DeviceMatrix>>, features: readonly string[]): Embeddings {
  return Object.fromEntries(
    features.map((name) => {
      const input = inputs[name]!;
      if (input instanceof TfjsMatrix) return [name, input.tensor];
      const { data, rows, cols } = input as Matrix;
      return [name, tf.tensor2d(data, [rows, cols])];
    }),
  );
}

async function readInto(tensor: Tensor | undefined, target: Float32Array): Promise<void> {
  if (tensor) target.set((await tensor.data()) as Float32Array);
  else target.fill(0);
}

async function sumsOf(means: Means, examples: number): Promise<MetricSums> {
  const entries = Object.entries(means).map(
    async ([name, mean]) => [name, (await mean.data())[0]! * examples] as const,
  );
  return Object.fromEntries(await Promise.all(entries));
}
