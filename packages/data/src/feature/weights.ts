/** Weights of ids: of a column, by frequency, by position. */
import { invalidData, isBadValue, show } from '../errors.ts';
import { readNumbers, refuseNumber } from '../source/numbers.ts';
import { placeOf, type Records } from '../source/source.ts';
import type { FeatureSpec, FrequencyWeighting, PositionWeighting } from '../spec.ts';

/** `[values.length] f32`, new. */
export type Weigh = (records: Records, values: Int32Array, offsets: Int32Array) => Float32Array;

/** Null where every weight is 1, as it is before counts are known. */
export function compileWeights(spec: FeatureSpec): Weigh | null {
  const { weights, weighting } = spec;
  if (weights !== undefined) return columnWeights(spec, weights);
  if (!weighting) return null;
  return weighting.type === 'sif' ? frequencyWeights(weighting) : positionWeights(weighting);
}

/** Where the feature has a default, ids whose weights are missing or wrong weigh 1. */
function columnWeights(spec: FeatureSpec, column: string): Weigh {
  const { pooling = 'mean' } = spec;
  const numbers: number[] = [];

  const read = (records: Records, i: number, out: Float32Array): void => {
    readNumbers(records, i, column, numbers, 'numbers');
    const count = out.length;
    if (numbers.length !== count) {
      throw invalidData(
        placeOf(records, i, column),
        `found ${numbers.length} weights; allowed: ${count}, one per id in ${show(spec.column)}`,
      );
    }
    let total = 0;
    for (let j = 0; j < count; j++) {
      out[j] = numbers[j]!;
      const weight = out[j]!;
      if (!Number.isFinite(weight)) {
        throw refuseNumber(placeOf(records, i, column), numbers[j], 'numbers within the range of f32');
      }
      total += pooling === 'mean' ? weight : weight * weight;
    }
    if (pooling !== 'sum' && count > 0 && total === 0) {
      throw invalidData(
        placeOf(records, i, column),
        `the weights add up to 0, and ${pooling} pooling divides by their sum`,
      );
    }
  };

  return (records, values, offsets) => {
    const out = new Float32Array(values.length);
    for (let i = 0; i + 1 < offsets.length; i++) {
      const bag = out.subarray(offsets[i], offsets[i + 1]);
      try {
        read(records, i, bag);
      } catch (error) {
        if (spec.default === undefined || !isBadValue(error)) throw error;
        bag.fill(1);
      }
    }
    return out;
  };
}

/** a / (a + count / total). An id without a count weighs 1. */
function frequencyWeights({ a = 1e-3, counts }: FrequencyWeighting): Weigh | null {
  if (!(counts instanceof Float64Array)) return null;
  const scale = a * counts.reduce((sum, count) => sum + count, 0);
  return (_, values) => {
    const out = new Float32Array(values.length);
    for (let j = 0; j < values.length; j++) {
      const count = counts[values[j]!]!;
      out[j] = count === 0 ? 1 : scale / (scale + count);
    }
    return out;
  };
}

function positionWeights({ decay, from = 'start' }: PositionWeighting): Weigh {
  // As f32, so that what is small does not fall to 0: a bag needs a weight.
  const powers: number[] = [1];
  const power = (k: number): number => {
    while (powers.length <= k) powers.push(powers.at(-1)! * decay);
    return powers[k]!;
  };
  return (_, values, offsets) => {
    const out = new Float32Array(values.length);
    for (let i = 0; i + 1 < offsets.length; i++) {
      const [begin, end] = [offsets[i]!, offsets[i + 1]!];
      for (let j = begin; j < end; j++) out[j] = power(from === 'start' ? j - begin : end - 1 - j);
    }
    return out;
  };
}
