/** Initializers, regularizers and constraints by name, as an object, or as a config, read by tfjs itself. */
import { tf } from '../load.ts';
import { FinetableError } from '@finetable/core';
import { closest } from 'fastest-levenshtein';
import type { EmbeddingOptions } from './options.ts';
import type { Constraint, Initializer, InitializerIdentifier, Regularizer } from './tfjs-types.ts';

export interface Resolved {
  readonly embeddingsInitializer: Initializer;
  readonly embeddingsRegularizer: Regularizer | null;
  readonly activityRegularizer: Regularizer | null;
  readonly embeddingsConstraint: Constraint | null;
}

type Identifiers = Pick<EmbeddingOptions, keyof Resolved>;

const initializerNames = [
  'zeros', 'ones', 'constant', 'randomUniform', 'randomNormal', 'truncatedNormal', 'identity', 'varianceScaling',
  'glorotUniform', 'glorotNormal', 'heUniform', 'heNormal', 'leCunUniform', 'leCunNormal', 'orthogonal',
]; // prettier-ignore

/** Names of Keras that tfjs spells otherwise. */
const kerasNames: Readonly<Record<string, string>> = {
  uniform: 'randomUniform',
  normal: 'randomNormal',
  lecunUniform: 'leCunUniform',
  lecunNormal: 'leCunNormal',
};

/** @throws INVALID_ARGUMENT for a name that tfjs does not know */
export function resolveIdentifiers(given: Identifiers): Resolved {
  return stockLayer(given);
}

export const resolveInitializer = (identifier: InitializerIdentifier): Initializer =>
  stockLayer({ embeddingsInitializer: identifier }).embeddingsInitializer;

/** As `{className, config}`, the form that tfjs reads back. */
export function serializeIdentifiers(given: Resolved): Readonly<Record<keyof Resolved, unknown>> {
  const { embeddingsInitializer, embeddingsRegularizer, activityRegularizer, embeddingsConstraint } = tf.layers
    .embedding({ ...sizes, ...(given as object) })
    .getConfig() as Record<keyof Resolved, unknown>;
  return { embeddingsInitializer, embeddingsRegularizer, activityRegularizer, embeddingsConstraint };
}

const sizes = { inputDim: 1, outputDim: 1, name: 'identifiers' };

/** tfjs keeps its readers of identifiers to itself, but its own layer shows what it read. */
function stockLayer(given: Identifiers): Resolved {
  const { embeddingsInitializer: name } = given;
  const initializer = typeof name === 'string' ? (kerasNames[name] ?? name) : name;
  try {
    return tf.layers.embedding({
      ...sizes,
      ...(given as object),
      embeddingsInitializer: initializer as never,
    }) as unknown as Resolved;
  } catch (cause) {
    const hint =
      typeof initializer === 'string' && !initializerNames.includes(initializer)
        ? `; did you mean the initializer "${closest(initializer, initializerNames)}"?`
        : '';
    const [reason] = (cause as Error).message.split(/[.:]?\n|\. This may/);
    throw new FinetableError('INVALID_ARGUMENT', `embedding: ${reason}${hint}`, {}, { cause });
  }
}
