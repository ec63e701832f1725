/** Whether an objective's gradients are those of its loss: by finite differences. */
import { FinetableError, matrix, RandomStream, type Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import { loadKernels, type Kernels } from '@finetable/kernels';
import type { DenseParameter, Objective, ObjectiveContext } from './objective.ts';

/** What the objective is made with, and how exact its gradients have to be. */
export interface CheckGradientsOptions {
  /** Class names, as the objective's labels need them. */
  readonly classes?: ObjectiveContext['classes'] | undefined;
  /** The largest error that passes; default 0.01. */
  readonly tolerance?: number | undefined;
  /** How far values are moved; default 0.03. Smaller steps meet the rounding of f32, larger ones curvature and kinks. */
  readonly step?: number | undefined;
  /** At most so many values of each array are moved, evenly spread; default 200. */
  readonly values?: number | undefined;
  /** Of the parameters' random values: those that start at 0 would hide what is wrong. Default 0. */
  readonly seed?: number | undefined;
  /** Default: the best there are. */
  readonly kernels?: Kernels | undefined;
}

/** How right the gradient of one array is. */
export interface CheckedGradient {
  /** An input or a parameter. */
  readonly name: string;
  /** The largest |gradient - difference|, over the larger of the two, or over a tenth of the array's largest where that is more. */
  readonly error: number;
  /** Where that is, and what was found there. */
  readonly index: number;
  readonly gradient: number;
  readonly difference: number;
}

/**
 * Compares the gradients that `train` writes, of every input and parameter, with differences of the loss that it returns
 * (`sums.loss / batch.size`): central ones with two steps, extrapolated (Richardson), so that what is left is rounding; with smaller
 * steps where these do not agree, as beside the kinks of ReLU (one that is very near may need another `seed`). `train` must find the same loss for the same values.
 * @param objective a new one, which is used up
 * @param inputs `[size, D]` for each feature that it reads
 * @param batch what else it reads: `exampleBatch` makes one
 * @returns all that was compared, the worst first
 * @throws INVALID_ARGUMENT naming the array with the largest error, where that is above the tolerance
 * @example
 * await checkGradients(myObjective(), { text: matrix(4, 8, values) }, exampleBatch(4, { labels: { y: Int32Array.of(0, 1, 1, 0) } }), {
 *   classes: { y: ['no', 'yes'] },
 * });
 */
export async function checkGradients(
  objective: Objective,
  inputs: Readonly<Record<string, Matrix>>,
  batch: Batch,
  options: CheckGradientsOptions = {},
): Promise<readonly CheckedGradient[]> {
  const { classes = {}, tolerance = 0.01, step = 0.03, values = 200, seed = 0, kernels = loadKernels() } = options;
  const each = <T>(from: Readonly<Record<string, Matrix>>, make: (m: Matrix) => T): Record<string, T> =>
    Object.fromEntries(Object.entries(from).map(([name, m]) => [name, make(m)]));
  const numberDims = each(batch.numbers, ({ cols }) => cols);
  const featureDims = each(inputs, ({ cols }) => cols);
  const parameters = objective.initialize({ kernels, featureDims, numberDims, classes });
  for (const { name, shape, value } of parameters)
    new RandomStream(seed, `check/${name}`).fillNormal(value, 1 / Math.sqrt(shape.at(-1) ?? 1));
  objective.updated?.();

  const gradients = each(inputs, ({ rows, cols }) => matrix(rows, cols, new Float32Array(rows * cols).fill(NaN)));
  const copy = (m: Matrix): Matrix => matrix(m.rows, m.cols, m.data.slice());
  const lossOf = async (written: Readonly<Record<string, Matrix>>): Promise<number> =>
    (await objective.train(each(inputs, copy), batch, written)).loss! / batch.size;
  await lossOf(gradients);
  const arrays = [
    ...Object.entries(inputs).map(([name, m]) => ({ name, value: m.data, gradient: gradients[name]!.data })),
    ...parameters.map(({ name, value, gradient }: DenseParameter) => ({ name, value, gradient: gradient.slice() })),
  ];

  const lost = each(inputs, copy);
  const slope = async (value: Float32Array, i: number, h: number): Promise<number> => {
    const kept = value[i]!;
    const at = async (x: number): Promise<[number, number]> => {
      value[i] = x;
      objective.updated?.();
      return [await lossOf(lost), value[i]!];
    };
    const [up, above] = await at(kept + h);
    const [down, below] = await at(kept - h);
    value[i] = kept;
    return (up - down) / (above - below);
  };
  const differenceOf = async (value: Float32Array, i: number, h: number): Promise<number> =>
    (4 * (await slope(value, i, h)) - (await slope(value, i, 2 * h))) / 3;
  const checked: CheckedGradient[] = [];
  for (const { name, value, gradient } of arrays) {
    const chosen = spread(value.length, values);
    const differences: number[] = [];
    for (const i of chosen) differences.push(await differenceOf(value, i, step));
    const sizes = chosen.flatMap((i, j) => [Math.abs(gradient[i]!), Math.abs(differences[j]!)]);
    const largest = Math.max(...sizes.filter((size) => !Number.isNaN(size)));
    let worst: CheckedGradient | null = null;
    for (const [j, i] of chosen.entries()) {
      const g = gradient[i]!;
      const errorOf = (d: number): number =>
        g === d ? 0 : Math.abs(g - d) / Math.max(Math.abs(g), Math.abs(d), largest / 10);
      let [difference, error] = [differences[j]!, errorOf(differences[j]!)];
      // A step over a kink gives something between the slopes on both sides of it; a smaller one may stay on one side.
      for (const h of [step / 4, step / 16, step / 64]) {
        if (!(error > tolerance / 4)) break;
        const again = await differenceOf(value, i, h);
        if (errorOf(again) < error) [difference, error] = [again, errorOf(again)];
      }
      // The first NaN stays.
      if (!worst || (!Number.isNaN(worst.error) && !(error <= worst.error)))
        worst = { name, error, index: i, gradient: g, difference };
    }
    if (worst) checked.push(worst);
  }
  objective.updated?.();
  checked.sort((a, b) => (a.error === b.error ? 0 : Number.isNaN(a.error) ? -1 : b.error - a.error));
  const [worst] = checked;
  if (worst && !(worst.error <= tolerance)) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `the gradient of "${worst.name}" is ${worst.gradient} at ${worst.index}, finite differences give ${worst.difference}: an error of ${worst.error.toPrecision(3)}; allowed: up to ${tolerance}`,
      { name: worst.name, index: worst.index, error: worst.error },
    );
  }
  return checked;
}

/** At most `most` of the indices below `length`. */
function spread(length: number, most: number): number[] {
  const count = Math.min(length, most);
  return Array.from({ length: count }, (_, i) => Math.floor((i * length) / count));
}

/** A batch that no loader made, of `size` examples, with what an objective reads from it. */
export function exampleBatch(size: number, parts: Partial<Batch> = {}): Batch {
  return {
    epoch: 0,
    index: 0,
    size,
    plans: {},
    features: {},
    labels: {},
    targets: {},
    labelSets: {},
    numbers: {},
    weights: null,
    ids: null,
    files: [],
    fileOf: null,
    unit: 'row',
    lines: Float64Array.from({ length: size }, (_, i) => i + 1),
    ...parts,
  };
}
