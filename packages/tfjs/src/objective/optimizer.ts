/**
 * The state of a tfjs optimizer as named arrays. `getWeights` is not used: Adamax has none, and Adam's leaves out the powers of
 * beta that it multiplies up step by step, so that a resumed training would differ in its last bits. State is what every optimizer of
 * tfjs keeps it in: fields that are a variable, and lists of `{ variable }`, one per trained variable.
 */
import { FinetableError } from '@finetable/core';
import type { ObjectiveTensor } from '@finetable/trainer';
import type { Optimizer, Variable } from '@tensorflow/tfjs';
import { tf } from '../load.ts';

interface Slot {
  readonly originalName: string;
  readonly variable: Variable;
}

const prefix = 'optimizer';

/** What its fields are named after: state of one optimizer means nothing to another. */
const prefixOf = (optimizer: Optimizer): string => `${prefix}.${optimizer.getClassName()}.`;

const isSlots = (value: unknown): value is Slot[] =>
  Array.isArray(value) && value.every((slot) => (slot as Partial<Slot> | null)?.variable instanceof tf.Variable);

/** Copies of its state. */
export async function readOptimizer(optimizer: Optimizer): Promise<ObjectiveTensor[]> {
  const own = prefixOf(optimizer);
  const variables = Object.entries(optimizer).flatMap(([field, value]: [string, unknown]): [string, Variable][] => {
    if (value instanceof tf.Variable) return [[field, value]];
    return isSlots(value) ? value.map(({ variable }, i) => [`${field}.${i}`, variable]) : [];
  });
  const tensors = variables.map(async ([name, variable]) => {
    const data = Float32Array.from(await variable.data());
    return { name: own + name, shape: variable.shape, data };
  });
  const iterations = { name: `${own}iterations`, shape: [1], data: Float32Array.of(optimizer.iterations) };
  return [iterations, ...(await Promise.all(tensors))];
}

/**
 * Puts state back.
 * @param trained the variables it moves, in their order
 * @throws MISMATCH where it is another optimizer's, or of other variables; nothing is changed then
 */
export function writeOptimizer(
  optimizer: Optimizer,
  trained: readonly Variable[],
  tensors: ReadonlyMap<string, ObjectiveTensor>,
): void {
  const own = prefixOf(optimizer);
  const find = (field: string, shape: readonly number[]): ObjectiveTensor => {
    const found = tensors.get(own + field);
    if (found?.shape.join() === shape.join()) return found;
    const what = found ? `has shape [${found.shape.join(', ')}], not [${shape.join(', ')}]` : 'is missing';
    const others = [...tensors.keys()].find((name) => name.startsWith(`${prefix}.`) && !name.startsWith(own));
    const remedy = others ? `; the checkpoint is of ${others.split('.')[1]}` : '';
    throw new FinetableError('MISMATCH', `optimizer ${optimizer.getClassName()}: ${field} ${what}${remedy}`, { field });
  };
  const [iterations] = find('iterations', [1]).data;
  const changes = Object.entries(optimizer).flatMap(([field, value]: [string, unknown]): (() => void)[] => {
    if (value instanceof tf.Variable) {
      const { data } = find(field, value.shape);
      return [() => tf.tidy(() => value.assign(tf.tensor(data, value.shape)))];
    }
    if (!isSlots(value)) return [];
    // Slots are made by the first step, so before it there are none.
    const present = tensors.has(`${own}${field}.0`);
    const found = present ? trained.map(({ shape }, i) => find(`${field}.${i}`, shape)) : [];
    return [
      () => {
        const slots = found.map(({ name, data }, i) => {
          const variable = tf.tidy(() => tf.variable(tf.tensor(data, trained[i]!.shape), false));
          return { originalName: name, variable };
        });
        for (const { variable } of value.splice(0, value.length, ...slots)) variable.dispose();
      },
    ];
  });
  for (const change of changes) change();
  (optimizer as unknown as { iterations_: number }).iterations_ = iterations!;
}
