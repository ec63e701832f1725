/** Known answers: the examples of scikit-learn's and SciPy's documentation of these functions, and definitions by hand. */
import { jagged, matrix } from '@finetable/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isBetter, metricNames, metricOf } from './index.ts';
import { Accumulator } from './metric.ts';
import type { Outputs } from './outputs.ts';

const losses = (n: number): Pick<Outputs, 'losses' | 'weights'> => ({ losses: new Float32Array(n), weights: null });

function valueOf(name: string, ...batches: readonly Outputs[]): number {
  const accumulator = new Accumulator(metricOf(name)!);
  for (const outputs of batches) accumulator.add(outputs);
  return accumulator.value;
}

const classes = (labels: number[], predicted: number[], count: number): Outputs => ({
  ...losses(labels.length),
  classes: { count, labels: Int32Array.from(labels), predicted: Int32Array.from(predicted) },
});
const scores = (
  targets: number[],
  predicted: number[],
  kind: 'probability' | 'value' = 'probability',
  weights: number[] | null = null,
): Outputs => ({
  losses: new Float32Array(targets.length),
  weights: weights && Float32Array.from(weights),
  scores: { targets: Float32Array.from(targets), predicted: Float32Array.from(predicted), kind },
});

test('classes: accuracy_score and f1_score', () => {
  const outputs = classes([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], 3);
  expect(valueOf('f1-macro', outputs)).toBeCloseTo(0.26666, 4);
  expect(valueOf('f1-micro', outputs)).toBeCloseTo(1 / 3, 12);
  expect(valueOf('accuracy', classes([0, 1, 2, 3], [0, 2, 1, 3], 4))).toBe(0.5);
  // Classes that are neither predicted nor there do not count.
  expect(valueOf('f1-macro', classes([0, 1], [0, 1], 9))).toBe(1);
});

test('sets of classes: accuracy is of whole sets, F1 of single decisions', () => {
  const logits = matrix(3, 3, Float32Array.of(1, -1, -1, 1, 1, -1, -1, -1, -1));
  const outputs: Outputs = { ...losses(3), labelSets: { logits, labels: jagged([[0], [0, 2], []]) } };
  expect(valueOf('accuracy', outputs)).toBeCloseTo(2 / 3, 12);
  expect(valueOf('f1-micro', outputs)).toBeCloseTo((2 * 2) / (3 + 3), 12);
  expect(valueOf('f1-macro', outputs)).toBeCloseTo((1 + 0 + 0) / 3, 12);
});

