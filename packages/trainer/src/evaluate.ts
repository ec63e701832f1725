/** Metrics over one pass of a loader: of all examples, and of slices of them. */
import { FinetableError } from '@finetable/core';
import type { Batch, Loader } from '@finetable/data';
import { orAbort } from './abort.ts';
import { Ahead } from './ahead.ts';
import { addSums, metricNames, metricOf, sliceName } from './metrics/index.ts';
import { Accumulator, type Metric } from './metrics/metric.ts';
import type { Outputs } from './metrics/outputs.ts';
import { PairSearch } from './metrics/pairs.ts';
import type { Model } from './model.ts';
import type { MetricSums } from './objective.ts';

/** What is evaluated. */
export interface EvaluateOptions {
  /** Beside those that the objective has of itself: `f1-macro`, `auc`, `ndcg@10`, … */
  readonly metrics?: readonly string[] | undefined;
  /** Labels of the loader: every metric, and the loss, of the examples of each class of theirs too, as `accuracy/language=en`. */
  readonly sliceBy?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** As in `FitOptions`. */
  readonly prefetch?: boolean | undefined;
}

/** @throws INVALID_ARGUMENT for a metric that there is not, or that the objective gives nothing for; NON_FINITE; INTERRUPTED */
export async function evaluate(
  model: Model,
  loader: Loader,
  { metrics = [], sliceBy = [], signal, prefetch = true }: EvaluateOptions,
): Promise<Readonly<Record<string, number>>> {
  const table = new MetricTable(findMetrics(metrics), sliceBy, loader.classes);
  let sums: MetricSums = {};
  let examples = 0;
  const search = new PairSearch();
  const batches = new Ahead(model, loader.batches(0), prefetch);
  try {
    for (;;) {
      const next = await orAbort(batches.next(), signal);
      await new Promise(setImmediate);
      if (next === 'aborted' || signal?.aborted)
        throw new FinetableError('INTERRUPTED', 'interrupted while evaluating');
      if (next === null) break;
      const { batch, pooled } = next;
      const evaluated = await model.evaluate(batch, pooled);
      sums = addSums(sums, evaluated.sums);
      examples += batch.size;
      if (table.empty) continue;
      const outputs = await model.retrieve(evaluated.outputs, table.mostFound);
      const later = table.mostFound > 0 && outputs?.pairs;
      if (later) search.add(outputs, later, batch.labels);
      table.add(outputs, batch.labels, later ? 'examples' : 'all');
    }
    for await (const { outputs, labels } of search.found(model.kernels, table.mostFound))
      table.add(outputs, labels, 'retrieval');
  } finally {
    await batches.close();
  }
  return { ...table.values(), ...model.objective.metrics(sums, examples) };
}

/** @throws INVALID_ARGUMENT naming one that there is not */
export function findMetrics(names: readonly string[]): Metric[] {
  return names.map((name) => {
    const metric = metricOf(name);
    if (metric) return metric;
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `metrics: there is no ${JSON.stringify(name)}; allowed: ${metricNames.join(', ')}`,
      { metric: name },
    );
  });
}

/** Accumulators of metrics, of all examples and of slices. */
class MetricTable {
  /** The k of the metrics at k; 0 without one. */
  readonly mostFound: number;
  readonly #metrics: readonly Metric[];
  readonly #sliceBy: readonly string[];
  readonly #classes: Readonly<Record<string, readonly string[]>>;
  readonly #accumulators = new Map<string, Accumulator>();

  /** @throws INVALID_ARGUMENT for a label that the loader has not */
  constructor(
    metrics: readonly Metric[],
    sliceBy: readonly string[],
    classes: Readonly<Record<string, readonly string[]>>,
  ) {
    this.#metrics = metrics;
    this.#sliceBy = sliceBy;
    this.#classes = classes;
    this.mostFound = Math.max(0, ...metrics.map(({ name }) => Number(name.split('@')[1] ?? 0)));
    for (const label of sliceBy) {
      if (label in classes) continue;
      const known = Object.keys(classes).map((name) => `"${name}"`);
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `sliceBy: the loader has no label "${label}"; it has ${known.join(', ') || 'none'}`,
      );
    }
  }

  get empty(): boolean {
    return this.#metrics.length === 0 && this.#sliceBy.length === 0;
  }

  /** @param which metrics: those at k, those of examples by themselves, or all */
  add(outputs: Outputs | undefined, labels: Batch['labels'], which: 'all' | 'examples' | 'retrieval'): void {
    if (!outputs) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        'metrics and sliceBy: this objective tells means over batches alone, and nothing of single examples',
      );
    }
    const atK = ({ name }: Metric): boolean => name.includes('@');
    const metrics = which === 'all' ? this.#metrics : this.#metrics.filter((m) => atK(m) === (which === 'retrieval'));
    for (const metric of metrics) {
      if (!metric.applies(outputs)) {
        throw new FinetableError('INVALID_ARGUMENT', `metrics: the objective gives nothing to make ${metric.name} of`, {
          metric: metric.name,
        });
      }
      this.#accumulator(metric.name, metric).add(outputs);
    }
    for (const label of this.#sliceBy) {
      const indices = labels[label]!;
      for (const [index, chosen] of groups(indices)) {
        const value = this.#classes[label]![index]!;
        for (const metric of which === 'retrieval' ? metrics : [metricOf('loss')!, ...metrics])
          this.#accumulator(sliceName(metric.name, label, value), metric).add(outputs, Int32Array.from(chosen));
      }
    }
  }

  values(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#accumulators].map(([name, accumulator]) => [name, accumulator.value]));
  }

  #accumulator(name: string, metric: Metric): Accumulator {
    const found = this.#accumulators.get(name) ?? new Accumulator(metric);
    this.#accumulators.set(name, found);
    return found;
  }
}

function groups(indices: Int32Array): Map<number, number[]> {
  const out = new Map<number, number[]>();
  indices.forEach((index, i) => {
    const group = out.get(index);
    if (group) group.push(i);
    else out.set(index, [i]);
  });
  return out;
}
