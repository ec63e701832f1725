/**
 * Sampled negatives: for each example a number of ids that are not its own. What an example gets depends on the seed, the epoch and its
 * number in the source alone, so it is the same for any number of workers, any order and any batch size.
 */
import { FinetableError, RandomStream, type Jagged } from '@finetable/core';
import { aliasTable, drawAlias, type AliasTable } from './alias.ts';
import { invalidData } from './errors.ts';
import { compileFeature, type FeatureExtractor } from './feature/feature.ts';
import { placeOf, type RecordPlaces } from './source/source.ts';
import type { DataSpec, FrequencyDistribution, NegativesSpec } from './spec.ts';

/** Random numbers of one negative: two for each try, the last two for the exact draw after them. */
const slotNumbers = 128;
const tries = slotNumbers / 2 - 1;
export const mostNegatives = 2 ** 14;

export function excludedColumns(
  { features }: Pick<DataSpec, 'features'>,
  { of, exclude }: NegativesSpec,
): readonly string[] {
  return exclude ?? [features[of]!.column];
}

/** Reads the ids of a column that are no negatives, as the feature does. */
export function excludedExtractor(
  { features, tables }: Pick<DataSpec, 'features' | 'tables'>,
  { of }: NegativesSpec,
  column: string,
): FeatureExtractor {
  const feature = features[of]!;
  const unweighted = { ...feature, column, last: undefined, weights: undefined, weighting: undefined };
  return compileFeature(unweighted, tables[feature.table]!.rows, of);
}

const defaultExponent = 0.75;

function weightOf(distribution: NegativesSpec['distribution'], row: number): number {
  if (typeof distribution !== 'object') return 1;
  const { counts, exponent = defaultExponent } = distribution;
  const count = (counts as Float64Array)[row]!;
  return count > 0 ? count ** exponent : 0;
}

/** @param distribution whose counts are there @throws INVALID_DATA where all are 0 */
export function aliasesOf(name: string, distribution: FrequencyDistribution): AliasTable {
  const { length } = distribution.counts as Float64Array;
  const weights = Float64Array.from({ length }, (_, row) => weightOf(distribution, row));
  if (weights.some((weight) => weight > 0)) return aliasTable(weights);
  throw new FinetableError('INVALID_DATA', `negatives.${name}: every count is 0, so that there is nothing to draw`);
}

export class NegativeSampler {
  readonly #name: string;
  readonly #spec: NegativesSpec;
  readonly #rows: number;
  readonly #aliases: AliasTable | null;
  readonly #seed: number;
  readonly #columns: readonly string[];

  /** @param aliases of its distribution; null where it is uniform, or nothing is drawn */
  constructor(name: string, data: Omit<DataSpec, 'source'>, aliases: AliasTable | null, seed: number) {
    const spec = data.negatives![name]!;
    const feature = data.features[spec.of]!;
    this.#name = name;
    this.#spec = spec;
    this.#rows = data.tables[feature.table]!.rows;
    this.#aliases = aliases;
    this.#seed = seed;
    this.#columns = excludedColumns(data, spec);
  }

  /**
   * `[size * count]`: those of example i from `i * count` on, drawn with replacement.
   * @param numbers of the examples in the source
   * @param columns the ids of each example that are not drawn, by column
   * @throws INVALID_DATA where all that could be drawn is excluded
   */
  draw(epoch: number, numbers: Uint32Array, columns: readonly Jagged[], places: RecordPlaces): Int32Array {
    const { count } = this.#spec;
    const random = new RandomStream(this.#seed, `negatives/${this.#name}/${epoch}`);
    const out = new Int32Array(numbers.length * count);
    const excluded = new Set<number>();
    for (let i = 0; i < numbers.length; i++) {
      excluded.clear();
      for (const { values, offsets } of columns)
        for (let place = offsets[i]!; place < offsets[i + 1]!; place++) excluded.add(values[place]!);
      const first = numbers[i]! * mostNegatives * slotNumbers;
      for (let k = 0; k < count; k++) {
        const id = this.#one(random, first + k * slotNumbers, excluded);
        if (id < 0) {
          const message = `negatives ${JSON.stringify(this.#name)}: all ${this.#rows} rows that could be drawn are excluded`;
          throw invalidData(placeOf(places, i, this.#columns[0]!), message);
        }
        out[i * count + k] = id;
      }
    }
    return out;
  }

  /** -1 where there is none. */
  #one(random: RandomStream, first: number, excluded: ReadonlySet<number>): number {
    for (let t = 0; t < tries; t++) {
      const place = random.below(first + 2 * t, this.#rows);
      const id = this.#aliases ? drawAlias(this.#aliases, place, random.uint32(first + 2 * t + 1)) : place;
      if (!excluded.has(id)) return id;
    }
    return this.#exact(random.uint32(first + 2 * tries), excluded);
  }

  /** By a pass over all rows: where nearly all that could be drawn is excluded. */
  #exact(bits: number, excluded: ReadonlySet<number>): number {
    const weight = (row: number): number => (excluded.has(row) ? 0 : weightOf(this.#spec.distribution, row));
    let total = 0;
    for (let row = 0; row < this.#rows; row++) total += weight(row);
    let left = ((bits + 0.5) / 2 ** 32) * total;
    let last = -1;
    for (let row = 0; row < this.#rows && left >= 0; row++) {
      if (weight(row) === 0) continue;
      last = row;
      left -= weight(row);
    }
    return last;
  }
}