describe('scores', () => {
  test('roc_auc_score', () => {
    expect(valueOf('auc', scores([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))).toBe(0.75);
    expect(valueOf('auc', scores([0, 1], [0.5, 0.5]))).toBe(0.5);
    expect(valueOf('auc', scores([1, 1], [0.2, 0.5]))).toBeNaN();
  });

  test('the area is the share of pairs in the right order, weights counting', () => {
    const example = fc.record({ target: fc.nat(1), score: fc.nat(5), weight: fc.integer({ min: 1, max: 3 }) });
    fc.assert(
      fc.property(fc.array(example, { minLength: 2, maxLength: 30 }), (examples) => {
        let [right, pairs] = [0, 0];
        for (const one of examples.filter(({ target }) => target === 1)) {
          for (const other of examples.filter(({ target }) => target === 0)) {
            const weight = one.weight * other.weight;
            pairs += weight;
            right += weight * (one.score > other.score ? 1 : one.score === other.score ? 0.5 : 0);
          }
        }
        const outputs = scores(
          examples.map(({ target }) => target),
          examples.map(({ score }) => score / 8),
          'probability',
          examples.map(({ weight }) => weight),
        );
        if (pairs === 0) expect(valueOf('auc', outputs)).toBeNaN();
        else expect(valueOf('auc', outputs)).toBeCloseTo(right / pairs, 12);
      }),
    );
  });

  test('log_loss, normalised entropy and calibration', () => {
    const outputs = scores([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.65]);
    expect(valueOf('log-loss', outputs)).toBeCloseTo(0.21616, 5);
    expect(valueOf('normalized-entropy', outputs)).toBeCloseTo(0.21616 / Math.log(2), 5);
    expect(valueOf('calibration', outputs)).toBeCloseTo(1.85 / 2, 6);
    expect(valueOf('normalized-entropy', scores([0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]))).toBeCloseTo(1, 6);
    expect(valueOf('log-loss', scores([1], [0]))).toBeCloseTo(15 * Math.log(10), 6);
  });

  test('root_mean_squared_error, pearsonr, spearmanr', () => {
    expect(valueOf('rmse', scores([3, -0.5, 2, 7], [2.5, 0, 2, 8], 'value'))).toBeCloseTo(Math.sqrt(0.375), 12);
    expect(valueOf('pearson', scores([10, 9, 2.5, 6, 4], [1, 2, 3, 4, 5], 'value'))).toBeCloseTo(
      -0.7426106572325057,
      12,
    );
    expect(valueOf('spearman', scores([5, 6, 7, 8, 7], [1, 2, 3, 4, 5], 'value'))).toBeCloseTo(0.8207826816681233, 12);
  });
});

test('retrieval: places of what is relevant among the first k', () => {
  const outputs: Outputs = {
    ...losses(3),
    retrieval: {
      rows: 10,
      k: 4,
      found: Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4),
      relevant: jagged([[2], [8, 5, 9], []]),
    },
  };
  expect(valueOf('recall@1', outputs)).toBeCloseTo((0 + 1 / 3) / 2, 12);
  expect(valueOf('recall@4', outputs)).toBeCloseTo((1 + 2 / 3) / 2, 12);
  expect(valueOf('hit-rate@1', outputs)).toBe(0.5);
  expect(valueOf('mrr@4', outputs)).toBeCloseTo((1 / 2 + 1) / 2, 12);
  const best = 1 + 1 / Math.log2(3) + 1 / 2;
  expect(valueOf('ndcg@4', outputs)).toBeCloseTo((1 / Math.log2(3) + (1 + 1 / Math.log2(5)) / best) / 2, 12);
  expect(valueOf('coverage@2', outputs)).toBeCloseTo(4 / 10, 12);
  // More was asked for than was looked at.
  expect(metricOf('recall@5')!.applies(outputs)).toBe(false);
});

test('any batches, any slices: as all at once; weights count', () => {
  const all = scores([0, 1, 1, 0, 1], [0.2, 0.9, 0.3, 0.6, 0.7], 'probability', [1, 2, 0.5, 1, 3]);
  for (const name of ['log-loss', 'auc', 'rmse', 'spearman', 'normalized-entropy']) {
    const accumulator = new Accumulator(metricOf(name)!);
    accumulator.add(all, Int32Array.of(3, 0));
    const goneOn = accumulator.sums ? new Accumulator(metricOf(name)!, accumulator.sums) : accumulator;
    goneOn.add(all, Int32Array.of(4, 1, 2));
    expect(goneOn.value).toBeCloseTo(valueOf(name, all), 12);
  }
  const weighted: Outputs = { losses: Float32Array.of(1, 4), weights: Float32Array.of(3, 1) };
  expect(valueOf('loss', weighted)).toBe(7 / 4);
});

test('names, and which way is better', () => {
  expect(metricNames).toContain('ndcg@k');
  expect(metricOf('ndcg@10')!.name).toBe('ndcg@10');
  for (const name of ['ndcg', 'ndcg@0', 'loss@3', 'toString', 'constructor@3']) expect(metricOf(name)).toBeNull();
  expect(isBetter('loss', 1, 2)).toBe(true);
  expect(isBetter('auc', 0.8, 0.7)).toBe(true);
  expect(isBetter('auc', NaN, 0.7)).toBe(false);
  expect(isBetter('auc', 0.1, NaN)).toBe(true);
  expect(isBetter('calibration', 1.1, 0.8)).toBe(true);
  expect(isBetter('calibration', 0.7, 1.2)).toBe(false);
});
