/** A job's objective: one of Finetable's, or one that a module of the user's makes. A module is a program: it runs with all that this process may do. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FinetableError, isFinetableError } from '@finetable/core';
import { sha256File } from '@finetable/formats';
import { classification } from '../classification.ts';
import type { Objective } from '../objective.ts';
import type { LoadedJob } from './read.ts';
import type { Job } from './schema.ts';

/** What the function that a module exports is called with. */
export interface ObjectiveModuleContext {
  /** `objective.options` of the job. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Dims of each feature's vectors. */
  readonly featureDims: Readonly<Record<string, number>>;
  /** Class names per label, in index order. */
  readonly classes: Readonly<Record<string, readonly string[]>>;
  /** `train.seed` of the job. */
  readonly seed: number;
}

/** The default export of a module: an objective, or a function that makes one for each training and evaluation. */
export type ObjectiveModule = Objective | ((context: ObjectiveModuleContext) => Objective | Promise<Objective>);

/** The columns that hold labels, with their classes where the job says them. */
export function labelsOf({ objective }: Job): Readonly<Record<string, readonly string[] | undefined>> {
  switch (objective.type) {
    case 'classification':
      return { [objective.label]: objective.classes };
    case 'tfjs':
      return Object.fromEntries(objective.labels.map((label) => [label, objective.classes[label]]));
  }
}

/** What a resumed run must find as it was, beside the job. @throws NOT_FOUND */
export async function identityOf({ job: { objective }, folder }: LoadedJob): Promise<Readonly<Record<string, string>>> {
  if (objective.type !== 'tfjs') return {};
  return { 'objective.module of SHA-256': await sha256File(modulePath(objective.module, folder)) };
}

/** @throws NOT_FOUND where the module is missing; INVALID_JOB where it does not load, makes no objective or throws */
export async function createObjective(
  { job, folder }: LoadedJob,
  context: Pick<ObjectiveModuleContext, 'featureDims' | 'classes'>,
): Promise<Objective> {
  const { objective, train } = job;
  switch (objective.type) {
    case 'classification': {
      const { input, label, normalize, learningRate, weightDecay } = objective;
      return classification({ input, label, normalize, learningRate, weightDecay });
    }
    case 'tfjs':
      return fromModule(modulePath(objective.module, folder), {
        ...context,
        options: objective.options,
        seed: train.seed,
      });
  }
}

function modulePath(module: string, folder: string): string {
  const path = resolve(folder, module);
  if (existsSync(path)) return path;
  throw new FinetableError('NOT_FOUND', `objective.module: ${path} does not exist`, {
    path: 'objective.module',
    file: path,
  });
}

async function fromModule(path: string, context: ObjectiveModuleContext): Promise<Objective> {
  const failed = (what: string, cause?: unknown): FinetableError =>
    new FinetableError(
      isFinetableError(cause) ? cause.code : 'INVALID_JOB',
      `objective.module: ${path} ${what}`,
      { path: 'objective.module', file: path },
      { cause },
    );
  let exported: unknown;
  try {
    exported = ((await import(pathToFileURL(path).href)) as { default?: unknown }).default;
  } catch (error) {
    throw failed(`does not load: ${messageOf(error)}`, error);
  }
  let made = exported;
  if (typeof exported === 'function') {
    try {
      made = await (exported as (context: ObjectiveModuleContext) => unknown)(context);
    } catch (error) {
      throw failed(`throws: ${messageOf(error)}`, error);
    }
  }
  if (isObjective(made)) return made;
  const what = exported === undefined ? 'has no default export' : `makes no objective but ${describe(made)}`;
  const allowed =
    'export default ({ options, featureDims, classes, seed }) => tfjsObjective({ … }), or tfjsModel(…), of @finetable/tfjs';
  throw failed(`${what}; allowed: ${allowed}`);
}

const methods = ['initialize', 'train', 'evaluate', 'metrics'] as const;

function isObjective(value: unknown): value is Objective {
  if (typeof value !== 'object' || value === null) return false;
  const { inputs, labels } = value as Partial<Objective>;
  return (
    Array.isArray(inputs) &&
    Array.isArray(labels) &&
    methods.every((name) => typeof (value as Partial<Objective>)[name] === 'function')
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const describe = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : typeof value;
