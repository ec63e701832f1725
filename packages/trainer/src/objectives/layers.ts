/** Dense layers of objectives over the kernels: parameters, a forward that keeps what its backward needs, and the backward. */
import { matrix, RandomStream, Scratch, type Matrix } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import type { DenseParameter } from '../objective.ts';

/** A parameter of zeros. */
export function parameter(name: string, shape: readonly number[]): DenseParameter {
  const length = shape.reduce((product, n) => product * n, 1);
  return { name, shape, value: new Float32Array(length), gradient: new Float32Array(length) };
}

/** Uniform in [-√(6 / fanIn), √(6 / fanIn)), for layers under ReLU (He et al. 2015); the stream has the parameter's name. */
export function fillHeUniform({ name, value }: DenseParameter, fanIn: number, seed: number): void {
  const limit = Math.sqrt(6 / fanIn);
  new RandomStream(seed, name).fillUniform(value, -limit, limit);
}

/** `x Wᵀ + bias`, W `[outputs, inputs]` and bias `[outputs]`, as PyTorch's Linear. Both start at 0. */
export class Linear {
  /** Weight and bias: `<prefix>weight` and `<prefix>bias`. */
  readonly parameters: readonly [DenseParameter, DenseParameter];
  readonly inputs: number;
  readonly outputs: number;
  readonly #kernels: Kernels;

  constructor(kernels: Kernels, prefix: string, inputs: number, outputs: number) {
    this.#kernels = kernels;
    this.inputs = inputs;
    this.outputs = outputs;
    this.parameters = [parameter(`${prefix}weight`, [outputs, inputs]), parameter(`${prefix}bias`, [outputs])];
  }

  get #weight(): Matrix {
    return matrix(this.outputs, this.inputs, this.parameters[0].value);
  }

  /** @param x `[n, inputs]` @param out `[n, outputs]`, overwritten */
  forward(x: Matrix, out: Matrix): void {
    this.#kernels.matmul({ a: x, b: this.#weight, out, transposeB: true });
    this.#kernels.addToRows(out, this.parameters[1].value);
  }

  /**
   * Writes the parameters' gradients.
   * @param x what `forward` was given, unchanged
   * @param gradient of what it made
   * @param inputGradient `[n, inputs]`, overwritten; null where nobody wants it
   */
  backward(x: Matrix, gradient: Matrix, inputGradient: Matrix | null): void {
    const [weight, bias] = this.parameters;
    const out = matrix(this.outputs, this.inputs, weight.gradient);
    this.#kernels.matmul({ a: gradient, b: x, out, transposeA: true });
    this.#kernels.sumRows(gradient, bias.gradient);
    if (inputGradient) this.#kernels.matmul({ a: gradient, b: this.#weight, out: inputGradient });
  }
}

/** Linear layers, each followed by ReLU; with none, the identity. Weights start he-uniform, biases at 0. */
export class Mlp {
  /** `<prefix><i>.weight` and `<prefix><i>.bias`. */
  readonly parameters: readonly DenseParameter[];
  readonly outputs: number;
  readonly #layers: readonly Linear[];
  readonly #scratch = new Scratch();
  /** What each layer was given, of the last `forward`. */
  #inputs: Matrix[] = [];
  #output: Matrix | null = null;

  /** @param hidden outputs of each layer */
  constructor(kernels: Kernels, prefix: string, inputs: number, hidden: readonly number[], seed: number) {
    this.#layers = hidden.map((outputs, i) => {
      const layer = new Linear(kernels, `${prefix}${i}.`, i === 0 ? inputs : hidden[i - 1]!, outputs);
      fillHeUniform(layer.parameters[0], layer.inputs, seed);
      return layer;
    });
    this.outputs = hidden.at(-1) ?? inputs;
    this.parameters = this.#layers.flatMap(({ parameters }) => parameters);
  }

  /**
   * @param x `[n, inputs]`; must stay as it is until `backward`
   * @returns `[n, outputs]`, which must too, and is good until the next `forward`; without layers `x` itself
   */
  forward(x: Matrix): Matrix {
    this.#inputs = [];
    let at = x;
    this.#layers.forEach((layer, i) => {
      const out = this.#scratch.matrix(`${i}`, x.rows, layer.outputs);
      layer.forward(at, out);
      relu(out.data);
      this.#inputs.push(at);
      at = out;
    });
    this.#output = at;
    return at;
  }

  /**
   * Writes the parameters' gradients.
   * @param gradient of what `forward` made; overwritten where there are layers
   * @param inputGradient `[n, inputs]`, overwritten; null where nobody wants it
   */
  backward(gradient: Matrix, inputGradient: Matrix | null): void {
    let [at, output] = [gradient, this.#output!];
    for (let i = this.#layers.length - 1; i >= 0; i--) {
      reluBackward(output.data, at.data);
      const input = this.#inputs[i]!;
      const wanted = i > 0 ? this.#scratch.matrix(`${i}/gradient`, input.rows, input.cols) : inputGradient;
      this.#layers[i]!.backward(input, at, wanted);
      if (i > 0) [at, output] = [wanted!, input];
    }
    if (this.#layers.length === 0) inputGradient?.data.set(gradient.data);
  }
}

/** A loop that is fast where it is compiled for one kind of array alone. */
function relu(x: Float32Array): void {
  for (let i = 0; i < x.length; i++) if (x[i]! < 0) x[i] = 0;
}

/** Of 0 where the output is 0. */
function reluBackward(output: Float32Array, gradient: Float32Array): void {
  for (let i = 0; i < output.length; i++) if (!(output[i]! > 0)) gradient[i] = 0;
}

/** The matrices of `parts`, side by side, into `out`. */
export function concatenateColumns(parts: readonly Matrix[], out: Matrix): void {
  let first = 0;
  for (const { data, rows, cols } of parts) {
    copyColumns(data, cols, 0, out.data, out.cols, first, rows, cols);
    first += cols;
  }
}

/** The reverse: columns of `x` into each of `parts`; null where nobody wants them. @param cols of each */
export function splitColumns(x: Matrix, cols: readonly number[], parts: readonly (Matrix | null | undefined)[]): void {
  let first = 0;
  cols.forEach((count, i) => {
    const part = parts[i];
    if (part) copyColumns(x.data, x.cols, first, part.data, count, 0, x.rows, count);
    first += count;
  });
}

/** The first columns of `x` into all of `out`. */
export function firstColumns(x: Matrix, out: Matrix): void {
  copyColumns(x.data, x.cols, 0, out.data, out.cols, 0, x.rows, out.cols);
}

// prettier-ignore
function copyColumns(from: Float32Array, fromCols: number, fromFirst: number, to: Float32Array, toCols: number, toFirst: number, rows: number, count: number): void {
  for (let i = 0, a = fromFirst, b = toFirst; i < rows; i++, a += fromCols, b += toCols)
    for (let j = 0; j < count; j++) to[b + j] = from[a + j]!;
}

/** Adds `x` to `to`, element by element. */
export function addTo(to: Float32Array, x: Float32Array): void {
  for (let i = 0; i < to.length; i++) to[i]! += x[i]!;
}

/** Adds `x` to the first columns of `to`. */
export function addToFirstColumns(to: Matrix, { data, rows, cols }: Matrix): void {
  for (let i = 0; i < rows; i++) for (let c = 0; c < cols; c++) to.data[i * to.cols + c]! += data[i * cols + c]!;
}
