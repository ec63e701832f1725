/**
 * One shared linear map for all rows of a frozen table: E' = E M = E + E N, N `[D, D]` starting at 0, so M at the identity, which weight
 * decay pulls it back to. Mapped rows, pooled, are pooled rows, mapped. It moves every row, those that no example touches too: what an
 * adapter of rows is to be compared with.
 */
import { FinetableError, matrix, Scratch, type Matrix } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import type { DenseParameter, Objective, ObjectiveContext } from '../objective.ts';
import { addTo, parameter } from './layers.ts';
import { TransformedObjective, type Transform } from './transformed.ts';

/** Options of {@link mapped}. */
export interface MapOptions {
  /** Overrides of the trainer's optimiser for the map. The objective's own are not for it. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

/**
 * The objective, reading mapped vectors. Tables are given to the trainer without adapters.
 * @param maps by feature the name of its map: features of one table share one
 * @throws INVALID_ARGUMENT for a feature that the objective does not read, and for an objective with an optimiser of its own
 * @example new Trainer({ tables: { words }, objective: mapped(classification({ input: 'text', label: 'intent' }), { text: 'words' }), optimizer })
 */
export function mapped(
  objective: Objective,
  maps: Readonly<Record<string, string>>,
  options: Readonly<Record<string, MapOptions>> = {},
): Objective {
  return new TransformedObjective(objective, new LinearMaps(maps, options));
}

class LinearMaps implements Transform {
  readonly features: readonly string[];
  readonly learns = true;
  readonly #maps: Readonly<Record<string, string>>;
  readonly #options: Readonly<Record<string, MapOptions>>;
  readonly #scratch = new Scratch();
  readonly #parameters = new Map<string, DenseParameter>();
  readonly #matrices = new Map<string, Matrix>();
  /** The maps that have a gradient of this batch. */
  readonly #begun = new Set<string>();
  #kernels!: Kernels;

  constructor(maps: Readonly<Record<string, string>>, options: Readonly<Record<string, MapOptions>>) {
    this.features = Object.keys(maps);
    this.#maps = maps;
    this.#options = options;
    const unused = Object.keys(options).find((name) => !Object.values(maps).includes(name));
    if (unused !== undefined)
      throw new FinetableError('INVALID_ARGUMENT', `mapped: options of "${unused}", which is no map`);
  }

  initialize({ kernels, featureDims }: ObjectiveContext): readonly DenseParameter[] {
    this.#kernels = kernels;
    for (const [feature, name] of Object.entries(this.#maps)) {
      const dim = featureDims[feature]!;
      const made = this.#parameters.get(name);
      if (made && made.shape[0] !== dim)
        throw new FinetableError('INVALID_ARGUMENT', `mapped: features of ${dim} and ${made.shape[0]} dims share "${name}"`); // prettier-ignore
      if (!made)
        this.#parameters.set(name, { ...parameter(`map/${name}`, [dim, dim]), rates: this.#options[name] ?? {} });
    }
    return [...this.#parameters.values()];
  }

  forward(feature: string, x: Matrix, out: Matrix): void {
    const { value } = this.#of(feature);
    this.#kernels.matmul({ a: x, b: matrix(x.cols, x.cols, value), out });
    addTo(out.data, x.data);
  }

  backward(feature: string, x: Matrix, gradient: Matrix, out: Matrix | null, first: boolean): void {
    if (first) this.#begun.clear();
    const { name, value, gradient: total } = this.#of(feature);
    const square = [x.cols, x.cols] as const;
    const more = this.#begun.has(name);
    const own = more ? this.#scratch.matrix('gradient', ...square) : matrix(...square, total);
    this.#kernels.matmul({ a: x, b: gradient, out: own, transposeA: true });
    if (more) addTo(total, own.data);
    this.#begun.add(name);
    if (!out) return;
    this.#kernels.matmul({ a: gradient, b: matrix(...square, value), out, transposeB: true });
    addTo(out.data, gradient.data);
  }

  matrixOf(feature: string): Matrix {
    const { name, value, shape } = this.#of(feature);
    const known = this.#matrices.get(name);
    if (known) return known;
    const dim = shape[0]!;
    const made = matrix(dim, dim, value.slice());
    for (let d = 0; d < dim; d++) made.data[d * dim + d]! += 1;
    this.#matrices.set(name, made);
    return made;
  }

  updated(): void {
    this.#matrices.clear();
  }

  #of(feature: string): DenseParameter {
    return this.#parameters.get(this.#maps[feature]!)!;
  }
}
