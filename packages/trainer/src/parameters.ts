/** An objective's dense parameters with their optimiser and what else the objective has: updated, saved and loaded together. */
import { FinetableError } from '@finetable/core';
import { readSafetensorsHeader, readTensor, writeSafetensors } from '@finetable/formats';
import { stateColumns, type Kernels, type UpdateRule } from '@finetable/kernels';
import { rateOf, ruleOf, type OptimizerSpec } from '@finetable/lora';
import type { DenseParameter, Objective, ObjectiveSnapshot, ObjectiveTensor } from './objective.ts';

export class ParameterGroup {
  readonly parameters: readonly DenseParameter[];
  readonly #objective: Objective;
  readonly #rules: readonly { readonly rule: UpdateRule; readonly rateOf: (step: number) => number }[];
  readonly #state: readonly (readonly Float32Array[])[];
  /** Steps since its optimiser state was fresh, over every `fit`: bias corrections need them. */
  #step = 0;

  constructor(parameters: readonly DenseParameter[], objective: Objective, optimizer: OptimizerSpec) {
    this.parameters = parameters;
    this.#objective = objective;
    const moved = objective.update ? [] : parameters;
    this.#rules = moved.map(({ rates = objective }) => {
      const rule = ruleOf(optimizer, rates);
      return { rule, rateOf: rateOf(optimizer, rule.learningRate) };
    });
    this.#state = moved.map(({ value }, i) =>
      stateColumns(this.#rules[i]!.rule, value.length).map((cols) => new Float32Array(cols)),
    );
  }

  update(kernels: Kernels): void {
    const step = ++this.#step;
    if (this.#objective.update) {
      this.#objective.update();
      return;
    }
    this.parameters.forEach(({ value, gradient }, i) => {
      const { rule: base, rateOf } = this.#rules[i]!;
      const rule = { ...base, learningRate: rateOf(step) };
      kernels.updateDense({ rule, step, parameters: value, state: this.#state[i]!, gradients: gradient });
    });
    this.#objective.updated?.();
  }

  /** Values alone: the result of a training. */
  async saveValues(path: string): Promise<void> {
    const { values } = await this.#snapshot();
    await save(path, [...this.#values(), ...values], {});
  }

  /** Copies of values and optimiser state, which training goes on from. @returns what writes them */
  async copyState(): Promise<(path: string) => Promise<void>> {
    const { values, state } = await this.#snapshot();
    const tensors = [...this.#values(), ...this.#states(), ...values, ...state];
    const copies = tensors.map((tensor) => ({ ...tensor, data: tensor.data.slice() }));
    const metadata = { step: String(this.#step) };
    return (path) => save(path, copies, metadata);
  }

  /** @throws MISMATCH where a shape differs; INVALID_FILE */
  async loadValues(path: string): Promise<void> {
    await this.#load(path, this.#values());
  }

  /** @throws MISMATCH where a shape differs; INVALID_FILE */
  async loadState(path: string): Promise<void> {
    const { step = '' } = await this.#load(path, [...this.#values(), ...this.#states()]);
    if (!/^\d{1,15}$/.test(step))
      throw new FinetableError('INVALID_FILE', `${path}: step "${step}"; allowed: an integer of 0 or more`, {
        file: path,
      });
    this.#step = Number(step);
  }

  async #snapshot(): Promise<ObjectiveSnapshot> {
    return (await this.#objective.snapshot?.()) ?? { values: [], state: [] };
  }

  /** Fills `tensors`, and gives the objective the others. @returns the file's metadata */
  async #load(path: string, tensors: readonly ObjectiveTensor[]): Promise<Readonly<Record<string, string>>> {
    const { metadata, values, others } = await read(path, tensors);
    tensors.forEach(({ data }, i) => data.set(values[i]!));
    this.#objective.restore?.(others);
    return metadata;
  }

  #values(): ObjectiveTensor[] {
    return this.parameters.map(({ name, shape, value }) => ({ name, shape, data: value }));
  }

  #states(): ObjectiveTensor[] {
    return this.#state.flatMap((columns, i) =>
      columns.map((data, j) => ({ name: `${this.parameters[i]!.name}.state.${j}`, shape: [data.length], data })),
    );
  }
}

async function save(
  path: string,
  tensors: readonly ObjectiveTensor[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  await writeSafetensors(
    path,
    tensors.map(({ name, shape, data }) => ({ name, dtype: 'F32', shape: [...shape], data })),
    metadata,
  );
}

interface Found {
  readonly metadata: Readonly<Record<string, string>>;
  /** Of the tensors that were asked for, in their order. */
  readonly values: readonly Float32Array[];
  readonly others: ReadonlyMap<string, ObjectiveTensor>;
}

async function read(path: string, tensors: readonly ObjectiveTensor[]): Promise<Found> {
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
  const others = new Map<string, ObjectiveTensor>();
  for (const [name, { shape, dtype }] of header.tensors) {
    if (dtype !== 'F32' || tensors.some((known) => known.name === name)) continue;
    others.set(name, { name, shape, data: (await readTensor(path, header, name)).data as Float32Array });
  }
  return { metadata: header.metadata, values, others };
}
