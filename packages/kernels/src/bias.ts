/**
 * Adam's bias corrections (Kingma and Ba 2015), worked out in f64 and rounded once to f32, where both implementations read
 * them. They depend on the step alone, so replaying steps in one call or in several meets the same numbers.
 */
import { FinetableError } from '@finetable/core';

/** For step t at index 2t: 1 / (1 - beta1^t), and at 2t + 1: 1 / sqrt(1 - beta2^t). Index 0 is not used. */
export type BiasCorrections = Float32Array;

// 128 MiB of corrections; reached only by betas so close to 1 that they have not settled after 16 million steps.
const longest = 2 ** 24;
const tables = new Map<string, { values: BiasCorrections; steps: number; settled: boolean }>();

/** The two corrections of `step` alone. */
export function biasCorrection(beta1: number, beta2: number, step: number): readonly [number, number] {
  return [Math.fround(1 / (1 - beta1 ** step)), Math.fround(1 / Math.sqrt(1 - beta2 ** step))];
}

/**
 * Corrections of steps 1 to `step`, or fewer: from the last one on, every later step's are 1. Kept between calls.
 * @throws UNSUPPORTED where the betas need more than 2^24 steps to settle
 */
export function biasCorrections(
  beta1: number,
  beta2: number,
  step: number,
): { values: BiasCorrections; steps: number } {
  const key = `${beta1} ${beta2}`;
  let table = tables.get(key);
  if (!table) {
    table = { values: new Float32Array(2048), steps: 0, settled: false };
    tables.set(key, table);
  }
  while (table.steps < step && !table.settled) {
    const t = table.steps + 1;
    if (t >= longest) {
      throw new FinetableError(
        'UNSUPPORTED',
        `replay to step ${step} with beta1 ${beta1}, beta2 ${beta2}: at most ${longest} steps`,
      );
    }
    if (2 * t + 1 >= table.values.length) {
      const longer = new Float32Array(table.values.length * 2);
      longer.set(table.values);
      table.values = longer;
    }
    const [first, root] = biasCorrection(beta1, beta2, t);
    table.values[2 * t] = first;
    table.values[2 * t + 1] = root;
    table.steps = t;
    table.settled = first === 1 && root === 1;
  }
  return table;
}
