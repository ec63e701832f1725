/** Update rules as the addon reads them: a type and ten f32 numbers, rounded once from f64. */
import { biasCorrection } from '../bias.ts';
import type { UpdateRule } from '../kernels.ts';

/** As `enum class RuleType` in native/ops.h. */
export const ruleTypes: Readonly<Record<UpdateRule['type'], number>> = {
  sgd: 0,
  adagrad: 1,
  'rowwise-adagrad': 2,
  adamw: 3,
};

/** Reused by every call; the addon copies it at once. */
const numbers = new Float32Array(10);

/** In the order of `read_rule` in native/sparse.cc. Valid until the next call. */
export function ruleNumbers(rule: UpdateRule, step: number): Float32Array {
  const weightDecay = 'weightDecay' in rule ? rule.weightDecay : 0;
  const epsilon = 'epsilon' in rule ? rule.epsilon : 0;
  numbers.set([rule.learningRate, weightDecay, epsilon, 0, 0, 0, 0, 1 - rule.learningRate * weightDecay, 1, 1]);
  if (rule.type === 'adamw') {
    const { beta1, beta2 } = rule;
    numbers.set([beta1, 1 - beta1, beta2, 1 - beta2], 3);
    numbers.set(biasCorrection(beta1, beta2, step), 8);
  }
  return numbers;
}
