/** What a job's schema and its runs know of an objective: one such for each `objective.type`. */
import { z } from 'zod';
import type { Objective, ObjectiveContext } from '../../objective.ts';

export { name } from '../fields.ts';

/** Overrides of the optimiser for an objective's parameters. */
export const rates = {
  learningRate: z.number().min(0).optional().describe("Of the objective's parameters. Default: the optimiser's."),
  weightDecay: z.number().min(0).optional().describe("Of the objective's parameters. Default: the optimiser's."),
};

/** Widths of layers with ReLU. */
export const hidden = z.array(z.int().min(1)).default([]);

export type LabelType = 'class' | 'classes' | 'number';

/** A name that the objective's fields have, and where: `['inputs', 1]`. */
export interface NamedField {
  readonly path: readonly (string | number)[];
  readonly name: string;
}

/** Of a field with one feature or several. */
export function inputFields(field: string, names: string | readonly string[]): NamedField[] {
  if (typeof names === 'string') return [{ path: [field], name: names }];
  return names.map((name, i) => ({ path: [field, i], name }));
}

export interface LabelField extends NamedField {
  /** What it may be; where the job does not say, it is the first. */
  readonly types: readonly LabelType[];
  /** Default: those of the training data. */
  readonly classes?: readonly string[] | undefined;
}

/** What an objective reads of the examples. */
export interface ReadFields {
  /** Null where nobody knows before it is made. */
  readonly features: readonly NamedField[] | null;
  readonly labels: readonly LabelField[];
  readonly numbers: readonly NamedField[] | null;
}

/** What an objective of a job is made with. */
export interface JobContext extends Pick<ObjectiveContext, 'featureDims' | 'numberDims' | 'classes'> {
  /** `train.seed`. */
  readonly seed: number;
  /** What paths are relative to. */
  readonly folder: string;
}

/** @typeParam T the objective as the schema has it */
export interface ObjectiveKind<T> {
  readonly schema: z.ZodType<T>;
  reads(objective: T): ReadFields;
  create(objective: T, context: JobContext): Objective | Promise<Objective>;
  /** The objective with what `move` makes of each of its paths, where it has any. */
  movePaths?(objective: T, move: (path: string) => string): T;
  /** What a resumed run must find as it was, beside the job. @throws NOT_FOUND */
  identity?(objective: T, folder: string): Promise<Readonly<Record<string, string>>>;
}

/** A kind as it is written; the schema stays what it is, for the union of all. */
export function objectiveKind<S extends z.ZodObject>(
  schema: S,
  kind: Omit<ObjectiveKind<z.output<S>>, 'schema'>,
): ObjectiveKind<z.output<S>> & { readonly schema: S } {
  return { schema, ...kind } as ObjectiveKind<z.output<S>> & { readonly schema: S };
}

/** What a job says to an objective, without what only the job needs. */
export function optionsOf<T extends object, K extends keyof T & string>(
  objective: T,
  ...jobs: readonly K[]
): Omit<T, K> {
  const entries = Object.entries(objective).filter(([name]) => !(jobs as readonly string[]).includes(name));
  return Object.fromEntries(entries) as Omit<T, K>;
}
