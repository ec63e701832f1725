/** How LoRA is to start, from what `enableLora` was given. */
import { tf } from '../load.ts';
import { checkAlpha, checkNames, checkRank, oneOf, refuse } from './check.ts';
import { resolveInitializer } from './identifiers.ts';
import { matrixTensor } from './matrix.ts';
import { loraOptionNames, type LoraOptions } from './options.ts';
import type { LoraStart } from './rows.ts';

/**
 * Tensors in it are new: the caller disposes.
 * @throws INVALID_ARGUMENT, NON_FINITE
 */
export function loraStart(
  where: string,
  [v, d]: readonly [number, number],
  rank: number,
  options: LoraOptions,
): LoraStart {
  checkNames(where, options, loraOptionNames);
  checkRank('rank', rank, v, d);
  checkAlpha(options.loraAlpha);
  const { aInitializer, bInitializer, weights, init } = options;
  oneOf('init', init ?? undefined, ['keras', 'sparse']);
  const alpha = options.loraAlpha ?? rank;
  const own = aInitializer ?? bInitializer;
  if (weights != null) {
    if (!Array.isArray(weights) || weights.length !== 2) refuse(`${where}: weights are [A, B]`);
    if (own ?? init) refuse(`${where}: weights exclude init and initializers`);
    return {
      rank,
      alpha,
      init: 'given',
      ...givenFactors(where, weights as LoraOptions['weights'] & object, [v, d], rank),
    };
  }
  if (init && own)
    refuse(`${where}: init excludes initializers; 'keras' is A he-uniform and B 0, 'sparse' A 0 and B normal`);
  if (init === 'sparse')
    return { rank, alpha, init, a: tf.initializers.zeros(), b: tf.initializers.randomNormal({ stddev: 1 }) };
  const a = resolveInitializer(aInitializer ?? 'heUniform');
  return { rank, alpha, init: own ? 'given' : 'keras', a, b: resolveInitializer(bInitializer ?? 'zeros') };
}

function givenFactors(
  where: string,
  weights: NonNullable<LoraOptions['weights']>,
  [v, d]: readonly [number, number],
  rank: number,
): Pick<LoraStart, 'a' | 'b'> {
  const a = matrixTensor(`${where}: A`, weights[0], [v, rank]);
  try {
    return { a, b: matrixTensor(`${where}: B`, weights[1], [rank, d]) };
  } catch (error) {
    a.dispose();
    throw error;
  }
}
