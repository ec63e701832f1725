/** Optimisers as people configure them, turned into the kernels' update rules. */
import { FinetableError } from '@finetable/core';
import type { UpdateRule } from '@finetable/kernels';

interface Common {
  /** Step size; a number > 0. */
  readonly learningRate: number;
  /**
   * What happens to touched rows in steps whose batch does not hold them. `exact` (default): what the dense optimiser does
   * (momentum and decay go on), replayed when the row is next read. `lazy`: nothing. They differ for adamw and for weight decay.
   */
  readonly mode?: 'exact' | 'lazy' | undefined;
}

export type OptimizerSpec =
  | (Common & { readonly type: 'sgd'; readonly weightDecay?: number })
  | (Common & { readonly type: 'adagrad'; readonly epsilon?: number })
  | (Common & { readonly type: 'rowwise-adagrad'; readonly epsilon?: number })
  | (Common & {
      readonly type: 'adamw';
      readonly beta1?: number | undefined;
      readonly beta2?: number | undefined;
      readonly epsilon?: number | undefined;
      readonly weightDecay?: number | undefined;
    });

type Options<T extends OptimizerSpec['type']> = Omit<Extract<OptimizerSpec, { type: T }>, 'type'>;

/** Plain gradient descent; `weightDecay` (default 0) is L2. */
export const sgd = (options: Options<'sgd'>): OptimizerSpec => ({ type: 'sgd', ...options });
/** Adagrad (Duchi, Hazan and Singer 2011); epsilon 1e-10, outside the root. */
export const adagrad = (options: Options<'adagrad'>): OptimizerSpec => ({ type: 'adagrad', ...options });
/** Adagrad with one accumulator a row, the mean of its squared gradients: 4 bytes of state a row. */
export const rowwiseAdagrad = (options: Options<'rowwise-adagrad'>): OptimizerSpec => ({
  type: 'rowwise-adagrad',
  ...options,
});
/** AdamW (Loshchilov and Hutter 2019); beta1 0.9, beta2 0.999, epsilon 1e-8, decoupled weightDecay 0. */
export const adamw = (options: Options<'adamw'>): OptimizerSpec => ({ type: 'adamw', ...options });

/** Settings of one group of parameters that differ from the optimiser's. */
export interface OptimizerOverrides {
  /** 0 leaves the group as it is. */
  readonly learningRate?: number | undefined;
  /** sgd and adamw only. */
  readonly weightDecay?: number | undefined;
}

/** The kernels' rule with every default filled in. @throws INVALID_ARGUMENT naming the option */
export function ruleOf(spec: OptimizerSpec, overrides: OptimizerOverrides = {}): UpdateRule {
  oneOf('type', spec.type, ['sgd', 'adagrad', 'rowwise-adagrad', 'adamw']);
  oneOf('mode', spec.mode ?? 'exact', ['exact', 'lazy']);
  positive('learningRate', spec.learningRate);
  const learningRate = nonNegative('learningRate', overrides.learningRate ?? spec.learningRate);
  switch (spec.type) {
    case 'sgd':
      return {
        type: 'sgd',
        learningRate,
        weightDecay: nonNegative('weightDecay', overrides.weightDecay ?? spec.weightDecay ?? 0),
      };
    case 'adagrad':
    case 'rowwise-adagrad':
      if (overrides.weightDecay !== undefined) {
        throw new FinetableError('INVALID_ARGUMENT', `weightDecay: ${spec.type} has none; allowed with sgd and adamw`);
      }
      return { type: spec.type, learningRate, epsilon: positive('epsilon', spec.epsilon ?? 1e-10) };
    case 'adamw':
      return {
        type: 'adamw',
        learningRate,
        beta1: below1('beta1', spec.beta1 ?? 0.9),
        beta2: below1('beta2', spec.beta2 ?? 0.999),
        epsilon: positive('epsilon', spec.epsilon ?? 1e-8),
        weightDecay: nonNegative('weightDecay', overrides.weightDecay ?? spec.weightDecay ?? 0),
      };
  }
}

function check(name: string, value: number, good: boolean, allowed: string): number {
  if (!Number.isFinite(value) || !good) {
    throw new FinetableError('INVALID_ARGUMENT', `optimizer.${name}: found ${value}; allowed: ${allowed}`, {
      path: `optimizer.${name}`,
    });
  }
  return value;
}
function oneOf(name: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `optimizer.${name}: found ${JSON.stringify(value)}; allowed: ${allowed.join(', ')}`,
      { path: `optimizer.${name}` },
    );
  }
}
const nonNegative = (name: string, value: number): number => check(name, value, value >= 0, '0 or more');
const positive = (name: string, value: number): number => check(name, value, value > 0, 'more than 0');
const below1 = (name: string, value: number): number =>
  check(name, value, value >= 0 && value < 1, '0 or more and below 1');

/** Columns of each state array of a rule, for rows of `dim` values. */
export function stateColumns(rule: UpdateRule, dim: number): number[] {
  switch (rule.type) {
    case 'sgd':
      return [];
    case 'adagrad':
      return [dim];
    case 'rowwise-adagrad':
      return [1];
    case 'adamw':
      return [dim, dim];
  }
}
