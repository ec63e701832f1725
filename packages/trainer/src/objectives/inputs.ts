/** Features side by side, each normalised where that is wanted: what layers are given. */
import { Scratch, type Matrix } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import { concatenateColumns, splitColumns } from './layers.ts';
import { refuse } from './options.ts';

type Matrices = Readonly<Record<string, Matrix>>;

export class InputRows {
  readonly #names: readonly string[];
  readonly #normalize: boolean;
  readonly #scratch = new Scratch();
  #kernels!: Kernels;
  #dims: readonly number[] = [];

  /** @param where names the objective in errors @throws INVALID_ARGUMENT for no feature, or one that is named twice */
  constructor(where: string, names: readonly string[], normalize: boolean) {
    if (names.length === 0) throw refuse(where, 'input', names, 'a feature, or several');
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (twice !== undefined) throw refuse(where, 'input', twice, 'each feature once');
    this.#names = names;
    this.#normalize = normalize;
  }

  /** @returns columns of all together */
  initialize(kernels: Kernels, featureDims: Readonly<Record<string, number>>): number {
    this.#kernels = kernels;
    this.#dims = this.#names.map((name) => featureDims[name]!);
    return this.#dims.reduce((sum, dim) => sum + dim, 0);
  }

  /** @returns a feature alone as it is; good until the next `forward` */
  forward(inputs: Matrices): Matrix {
    const parts = this.#names.map((name) => inputs[name]!);
    if (this.#normalize) parts.forEach((x, i) => this.#kernels.normalizeRows(x, this.#norms(i, x.rows)));
    if (parts.length === 1) return parts[0]!;
    const x = this.#scratch.matrix('x', parts[0]!.rows, this.#dims.reduce((sum, dim) => sum + dim, 0)); // prettier-ignore
    concatenateColumns(parts, x);
    return x;
  }

  /** Where the gradient of what `forward` made goes: of a feature alone into its own. */
  gradientOf(x: Matrix, gradients: Matrices): Matrix {
    return this.#names.length === 1 ? gradients[this.#names[0]!]! : this.#scratch.matrix('gradient', x.rows, x.cols);
  }

  /** From the gradient of what `forward` made to those of the features that want one. */
  backward(gradient: Matrix, inputs: Matrices, gradients: Matrices): void {
    if (this.#names.length > 1) {
      const parts = this.#names.map((name) => gradients[name]);
      splitColumns(gradient, this.#dims, parts);
    }
    if (!this.#normalize) return;
    this.#names.forEach((name, i) => {
      const [y, wanted] = [inputs[name]!, gradients[name]];
      if (wanted) this.#kernels.normalizeRowsBackward(y, this.#norms(i, y.rows), wanted);
    });
  }

  #norms(i: number, rows: number): Float32Array {
    return this.#scratch.matrix(`norms/${i}`, rows, 1).data;
  }
}
