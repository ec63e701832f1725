/** Optimiser steps on rows in slots, and dense steps. */
import { formOf, stepNumberCount, writeStepNumbers } from '../form.ts';
import type { RowStore, UpdatableRows, UpdateDenseArgs, UpdateRowsArgs, UpdateRule } from '../kernels.ts';
import type { PortableRows } from './rows.ts';
import { applyForm, type Stretch } from './rules.ts';
import { momentumState, squaresState, StateRows } from './state.ts';

const none = new Float32Array(0);

export const emptyStretch = (length: number): Stretch => ({
  w: none,
  wAt: 0,
  m: none,
  mAt: 0,
  h: none,
  hAt: 0,
  length,
});

/** Rows of parameters with their state, one at a time. */
export class Row {
  readonly x: Stretch;
  readonly #parameters: PortableRows;
  readonly #momentum: StateRows | null = null;
  readonly #squares: StateRows | null = null;

  constructor({ parameters, state, roundingSeed = 0 }: UpdatableRows, rule: UpdateRule) {
    const stores = [...state] as PortableRows[];
    const { momentum, squares } = formOf(rule);
    this.#parameters = parameters as PortableRows;
    if (momentum) this.#momentum = new StateRows(stores.shift()!, momentumState, roundingSeed);
    if (squares !== 'none') this.#squares = new StateRows(stores.shift()!, squaresState, roundingSeed);
    this.x = emptyStretch(parameters.dim);
  }

  read(slot: number): void {
    const { x } = this;
    x.wAt = this.#parameters.seek(slot);
    x.w = this.#parameters.data as Float32Array;
    if (this.#momentum) {
      this.#momentum.read(slot);
      [x.m, x.mAt] = [this.#momentum.values, this.#momentum.at];
    }
    if (this.#squares) {
      this.#squares.read(slot);
      [x.h, x.hAt] = [this.#squares.values, this.#squares.at];
    }
  }

  /** Once for each step to which a row is brought: the step draws how state is rounded. */
  write(slot: number, step: number): void {
    this.#momentum?.write(slot, step);
    this.#squares?.write(slot, step);
  }
}

/** Index of the slot's step count in `lastSteps.data`. */
export const seekStep = (lastSteps: RowStore, slot: number): number => (lastSteps as PortableRows).seek(slot);

/** As f32, which is what the native kernels work with. */
function numbersOf(rule: UpdateRule, step: number): Float32Array {
  const numbers = new Float32Array(stepNumberCount);
  writeStepNumbers(rule, rule.learningRate, step, numbers, 0);
  return numbers;
}

export function updateRows(args: UpdateRowsArgs): void {
  const { rule, step, slots, gradients, lastSteps } = args;
  const form = formOf(rule);
  const numbers = numbersOf(rule, step);
  const row = new Row(args, rule);
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!;
    row.read(slot);
    applyForm(form, numbers, 0, row.x, gradients.data, i * gradients.cols);
    row.write(slot, step);
    if (lastSteps) {
      const at = seekStep(lastSteps, slot);
      (lastSteps as PortableRows).data[at] = step;
    }
  }
}

export function updateDense({ rule, step, parameters, state, gradients }: UpdateDenseArgs): void {
  const form = formOf(rule);
  const arrays = [...state];
  const x = { ...emptyStretch(parameters.length), w: parameters };
  if (form.momentum) x.m = arrays.shift()!;
  if (form.squares !== 'none') x.h = arrays.shift()!;
  applyForm(form, numbersOf(rule, step), 0, x, gradients, 0);
}
