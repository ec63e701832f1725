/** What a program may give to an objective, checked. */
import { FinetableError } from '@finetable/core';
import type { Optimizer, Scalar, Variable } from '@tensorflow/tfjs';
import { tf } from '../load.ts';

export const invalid = (where: string, message: string): FinetableError =>
  new FinetableError('INVALID_ARGUMENT', `${where}: ${message}`);

/** @returns variables by their names in files: those of an object, or their places in a list */
export function checkVariables(
  where: string,
  variables: readonly Variable[] | Readonly<Record<string, Variable>>,
): [string, Variable][] {
  const all = Object.entries(variables as Readonly<Record<string, unknown>>);
  const seen = new Set<unknown>();
  return all.map(([name, variable]) => {
    const what = `variable ${JSON.stringify(name)}`;
    if (!(variable instanceof tf.Variable))
      throw invalid(
        where,
        `${what} is no tf.Variable of the tfjs that Finetable uses; allowed: what tf.variable(...) makes`,
      );
    if (variable.isDisposed) throw invalid(where, `${what} is disposed`);
    if (variable.dtype !== 'float32') throw invalid(where, `${what} is ${variable.dtype}; allowed: float32`);
    if (seen.has(variable)) throw invalid(where, `${what} is there twice`);
    seen.add(variable);
    if (/^optimizer\.|\.state\.\d+$/.test(name))
      throw invalid(where, `${what}: the name is kept for the state of optimisers; choose another`);
    return [name, variable];
  });
}

export function checkOptimizer(
  where: string,
  options: { optimizer?: Optimizer | undefined; learningRate?: number | undefined; weightDecay?: number | undefined },
): void {
  const { optimizer, learningRate, weightDecay } = options;
  if (typeof (optimizer as Partial<Optimizer>).applyGradients !== 'function')
    throw invalid(where, 'optimizer: allowed: one of tfjs, such as tf.train.adam(0.001)');
  if ((learningRate ?? weightDecay) !== undefined)
    throw invalid(
      where,
      'learningRate and weightDecay are for the trainer’s optimiser; leave them out beside `optimizer`',
    );
}

/** @returns what a loss function gave, by names */
export function checkLoss(where: string, found: unknown): Record<string, Scalar> {
  if (found instanceof Promise) {
    found.catch(() => undefined);
    throw invalid(where, 'loss returned a promise; allowed: a function that does not wait');
  }
  const all = found instanceof tf.Tensor ? { loss: found } : found;
  if (typeof all !== 'object' || all === null || !('loss' in all))
    throw invalid(where, 'loss must return a scalar tensor, or an object with one as `loss` and metrics beside it');
  for (const [name, value] of Object.entries(all)) {
    if (!(value instanceof tf.Tensor)) throw invalid(where, `${name}: found ${typeof value}; allowed: a scalar tensor`);
    if (value.rank > 0)
      throw invalid(
        where,
        `${name} has shape [${value.shape.join(', ')}]; allowed: a scalar, such as its mean over the examples`,
      );
    if (name === 'loss' && value.dtype !== 'float32') throw invalid(where, `loss is ${value.dtype}; allowed: float32`);
  }
  return all as Record<string, Scalar>;
}
