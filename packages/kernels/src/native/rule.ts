/** Update rules as the addon reads them: eleven f32 numbers, rounded once from f64. */
import { formOf, writeStepNumbers, type RuleForm } from '../form.ts';
import type { UpdateRule } from '../kernels.ts';

/** As `enum class Squares` in native/ops.h. */
const squares: readonly RuleForm['squares'][] = ['none', 'element', 'row'];

/** Reused by every call; the addon copies it at once. */
const numbers = new Float32Array(11);

/** In the order of `read_rule` in native/sparse.cc. Valid until the next call. */
export function ruleNumbers(rule: UpdateRule, step: number): Float32Array {
  const form = formOf(rule);
  numbers[0] = form.momentum ? 1 : 0;
  numbers[1] = squares.indexOf(form.squares);
  numbers[2] = form.l2;
  numbers[3] = form.epsilon;
  numbers[4] = form.keepMomentum;
  numbers[5] = form.restMomentum;
  numbers[6] = form.keepSquares;
  numbers[7] = form.restSquares;
  writeStepNumbers(rule, rule.learningRate, step, numbers, 8);
  return numbers;
}

/** A rule's state arrays by what they hold. */
export function stateOf<T>(rule: UpdateRule, state: readonly T[]): { momentum: T | null; squares: T | null } {
  const { momentum, squares } = formOf(rule);
  return {
    momentum: momentum ? state[0]! : null,
    squares: squares === 'none' ? null : state[state.length - 1]!,
  };
}
