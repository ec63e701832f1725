/** The update rules, each over one stretch of parameters with its state. Arithmetic in f64, rounded to f32 where stored. */
import { biasCorrection } from '../bias.ts';
import type { UpdateRule } from '../kernels.ts';

/** `length` parameters at `w[at ..]`; one state value per parameter, or one for all of them (`rowwise-adagrad`). */
export interface Stretch {
  w: Float32Array;
  wAt: number;
  /** h, or m. Not read for sgd. */
  first: Float32Array;
  firstAt: number;
  /** v. */
  second: Float32Array;
  secondAt: number;
  length: number;
}

/** Adam's corrections for one step; see bias.ts. */
export interface Correction {
  first: number;
  root: number;
}

export function correctionFor(rule: UpdateRule, step: number): Correction {
  if (rule.type !== 'adamw') return { first: 1, root: 1 };
  const [first, root] = biasCorrection(rule.beta1, rule.beta2, step);
  return { first, root };
}

/** One step with gradient `g[gAt ..]`. */
export function applyRule(rule: UpdateRule, correction: Correction, x: Stretch, g: Float32Array, gAt: number): void {
  const { w, wAt, first, firstAt, second, secondAt, length } = x;
  const lr = rule.learningRate;
  switch (rule.type) {
    case 'sgd':
      for (let i = 0; i < length; i++) w[wAt + i]! -= lr * (g[gAt + i]! + rule.weightDecay * w[wAt + i]!);
      break;
    case 'adagrad':
      for (let i = 0; i < length; i++) {
        const gradient = g[gAt + i]!;
        first[firstAt + i]! += gradient * gradient;
        w[wAt + i]! -= (lr * gradient) / (Math.sqrt(first[firstAt + i]!) + rule.epsilon);
      }
      break;
    case 'rowwise-adagrad': {
      if (length === 0) break;
      let sum = 0;
      for (let i = 0; i < length; i++) sum += g[gAt + i]! * g[gAt + i]!;
      first[firstAt]! += sum / length;
      const rate = lr / (Math.sqrt(first[firstAt]!) + rule.epsilon);
      for (let i = 0; i < length; i++) w[wAt + i]! -= rate * g[gAt + i]!;
      break;
    }
    case 'adamw': {
      const { beta1, beta2, epsilon } = rule;
      const kept = 1 - lr * rule.weightDecay;
      const rate = lr * correction.first;
      for (let i = 0; i < length; i++) {
        const gradient = g[gAt + i]!;
        first[firstAt + i] = beta1 * first[firstAt + i]! + (1 - beta1) * gradient;
        second[secondAt + i] = beta2 * second[secondAt + i]! + (1 - beta2) * gradient * gradient;
        const root = Math.sqrt(second[secondAt + i]!) * correction.root;
        w[wAt + i] = w[wAt + i]! * kept - (rate * first[firstAt + i]!) / (root + epsilon);
      }
      break;
    }
    default:
      rule satisfies never;
  }
}

/** Whether a step without gradient changes nothing: h grows by 0, and w moves by lr · 0 / (√h + ε) = 0. */
export function restsWithoutGradient(rule: UpdateRule): boolean {
  return rule.type === 'sgd' ? rule.weightDecay === 0 : rule.type !== 'adamw';
}
