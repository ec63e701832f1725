/** Plans made from a batch's plan: the same rows and places with other weights, and its unique rows one by one. */
import { planPlaces, RandomStream, type LookupPlan } from '@finetable/core';

/** The plan with every place's weight multiplied. @param factor of a place */
export function withWeights(plan: LookupPlan, factor: (place: number) => number): LookupPlan {
  const weights = new Float32Array(planPlaces(plan));
  for (let p = 0; p < weights.length; p++) weights[p] = (plan.weights ? plan.weights[p]! : 1) * factor(p);
  return { ...plan, weights };
}

/** Every place is left out with probability `rate`, the others grow so that the mean stays. @param stream of this step */
export function dropPlaces(plan: LookupPlan, rate: number, seed: number, stream: string): LookupPlan {
  const draws = new Float32Array(planPlaces(plan));
  new RandomStream(seed, stream).fillUniform(draws);
  return withWeights(plan, (place) => (draws[place]! < rate ? 0 : 1 / (1 - rate)));
}
