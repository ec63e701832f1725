/** An objective's dense parameters with their optimiser: updated, saved and loaded together. */
import { FinetableError } from '@finetable/core';
import { readSafetensorsHeader, readTensor, writeSafetensors } from '@finetable/formats';
import { stateColumns, type Kernels, type UpdateRule } from '@finetable/kernels';
import { rateOf, ruleOf, type OptimizerOverrides, type OptimizerSpec } from '@finetable/lora';
import type { DenseParameter } from './objective.ts';

interface Named {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export class ParameterGroup {
  readonly parameters: readonly DenseParameter[];
  readonly #rule: UpdateRule;
  readonly #rateOf: (step: number) => number;
  readonly #state: readonly (readonly Float32Array[])[];
  /** Steps since its optimiser state was fresh, over every `fit`: bias corrections need them. */
  #step = 0;

  constructor(parameters: readonly DenseParameter[], optimizer: OptimizerSpec, overrides: OptimizerOverrides) {
    this.parameters = parameters;
    this.#rule = ruleOf(optimizer, overrides);
    this.#rateOf = rateOf(optimizer, this.#rule.learningRate);
    this.#state = parameters.map(({ value }) =>
      stateColumns(this.#rule, value.length).map((cols) => new Float32Array(cols)),
    );
  }

  update(kernels: Kernels): void {
    const step = ++this.#step;
    const rule = { ...this.#rule, learningRate: this.#rateOf(step) };
    this.parameters.forEach(({ value, gradient }, i) => {
      kernels.updateDense({ rule, step, parameters: value, state: this.#state[i]!, gradients: gradient });
    });
  }

  /** Values alone: the result of a training. */
  async saveValues(path: string): Promise<void> {
    await save(path, this.#values(), {});
  }

  /** Values and optimiser state: what training goes on from. */
  async saveState(path: string): Promise<void> {
    await save(path, [...this.#values(), ...this.#states()], { step: String(this.#step) });
  }

  /** @throws MISMATCH where a shape differs; INVALID_FILE */
  async loadValues(path: string): Promise<void> {
    await load(path, this.#values());
  }

  /** @throws MISMATCH where a shape differs; INVALID_FILE */
  async loadState(path: string): Promise<void> {
    const { step = '' } = await load(path, [...this.#values(), ...this.#states()]);
    if (!/^\d{1,15}$/.test(step))
      throw new FinetableError('INVALID_FILE', `${path}: step "${step}"; allowed: an integer of 0 or more`, {
        file: path,
      });
    this.#step = Number(step);
  }

  #values(): Named[] {
    return this.parameters.map(({ name, shape, value }) => ({ name, shape, data: value }));
  }

  #states(): Named[] {
    return this.parameters.flatMap(({ name }, i) =>
      this.#state[i]!.map((data, j) => ({ name: `${name}.state.${j}`, shape: [data.length], data })),
    );
  }
}

async function save(
  path: string,
  tensors: readonly Named[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  await writeSafetensors(
    path,
    tensors.map(({ name, shape, data }) => ({ name, dtype: 'F32', shape: [...shape], data })),
    metadata,
  );
}

/** @returns the file's metadata */
async function load(path: string, tensors: readonly Named[]): Promise<Readonly<Record<string, string>>> {
  const header = await readSafetensorsHeader(path);
  const values: Float32Array[] = [];
  for (const { name, shape } of tensors) {
    const found = header.tensors.get(name);
    if (found?.dtype !== 'F32' || found.shape.join() !== shape.join()) {
      const what = found ? `${found.dtype} [${found.shape.join(', ')}]` : 'none';
      throw new FinetableError('MISMATCH', `${path}: "${name}" must be F32 [${shape.join(', ')}], found ${what}`, {
        file: path,
        tensor: name,
      });
    }
    values.push((await readTensor(path, header, name)).data as Float32Array);
  }
  tensors.forEach(({ data }, i) => data.set(values[i]!));
  return header.metadata;
}
