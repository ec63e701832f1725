/** Optimiser steps on rows in slots, their replay, and dense steps: one rule, three ways to reach its parameters. */
import { biasCorrections } from '../bias.ts';
import type { ReplayRowsArgs, RowStore, UpdatableRows, UpdateDenseArgs, UpdateRowsArgs } from '../kernels.ts';
import type { PortableRows } from './rows.ts';
import { applyRule, correctionFor, restsWithoutGradient, type Correction, type Stretch } from './rules.ts';

const none = new Float32Array(0);

function seekStretch(x: Stretch, { parameters, state }: UpdatableRows, slot: number): void {
  const [first, second] = state as readonly PortableRows[];
  const rows = parameters as PortableRows;
  x.wAt = rows.seek(slot);
  x.w = rows.data as Float32Array;
  if (first) {
    x.firstAt = first.seek(slot);
    x.first = first.data as Float32Array;
  }
  if (second) {
    x.secondAt = second.seek(slot);
    x.second = second.data as Float32Array;
  }
}

const emptyStretch = (length: number): Stretch => ({
  w: none,
  wAt: 0,
  first: none,
  firstAt: 0,
  second: none,
  secondAt: 0,
  length,
});

/** Index of the slot's step count in `lastSteps.data`. */
const seekStep = (lastSteps: RowStore, slot: number): number => (lastSteps as PortableRows).seek(slot);

export function updateRows(args: UpdateRowsArgs): void {
  const { rule, step, slots, gradients, lastSteps } = args;
  const correction = correctionFor(rule, step);
  const x = emptyStretch(args.parameters.dim);
  for (let i = 0; i < slots.length; i++) {
    seekStretch(x, args, slots[i]!);
    applyRule(rule, correction, x, gradients.data, i * gradients.cols);
    if (lastSteps) {
      const at = seekStep(lastSteps, slots[i]!);
      (lastSteps as PortableRows).data[at] = step;
    }
  }
}

export function updateDense({ rule, step, parameters, state, gradients }: UpdateDenseArgs): void {
  const x = { ...emptyStretch(parameters.length), w: parameters, first: state[0] ?? none, second: state[1] ?? none };
  applyRule(rule, correctionFor(rule, step), x, gradients, 0);
}

export function replayRows(args: ReplayRowsArgs): void {
  const { rule, step, slots, lastSteps } = args;
  const adam = rule.type === 'adamw' ? biasCorrections(rule.beta1, rule.beta2, step) : null;
  const correction: Correction = { first: 1, root: 1 };
  const zeros = new Float32Array(args.parameters.dim);
  const before = new Float32Array(args.parameters.dim);
  const x = emptyStretch(args.parameters.dim);
  for (const slot of slots) {
    if (slot < 0) continue;
    const stepAt = seekStep(lastSteps, slot);
    const { data } = lastSteps as PortableRows;
    const last = data[stepAt]!;
    if (last >= step) continue;
    data[stepAt] = step;
    if (restsWithoutGradient(rule)) continue;
    seekStretch(x, args, slot);
    for (let t = last + 1; t <= step; t++) {
      if (adam) {
        const at = 2 * Math.min(t, adam.steps);
        correction.first = adam.values[at]!;
        correction.root = adam.values[at + 1]!;
      } else {
        before.set(x.w.subarray(x.wAt, x.wAt + x.length));
      }
      applyRule(rule, correction, x, zeros, 0);
      if (rule.type === 'adamw') {
        const reach = rule.learningRate * correction.first;
        if (rule.weightDecay === 0 && settled(x, (reach * 1.001) / rule.epsilon)) {
          decayMoments(x, rule.beta1, rule.beta2, step - t);
          break;
        }
      } else if (unchanged(x, before)) {
        // sgd with weight decay: the step is the same function of w each time, so where it changes nothing it never will.
        break;
      }
    }
  }
}

function unchanged(x: Stretch, before: Float32Array): boolean {
  for (let i = 0; i < x.length; i++) if (x.w[x.wAt + i] !== before[i]) return false;
  return true;
}

/**
 * Whether no later zero-gradient step of Adam can move w in f32. |m| only shrinks (rounding is monotone and beta1 < 1), the
 * first correction only falls towards 1, and the divisor is at least epsilon; so every later update is at most
 * `reach` |m|, the 1.001 in it being room for rounding. Where w ± that rounds to w, so does w ± anything smaller.
 */
function settled(x: Stretch, reach: number): boolean {
  for (let i = 0; i < x.length; i++) {
    const w = x.w[x.wAt + i]!;
    const most = reach * Math.abs(x.first[x.firstAt + i]!);
    if (Math.fround(w + most) !== w || Math.fround(w - most) !== w) return false;
  }
  return true;
}

/** The moments alone, `steps` times; a product that rounds to itself stays there. */
function decayMoments(x: Stretch, beta1: number, beta2: number, steps: number): void {
  for (let i = 0; i < x.length; i++) {
    x.first[x.firstAt + i] = decayed(x.first[x.firstAt + i]!, beta1, steps);
    x.second[x.secondAt + i] = decayed(x.second[x.secondAt + i]!, beta2, steps);
  }
}

function decayed(moment: number, beta: number, steps: number): number {
  for (let i = 0; i < steps; i++) {
    // Adding 0 as the full step does: -0 becomes 0.
    const next = Math.fround(beta * moment + 0);
    if (next === moment) return next;
    moment = next;
  }
  return moment;
}
