/** Checks of what optimiser calls share. */
import { stateColumns } from '../form.ts';
import type { Implementation } from '../implementation.ts';
import type { ReplayRowsArgs, RowStore, StoreDtype, UpdatableRows, UpdateDenseArgs, UpdateRule } from '../kernels.ts';
import { SkippedSteps } from '../skipped.ts';
import { checkRule } from './rule.ts';
import { checkStore } from './stores.ts';
import { checkApart, checkFloats, checkInteger, checkInts, refuse } from './values.ts';

interface RowsCall extends UpdatableRows {
  readonly step: number;
  readonly slots: Int32Array;
}

const stateDtypes: readonly StoreDtype[] = ['f32', 'bf16', 'f16'];

function stateColumnsFor(where: string, rule: UpdateRule, dim: number, found: number): number[] {
  const columns = stateColumns(rule, dim);
  if (found !== columns.length)
    refuse(where, 'state', `must have ${columns.length} entries for ${rule.type}, found ${found}`);
  return columns;
}

/** Parameters, state and step counts: open, writable, of one capacity. The rule has been checked. */
export function checkUpdatable(
  kernels: Implementation,
  where: string,
  rule: UpdateRule,
  call: RowsCall,
  lastSteps: RowStore | null,
): void {
  const { parameters, state, step, slots, roundingSeed = 0 } = call;
  checkInteger(where, 'step', step, 1, 0x7fffffff);
  checkInteger(where, 'roundingSeed', roundingSeed, 0, Number.MAX_SAFE_INTEGER);
  checkInts(where, 'slots', slots);
  checkStore(kernels, where, 'parameters', parameters, { dtype: 'f32', writable: true });
  const columns = stateColumnsFor(where, rule, parameters.dim, state.length);
  const { rows } = parameters;
  state.forEach((store, i) => {
    checkStore(kernels, where, `state[${i}]`, store, { dim: columns[i]!, rows, writable: true });
    if (!stateDtypes.includes(store.dtype))
      refuse(where, `state[${i}]`, `must hold ${stateDtypes.join(', ')}; found ${store.dtype}`);
    if (store.dtype !== state[0]!.dtype)
      refuse(where, `state[${i}]`, `must hold ${state[0]!.dtype} as the others do, found ${store.dtype}`);
  });
  if (new Set([parameters, ...state]).size !== state.length + 1)
    refuse(where, 'state', 'must not be given the same store twice');
  if (lastSteps) checkStore(kernels, where, 'lastSteps', lastSteps, { dtype: 'i32', dim: 1, rows, writable: true });
}

export function checkSkipped(where: string, { skipped, state }: ReplayRowsArgs): void {
  if (!(skipped instanceof SkippedSteps)) refuse(where, 'skipped', 'must be a SkippedSteps');
  const { momentum, squares, l2 } = skipped.form;
  // One element's gradient then needs the whole row at every step, and 16 bits must not be rounded that often.
  if (momentum && squares === 'row' && l2 > 0 && state.some(({ dtype }) => dtype !== 'f32'))
    refuse(where, 'state', `of ${skipped.rule.type} with L2 decay must be f32 to be replayed`);
}

export function checkDense(where: string, { rule, step, parameters, state, gradients }: UpdateDenseArgs): void {
  checkRule(where, rule);
  checkInteger(where, 'step', step, 1, 0x7fffffff);
  checkFloats(where, 'parameters', parameters);
  checkFloats(where, 'gradients', gradients, parameters.length);
  const columns = stateColumnsFor(where, rule, parameters.length, state.length);
  state.forEach((array, i) => {
    checkFloats(where, `state[${i}]`, array, columns[i]!);
    checkApart(where, `state[${i}]`, array, parameters, gradients, ...state.slice(0, i));
  });
  checkApart(where, 'parameters', parameters, gradients);
}
