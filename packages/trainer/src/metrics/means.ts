/** Metrics that are means over examples, weighted where examples are. */
import type { SumMetric } from './metric.ts';
import type { Outputs } from './outputs.ts';

/** Σ w x / Σ w. */
function mean(
  name: string,
  better: 'lower' | 'higher',
  applies: (outputs: Outputs) => boolean,
  of: (outputs: Outputs, i: number) => number,
  end: (mean: number) => number = (x) => x,
): SumMetric {
  return {
    kind: 'sums',
    name,
    better,
    applies,
    size: () => 2,
    add: (sums, outputs, i, weight) => {
      sums[0]! += weight * of(outputs, i);
      sums[1]! += weight;
    },
    value: (sums) => end(sums[0]! / sums[1]!),
  };
}

export const loss = mean(
  'loss',
  'lower',
  () => true,
  ({ losses }, i) => losses[i]!,
);

/** Examples whose class, or whose whole set of classes, is predicted. */
export const accuracy = mean(
  'accuracy',
  'higher',
  ({ classes, labelSets }) => classes !== undefined || labelSets !== undefined,
  (outputs, i) =>
    Number(outputs.classes ? outputs.classes.predicted[i] === outputs.classes.labels[i] : setIsRight(outputs, i)),
);

function setIsRight({ labelSets }: Outputs, i: number): boolean {
  const { logits, labels } = labelSets!;
  let predicted = 0;
  for (let c = 0; c < logits.cols; c++) if (logits.data[i * logits.cols + c]! > 0) predicted++;
  const [begin, end] = [labels.offsets[i]!, labels.offsets[i + 1]!];
  if (predicted !== end - begin) return false;
  for (let at = begin; at < end; at++) if (!(logits.data[i * logits.cols + labels.values[at]!]! > 0)) return false;
  return true;
}

const probabilities = ({ scores }: Outputs): boolean => scores?.kind === 'probability';

/** In nats; probabilities are kept 1e-15 away from 0 and 1, as scikit-learn's log_loss did, so that one wrong certainty is not infinite. */
function logLossOf(probability: number, target: number): number {
  const p = Math.min(Math.max(probability, 1e-15), 1 - 1e-15);
  return -(target * Math.log(p) + (1 - target) * Math.log1p(-p));
}

export const logLoss = mean('log-loss', 'lower', probabilities, ({ scores }, i) =>
  logLossOf(scores!.predicted[i]!, scores!.targets[i]!),
);

/** Mean predicted over mean observed: 1 is calibrated (He et al.: "Practical lessons from predicting clicks on ads", ADKDD 2014). */
export const calibration: SumMetric = {
  kind: 'sums',
  name: 'calibration',
  // Not one way or the other: nearer to 1. A lower one is reported as better only to have an answer.
  better: 'lower',
  applies: probabilities,
  size: () => 2,
  add: (sums, { scores }, i, weight) => {
    sums[0]! += weight * scores!.predicted[i]!;
    sums[1]! += weight * scores!.targets[i]!;
  },
  value: (sums) => sums[0]! / sums[1]!,
};

/** Normalised entropy: log loss over that of always predicting the mean (He et al., as above). Below 1 is better than knowing nothing. */
export const normalizedEntropy: SumMetric = {
  kind: 'sums',
  name: 'normalized-entropy',
  better: 'lower',
  applies: probabilities,
  size: () => 3,
  add: (sums, { scores }, i, weight) => {
    sums[0]! += weight * logLossOf(scores!.predicted[i]!, scores!.targets[i]!);
    sums[1]! += weight * scores!.targets[i]!;
    sums[2]! += weight;
  },
  value: (sums) => {
    const rate = sums[1]! / sums[2]!;
    return sums[0]! / sums[2]! / logLossOf(rate, rate);
  },
};

export const rmse = mean(
  'rmse',
  'lower',
  ({ scores }) => scores !== undefined,
  ({ scores }, i) => (scores!.predicted[i]! - scores!.targets[i]!) ** 2,
  Math.sqrt,
);
