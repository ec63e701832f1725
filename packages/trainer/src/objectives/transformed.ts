/** An objective that reads the vectors of features after a linear transform, and passes its gradients back through it. */
import { FinetableError, Scratch, type Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type {
  DenseParameter,
  Evaluated,
  MetricSums,
  Objective,
  ObjectiveContext,
  ObjectiveSnapshot,
  ObjectiveTensor,
} from '../objective.ts';

type Matrices = Readonly<Record<string, Matrix>>;

/** What becomes of vectors. It is linear, so it may come after pooling. */
export interface Transform {
  /** The features that it is about; others go by. */
  readonly features: readonly string[];
  /** Whether it has parameters, and so wants gradients of frozen tables too. */
  readonly learns: boolean;
  /** Called once. @returns its parameters */
  initialize(context: ObjectiveContext): readonly DenseParameter[];
  /** @param x `[n, D]`, which stays as it is @param out `[n, D]`, overwritten */
  forward(feature: string, x: Matrix, out: Matrix): void;
  /**
   * @param gradient of what `forward` made of `x`; may be overwritten
   * @param out `[n, D]`, overwritten; null where nobody wants it
   * @param first whether it is the batch's first: gradients of parameters begin anew
   */
  backward(feature: string, x: Matrix, gradient: Matrix, out: Matrix | null, first: boolean): void;
  /** `[D, D]`: a vector is multiplied by it from the right. The same object until it changes. */
  matrixOf(feature: string): Matrix;
  /** Told that parameters have moved. */
  updated?(): void;
  /** What it has beside parameters, and belongs to the result of a training. */
  readonly values?: readonly ObjectiveTensor[] | undefined;
}

export class TransformedObjective implements Objective {
  readonly inputs: readonly string[];
  readonly pooled: readonly string[] | undefined;
  readonly labels: readonly string[];
  readonly targets: readonly string[] | undefined;
  readonly numbers: readonly string[] | undefined;
  readonly learningRate: number | undefined;
  readonly weightDecay: number | undefined;
  readonly update?: () => void;
  readonly #objective: Objective;
  readonly #transform: Transform;
  readonly #scratch = new Scratch();

  /** @throws INVALID_ARGUMENT for a feature that the objective does not read */
  constructor(objective: Objective, transform: Transform) {
    const { inputs, pooled, labels, targets, numbers, learningRate, weightDecay } = objective;
    this.inputs = inputs;
    this.pooled = pooled;
    this.labels = labels;
    this.targets = targets;
    this.numbers = numbers;
    this.learningRate = learningRate;
    this.weightDecay = weightDecay;
    this.#objective = objective;
    this.#transform = transform;
    const unread = transform.features.find((feature) => !inputs.includes(feature));
    if (unread !== undefined) throw invalid(`the objective does not read feature "${unread}"`);
    if (!objective.update) return;
    this.update = () => objective.update!();
    if (transform.learns)
      throw invalid('the objective moves its parameters itself; allowed: one that leaves that to the trainer');
  }

  initialize(context: ObjectiveContext): readonly DenseParameter[] {
    const own = this.#transform.initialize(context);
    return [...this.#objective.initialize(context), ...own];
  }

  async train(inputs: Matrices, batch: Batch, gradients: Matrices): Promise<MetricSums> {
    const { features, learns } = this.#transform;
    const wanted: Record<string, Matrix> = { ...gradients };
    for (const feature of features) {
      const { rows, cols } = inputs[feature]!;
      if (learns || gradients[feature]) wanted[feature] = this.#scratch.matrix(`${feature}/gradient`, rows, cols);
    }
    const sums = await this.#objective.train(this.#forward(inputs), batch, wanted);
    let first = true;
    for (const feature of features) {
      const gradient = wanted[feature];
      if (!gradient) continue;
      this.#transform.backward(feature, inputs[feature]!, gradient, gradients[feature] ?? null, first);
      first = false;
    }
    return sums;
  }

  async evaluate(inputs: Matrices, batch: Batch): Promise<Evaluated> {
    const evaluated = await this.#objective.evaluate(this.#forward(inputs), batch);
    const queries = evaluated.outputs?.queries;
    if (!queries || !this.#transform.features.includes(queries.feature)) return evaluated;
    // Outer transforms come first.
    const own = this.#transform.matrixOf(queries.feature);
    const transforms = [own, ...(queries.transforms ?? [])];
    return { ...evaluated, outputs: { ...evaluated.outputs!, queries: { ...queries, transforms } } };
  }

  updated(): void {
    this.#transform.updated?.();
    this.#objective.updated?.();
  }

  async snapshot(): Promise<ObjectiveSnapshot> {
    const { values = [], state = [] } = (await this.#objective.snapshot?.()) ?? {};
    return { values: [...values, ...(this.#transform.values ?? [])], state };
  }

  restore(tensors: ReadonlyMap<string, ObjectiveTensor>): void {
    const others = new Map(tensors);
    for (const { name, shape, data } of this.#transform.values ?? []) {
      const found = others.get(name);
      if (found?.shape.join() !== shape.join())
        throw new FinetableError('MISMATCH', `the objective's file has no "${name}" of shape [${shape.join(', ')}]`, {
          tensor: name,
        });
      data.set(found.data);
      others.delete(name);
    }
    this.#transform.updated?.();
    this.#objective.restore?.(others);
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return this.#objective.metrics(sums, examples);
  }

  #forward(inputs: Matrices): Matrices {
    const transformed: Record<string, Matrix> = { ...inputs };
    for (const feature of this.#transform.features) {
      const x = inputs[feature]!;
      const out = this.#scratch.matrix(feature, x.rows, x.cols);
      this.#transform.forward(feature, x, out);
      transformed[feature] = out;
    }
    return transformed;
  }
}

function invalid(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', message);
}
