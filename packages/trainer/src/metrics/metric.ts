/**
 * Metrics: each adds up batch by batch, over all examples or some of them. What is a ratio of sums keeps only those, so that it can
 * be had of any stretch of a training, and a training that goes on from a checkpoint goes on with them; what depends on the order of
 * all examples keeps a number or two of each, and is had of evaluations alone.
 */
import type { Outputs } from './outputs.ts';

/** Sums of a metric, by name. JSON. */
export type Sums = Readonly<Record<string, number>>;

interface MetricBase {
  readonly name: string;
  /** Which way is better. */
  readonly better: 'lower' | 'higher';
  /** Whether an objective gives what it is made of. */
  readonly applies: (outputs: Outputs) => boolean;
}

/** A metric that is a function of sums over examples. */
export interface SumMetric extends MetricBase {
  readonly kind: 'sums';
  /** Adds example `i` to `sums`. */
  readonly add: (sums: Float64Array, outputs: Outputs, i: number, weight: number) => void;
  /** How many sums there are; of classes it depends on their count. */
  readonly size: (outputs: Outputs) => number;
  readonly value: (sums: Float64Array) => number;
}

/** A metric of all examples together. */
export interface ListMetric extends MetricBase {
  readonly kind: 'list';
  readonly value: (examples: ScoredExamples) => number;
}

export type Metric = SumMetric | ListMetric;

/** What list metrics are made of. */
export interface ScoredExamples {
  /** `[n]` each. */
  readonly predicted: Float64Array;
  readonly targets: Float64Array;
  readonly weights: Float64Array;
}

/** One metric over some examples. */
export class Accumulator {
  readonly metric: Metric;
  #sums: Float64Array | null = null;
  readonly #lists: { predicted: number[]; targets: number[]; weights: number[] } = {
    predicted: [],
    targets: [],
    weights: [],
  };

  constructor(metric: Metric, sums: readonly number[] | null = null) {
    this.metric = metric;
    if (sums) this.#sums = Float64Array.from(sums);
  }

  /** @param chosen examples of the batch; all by default */
  add(outputs: Outputs, chosen: Int32Array | null = null): void {
    const { metric } = this;
    const count = chosen ? chosen.length : outputs.losses.length;
    if (metric.kind === 'sums') this.#sums ??= new Float64Array(metric.size(outputs));
    for (let j = 0; j < count; j++) {
      const i = chosen ? chosen[j]! : j;
      const weight = outputs.weights ? outputs.weights[i]! : 1;
      if (metric.kind === 'sums') metric.add(this.#sums!, outputs, i, weight);
      else {
        const { predicted, targets } = outputs.scores!;
        this.#lists.predicted.push(predicted[i]!);
        this.#lists.targets.push(targets[i]!);
        this.#lists.weights.push(weight);
      }
    }
  }

  /** NaN of no examples. */
  get value(): number {
    const { metric } = this;
    if (metric.kind === 'sums') return this.#sums ? metric.value(this.#sums) : NaN;
    const { predicted, targets, weights } = this.#lists;
    if (predicted.length === 0) return NaN;
    return metric.value({
      predicted: Float64Array.from(predicted),
      targets: Float64Array.from(targets),
      weights: Float64Array.from(weights),
    });
  }

  /** What it goes on from; null of a list metric. */
  get sums(): readonly number[] | null {
    return this.metric.kind === 'sums' ? [...(this.#sums ?? [])] : null;
  }
}
