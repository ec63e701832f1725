/** One optimiser step: the gradients of its batches, one or several, added up, clipped, and applied. */
import { planPlaces } from '@finetable/core';
import type { Batch } from '@finetable/data';
import { gradientArrays, GradientSum, type AdapterGradients, type PlanRows } from '@finetable/lora';
import { addSums } from './metrics/index.ts';
import type { Model, Trained } from './model.ts';
import type { MetricSums } from './objective.ts';
import type { ParameterGroup } from './parameters.ts';

/** What an adapter is to be moved by. */
interface Mean {
  readonly plan: PlanRows;
  readonly gradients: AdapterGradients;
}

export class Update {
  readonly #model: Model;
  readonly #group: ParameterGroup;
  /** Of adapters and of dense parameters, where there are several batches. */
  readonly #sums: ReadonlyMap<string, GradientSum> | null;
  readonly #dense: readonly Float32Array[];
  #single: ReadonlyMap<string, Mean> = new Map();
  batches = 0;
  examples = 0;
  /** Ids that were looked up. */
  tokens = 0;
  sums: MetricSums = {};
  /** In training and in waiting for these batches. */
  seconds = 0;
  waitSeconds = 0;

  /** @param several whether there may be more than one batch */
  constructor(model: Model, group: ParameterGroup, several: boolean) {
    this.#model = model;
    this.#group = group;
    this.#sums = several
      ? new Map([...model.adapters].map(([name, adapter]) => [name, new GradientSum(adapter)]))
      : null;
    this.#dense = several ? group.parameters.map(({ gradient }) => new Float32Array(gradient.length)) : [];
  }

  /** Adds what the model made of a batch, before it is given another. */
  add(batch: Batch, { sums, gradients }: Trained): void {
    this.batches++;
    this.examples += batch.size;
    for (const plan of Object.values(batch.plans)) this.tokens += planPlaces(plan);
    this.sums = addSums(this.sums, sums);
    if (!this.#sums) {
      this.#single = new Map([...gradients].map(([name, own]) => [name, { plan: batch.plans[name]!, gradients: own }]));
      return;
    }
    for (const [name, own] of gradients) this.#sums.get(name)!.add(batch.plans[name]!, own, batch.size);
    this.#group.parameters.forEach(({ gradient }, p) => {
      const sum = this.#dense[p]!;
      for (let i = 0; i < sum.length; i++) sum[i]! += batch.size * gradient[i]!;
    });
  }

  /** Moves adapters and parameters by the gradients of the mean over all examples. @param clipNorm the most that their norm may be */
  apply(clipNorm: number | undefined): void {
    const { kernels, adapters } = this.#model;
    const means = this.#sums ? new Map([...this.#sums].map(([name, sum]) => [name, sum.mean()])) : this.#single;
    this.#dense.forEach((sum, p) => {
      const { gradient } = this.#group.parameters[p]!;
      gradient.set(sum);
      kernels.scaleInPlace(gradient, 1 / this.examples);
    });
    if (clipNorm !== undefined) this.#clip(means, clipNorm);
    for (const [name, { plan, gradients }] of means) adapters.get(name)!.update(plan, gradients);
    this.#group.update(kernels);
  }

  /** Scales all gradients so that together they are at most `most` long (Pascanu, Mikolov and Bengio 2013). */
  #clip(means: ReadonlyMap<string, Mean>, most: number): void {
    const { kernels } = this.#model;
    const arrays = [
      ...[...means.values()].flatMap(({ gradients }) => gradientArrays(gradients)),
      ...this.#group.parameters.map(({ gradient }) => gradient),
    ];
    const norm = Math.sqrt(arrays.reduce((sum, array) => sum + kernels.sumSquares(array), 0));
    if (norm > most) for (const array of arrays) kernels.scaleInPlace(array, most / norm);
  }
}
