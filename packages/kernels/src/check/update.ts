/** Checks of what optimiser calls share. */
import type { Implementation } from '../implementation.ts';
import type { RowStore, UpdatableRows, UpdateDenseArgs, UpdateRule } from '../kernels.ts';
import { checkRule, stateCounts } from './rule.ts';
import { checkStore } from './stores.ts';
import { checkApart, checkFloats, checkInteger, checkInts, refuse } from './values.ts';

interface RowsCall extends UpdatableRows {
  readonly rule: UpdateRule;
  readonly step: number;
  readonly slots: Int32Array;
}

function checkStateCount(where: string, rule: UpdateRule, found: number): void {
  const count = stateCounts[rule.type];
  if (found !== count) refuse(where, 'state', `must have ${count} entries for ${rule.type}, found ${found}`);
}

/** Parameters, state and step counts: open, writable, of one capacity. */
export function checkUpdatable(
  kernels: Implementation,
  where: string,
  call: RowsCall,
  lastSteps: RowStore | null,
): void {
  const { parameters, state, rule, step, slots } = call;
  checkRule(where, rule);
  checkInteger(where, 'step', step, 1, 0x7fffffff);
  checkInts(where, 'slots', slots);
  checkStore(kernels, where, 'parameters', parameters, { dtype: 'f32', writable: true });
  checkStateCount(where, rule, state.length);
  const { rows } = parameters;
  const dim = rule.type === 'rowwise-adagrad' ? 1 : parameters.dim;
  state.forEach((store, i) => {
    checkStore(kernels, where, `state[${i}]`, store, { dtype: 'f32', dim, rows, writable: true });
  });
  if (new Set([parameters, ...state]).size !== state.length + 1)
    refuse(where, 'state', 'must not be given the same store twice');
  if (lastSteps) checkStore(kernels, where, 'lastSteps', lastSteps, { dtype: 'i32', dim: 1, rows, writable: true });
}

export function checkDense(where: string, { rule, step, parameters, state, gradients }: UpdateDenseArgs): void {
  checkRule(where, rule);
  checkInteger(where, 'step', step, 1, 0x7fffffff);
  checkFloats(where, 'parameters', parameters);
  checkFloats(where, 'gradients', gradients, parameters.length);
  checkStateCount(where, rule, state.length);
  const length = rule.type === 'rowwise-adagrad' ? 1 : parameters.length;
  state.forEach((array, i) => {
    checkFloats(where, `state[${i}]`, array, length);
    checkApart(where, `state[${i}]`, array, parameters, gradients, ...state.slice(0, i));
  });
  checkApart(where, 'parameters', parameters, gradients);
}
