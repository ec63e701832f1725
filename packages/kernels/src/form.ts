/**
 * Every update rule is one formula, with the parts that a rule lacks left out. With g the gradient of a step:
 *
 *     g += l2 w
 *     h = keepSquares h + restSquares g²        one h an element, or one a row from mean(g²)
 *     m = keepMomentum m + restMomentum g       without momentum: m = g
 *     w -= decay w + rate m / (√h root + ε)     without squares: decay w + rate m
 *
 * `rate`, `decay` and `root` depend on the step: on its learning rate and on Adam's bias corrections (Kingma and Ba 2015).
 */
import type { UpdateRule } from './kernels.ts';

/** An update rule as one formula that all of them fit: which state a value has, and the constants that it moves by. */
export interface RuleForm {
  readonly momentum: boolean;
  readonly squares: 'none' | 'element' | 'row';
  readonly l2: number;
  readonly epsilon: number;
  readonly keepMomentum: number;
  readonly restMomentum: number;
  readonly keepSquares: number;
  readonly restSquares: number;
}

export function formOf(rule: UpdateRule): RuleForm {
  const { weightDecay, decay } = rule;
  const plain: RuleForm = {
    momentum: false,
    squares: 'none',
    l2: decay === 'l2' ? weightDecay : 0,
    epsilon: 0,
    keepMomentum: 0,
    restMomentum: 1,
    keepSquares: 1,
    restSquares: 1,
  };
  switch (rule.type) {
    case 'sgd':
      return { ...plain, momentum: rule.momentum > 0, keepMomentum: rule.momentum };
    case 'adagrad':
      return { ...plain, squares: 'element', epsilon: rule.epsilon };
    case 'rowwise-adagrad':
      return { ...plain, squares: 'row', epsilon: rule.epsilon };
    case 'adam':
    case 'rowwise-adam':
      return {
        ...plain,
        momentum: true,
        squares: rule.type === 'adam' ? 'element' : 'row',
        epsilon: rule.epsilon,
        keepMomentum: rule.beta1,
        restMomentum: 1 - rule.beta1,
        keepSquares: rule.beta2,
        restSquares: 1 - rule.beta2,
      };
  }
}

/** Numbers of a step in {@link writeStepNumbers}. */
export const stepNumberCount = 3;

/** `out[at ..] =` rate, decay and root of a step with this learning rate, worked out in f64. @param step 1 for the first */
export function writeStepNumbers(
  rule: UpdateRule,
  learningRate: number,
  step: number,
  out: Float32Array | Float64Array,
  at: number,
): void {
  const adam = rule.type === 'adam' || rule.type === 'rowwise-adam';
  out[at] = adam ? learningRate / (1 - rule.beta1 ** step) : learningRate;
  out[at + 1] = rule.decay === 'decoupled' ? learningRate * rule.weightDecay : 0;
  out[at + 2] = adam ? 1 / Math.sqrt(1 - rule.beta2 ** step) : 1;
}

/** Columns of each state array that a rule keeps for rows of `dim` values: momentum first, then squares. */
export function stateColumns(rule: UpdateRule, dim: number): number[] {
  const { momentum, squares } = formOf(rule);
  return [...(momentum ? [dim] : []), ...(squares === 'none' ? [] : [squares === 'row' ? 1 : dim])];
}
