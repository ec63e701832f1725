/** Names of types that tfjs has but does not export. */
import type { layers } from '@tensorflow/tfjs';

type StockOptions = Parameters<typeof layers.embedding>[0];

export type InitializerIdentifier = NonNullable<StockOptions['embeddingsInitializer']>;
export type RegularizerIdentifier = NonNullable<StockOptions['embeddingsRegularizer']>;
export type ConstraintIdentifier = NonNullable<StockOptions['embeddingsConstraint']>;
export type Initializer = Extract<InitializerIdentifier, { apply: unknown }>;
export type Regularizer = Extract<RegularizerIdentifier, { apply: unknown }>;
export type Constraint = Extract<ConstraintIdentifier, { apply: unknown }>;
