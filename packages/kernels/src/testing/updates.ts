/** Rows with optimiser state for tests, and every rule's textbook formula in f64. */
import { matrix, RandomStream, type Matrix } from '@finetable/core';
import { stateColumns } from '../form.ts';
import type { Kernels, RowStore, UpdateRule } from '../kernels.ts';
import { upTo } from './cases.ts';

const l2 = { weightDecay: 0, decay: 'l2' } as const;
const decoupled = { weightDecay: 0.1, decay: 'decoupled' } as const;
const betas = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/** Every rule, with and without weight decay of both kinds. */
export const rules: readonly UpdateRule[] = [
  { type: 'sgd', learningRate: 0.05, momentum: 0, ...l2 },
  { type: 'sgd', learningRate: 0.05, momentum: 0, ...l2, weightDecay: 0.1 },
  { type: 'sgd', learningRate: 0.01, momentum: 0.9, ...l2 },
  { type: 'sgd', learningRate: 0.01, momentum: 0.9, ...l2, weightDecay: 0.1 },
  { type: 'sgd', learningRate: 0.01, momentum: 0.9, ...decoupled },
  { type: 'adagrad', learningRate: 0.05, epsilon: 1e-8, ...l2 },
  { type: 'adagrad', learningRate: 0.05, epsilon: 1e-8, ...l2, weightDecay: 0.1 },
  { type: 'adagrad', learningRate: 0.05, epsilon: 1e-8, ...decoupled },
  { type: 'rowwise-adagrad', learningRate: 0.05, epsilon: 1e-8, ...l2 },
  { type: 'rowwise-adagrad', learningRate: 0.05, epsilon: 1e-8, ...l2, weightDecay: 0.1 },
  { type: 'rowwise-adagrad', learningRate: 0.05, epsilon: 1e-8, ...decoupled },
  { type: 'adam', learningRate: 0.01, ...betas, ...l2 },
  { type: 'adam', learningRate: 0.01, ...betas, ...l2, weightDecay: 0.1 },
  { type: 'adam', learningRate: 0.01, ...betas, ...decoupled },
  { type: 'adam', learningRate: 0.01, beta1: 0.8, beta2: 0.95, epsilon: 1e-6, ...decoupled },
  { type: 'rowwise-adam', learningRate: 0.01, ...betas, ...l2 },
  { type: 'rowwise-adam', learningRate: 0.01, ...betas, ...l2, weightDecay: 0.1 },
  { type: 'rowwise-adam', learningRate: 0.01, ...betas, ...decoupled },
];

export const nameOf = (rule: UpdateRule): string =>
  [
    rule.type,
    ...('momentum' in rule && rule.momentum > 0 ? ['with momentum'] : []),
    ...('beta2' in rule ? [`beta2 ${rule.beta2}`] : []),
    ...(rule.weightDecay > 0 ? [`${rule.decay} decay`] : []),
  ].join(', ');

/** Warm-up over 20 steps, then a cosine down to nothing at step 250. */
export const scheduled =
  (rule: UpdateRule) =>
  (step: number): number =>
    rule.learningRate * (step < 20 ? step / 20 : 0.5 * (1 + Math.cos((Math.PI * Math.min(step, 250)) / 250)));

export interface Rows {
  parameters: RowStore;
  state: RowStore[];
  lastSteps: RowStore;
}

export function makeRows(
  kernels: Kernels,
  rule: UpdateRule,
  start: Matrix,
  stateDtype: 'f32' | 'bf16' | 'f16' = 'f32',
): Rows {
  const parameters = kernels.createRows(start.rows, start.cols, 'f32');
  kernels.scatterRows(parameters, upTo(start.rows), start);
  const state = stateColumns(rule, start.cols).map((width) => kernels.createRows(start.rows, width, stateDtype));
  return { parameters, state, lastSteps: kernels.createRows(start.rows, 1, 'i32') };
}

/** All stored bytes, parameters first. */
export function bytesOf(kernels: Kernels, { parameters, state }: Rows): Buffer {
  return Buffer.concat(
    [parameters, ...state].map((store) => {
      const out = new Uint8Array(store.sizeBytes);
      kernels.readBytes(store, 0, out);
      return out;
    }),
  );
}

export const valuesOf = (kernels: Kernels, store: RowStore): number[] => {
  const out = matrix(store.rows, store.dim);
  kernels.gatherRows(store, upTo(store.rows), out);
  return [...out.data];
};

export function normals(rows: number, cols: number, stream: string, deviation = 1): Matrix {
  const out = matrix(rows, cols);
  new RandomStream(9, stream).fillNormal(out.data, deviation);
  return out;
}

/** One row of the dense optimiser in f64: the formulas as papers and PyTorch have them, one by one. */
export class ReferenceRow {
  readonly w: number[];
  /** Momentum or m, and h or v; one value where the rule keeps one a row. */
  readonly m: number[];
  readonly h: number[];

  constructor(start: Iterable<number>) {
    this.w = [...start];
    this.m = this.w.map(() => 0);
    this.h = this.w.map(() => 0);
  }

  step(rule: UpdateRule, lr: number, t: number, gradient: readonly number[]): void {
    const { w, m, h } = this;
    const g = gradient.map((x, i) => (rule.decay === 'l2' ? x + rule.weightDecay * w[i]! : x));
    if (rule.decay === 'decoupled') w.forEach((x, i) => (w[i] = x * (1 - lr * rule.weightDecay)));
    const mean = g.reduce((sum, x) => sum + x * x, 0) / g.length;
    g.forEach((x, i) => {
      switch (rule.type) {
        case 'sgd':
          m[i] = rule.momentum * m[i]! + x;
          w[i]! -= lr * m[i]!;
          break;
        case 'adagrad':
        case 'rowwise-adagrad':
          h[i]! += rule.type === 'adagrad' ? x * x : mean;
          w[i]! -= (lr * x) / (Math.sqrt(h[i]!) + rule.epsilon);
          break;
        case 'adam':
        case 'rowwise-adam': {
          m[i] = rule.beta1 * m[i]! + (1 - rule.beta1) * x;
          h[i] = rule.beta2 * h[i]! + (1 - rule.beta2) * (rule.type === 'adam' ? x * x : mean);
          const corrected = m[i]! / (1 - rule.beta1 ** t);
          w[i]! -= (lr * corrected) / (Math.sqrt(h[i]! / (1 - rule.beta2 ** t)) + rule.epsilon);
        }
      }
    });
  }
}
