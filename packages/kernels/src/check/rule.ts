/** Checks of update rules. */
import type { UpdateRule } from '../kernels.ts';
import { checkNumber, refuse } from './values.ts';

const types: readonly UpdateRule['type'][] = ['sgd', 'adagrad', 'rowwise-adagrad', 'adam', 'rowwise-adam'];

export function checkRule(where: string, rule: UpdateRule): void {
  const number = (name: string, value: number, low?: number, limit?: number) =>
    checkNumber(where, `rule.${name}`, value, low, limit);
  const positive = (name: string, value: number) => {
    number(name, value, 0);
    if (Math.fround(value) === 0) refuse(where, `rule.${name}`, `must be above 0 in f32, found ${value}`);
  };
  if (typeof rule !== 'object' || rule === null || !types.includes(rule.type)) {
    refuse(where, 'rule.type', `must be one of ${types.join(', ')}`);
  }
  number('learningRate', rule.learningRate, 0);
  number('weightDecay', rule.weightDecay, 0);
  if (rule.decay !== 'l2' && rule.decay !== 'decoupled')
    refuse(where, 'rule.decay', `must be l2 or decoupled, found ${String(rule.decay)}`);
  if (rule.type === 'sgd') {
    number('momentum', rule.momentum, 0, 1);
    return;
  }
  positive('epsilon', rule.epsilon);
  if (rule.type === 'adam' || rule.type === 'rowwise-adam') {
    number('beta1', rule.beta1, 0, 1);
    number('beta2', rule.beta2, 0, 1);
  }
}
