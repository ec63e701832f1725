/** F1: the harmonic mean of precision and recall, from counts per class. */
import type { SumMetric } from './metric.ts';
import type { Outputs } from './outputs.ts';

/** Per class: right predictions, all predictions, all occurrences. */
function counts(name: string, value: (sums: Float64Array) => number): SumMetric {
  return {
    kind: 'sums',
    name,
    better: 'higher',
    applies: ({ classes, labelSets }) => classes !== undefined || labelSets !== undefined,
    size: ({ classes, labelSets }) => 3 * (classes ? classes.count : labelSets!.logits.cols),
    add: (sums, outputs, i, weight) =>
      outputs.classes ? addClass(sums, outputs, i, weight) : addSet(sums, outputs, i, weight),
    value,
  };
}

function addClass(sums: Float64Array, { classes }: Outputs, i: number, weight: number): void {
  const predicted = classes!.predicted[i]!;
  const label = classes!.labels[i]!;
  if (predicted === label) sums[3 * label]! += weight;
  sums[3 * predicted + 1]! += weight;
  sums[3 * label + 2]! += weight;
}

function addSet(sums: Float64Array, { labelSets }: Outputs, i: number, weight: number): void {
  const { logits, labels } = labelSets!;
  const first = i * logits.cols;
  for (let c = 0; c < logits.cols; c++) if (logits.data[first + c]! > 0) sums[3 * c + 1]! += weight;
  for (let at = labels.offsets[i]!; at < labels.offsets[i + 1]!; at++) {
    const label = labels.values[at]!;
    sums[3 * label + 2]! += weight;
    if (logits.data[first + label]! > 0) sums[3 * label]! += weight;
  }
}

/** 0 where a class is neither predicted nor there, as scikit-learn has it. */
const f1Of = (right: number, predicted: number, there: number): number =>
  predicted + there === 0 ? 0 : (2 * right) / (predicted + there);

/** Over all classes' counts together; of single classes it is the accuracy. */
export const f1Micro = counts('f1-micro', (sums) => {
  const total = [0, 0, 0];
  sums.forEach((value, i) => (total[i % 3]! += value));
  return f1Of(total[0]!, total[1]!, total[2]!);
});

/** The mean of the classes' own, over those that are predicted or there. */
export const f1Macro = counts('f1-macro', (sums) => {
  let [total, classes] = [0, 0];
  for (let c = 0; c < sums.length; c += 3) {
    if (sums[c + 1]! + sums[c + 2]! === 0) continue;
    total += f1Of(sums[c]!, sums[c + 1]!, sums[c + 2]!);
    classes++;
  }
  return total / classes;
});
