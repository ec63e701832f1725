/** Checks of update rules, and the bias corrections of Adam. */
import type { UpdateRule } from '../kernels.ts';
import { checkNumber, refuse } from './values.ts';

/** How many state arrays a rule keeps. */
export const stateCounts: Readonly<Record<UpdateRule['type'], number>> = {
  sgd: 0,
  adagrad: 1,
  'rowwise-adagrad': 1,
  adamw: 2,
};

export function checkRule(where: string, rule: UpdateRule): void {
  const number = (name: string, value: number, low?: number, limit?: number) =>
    checkNumber(where, `rule.${name}`, value, low, limit);
  const positive = (name: string, value: number) => {
    number(name, value, 0);
    if (Math.fround(value) === 0) refuse(where, `rule.${name}`, `must be above 0 in f32, found ${value}`);
  };
  if (typeof rule !== 'object' || rule === null || !Object.hasOwn(stateCounts, rule.type)) {
    refuse(where, 'rule.type', `must be one of ${Object.keys(stateCounts).join(', ')}`);
  }
  number('learningRate', rule.learningRate, 0);
  switch (rule.type) {
    case 'sgd':
      number('weightDecay', rule.weightDecay, 0);
      break;
    case 'adagrad':
    case 'rowwise-adagrad':
      positive('epsilon', rule.epsilon);
      break;
    case 'adamw':
      number('beta1', rule.beta1, 0, 1);
      number('beta2', rule.beta2, 0, 1);
      positive('epsilon', rule.epsilon);
      number('weightDecay', rule.weightDecay, 0);
      break;
    default:
      rule satisfies never;
  }
}
