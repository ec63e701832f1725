/** An objective that a module of the user's makes. A module is a program: it runs with all that this process may do. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FinetableError, isFinetableError } from '@finetable/core';
import { sha256File } from '@finetable/formats';
import { z } from 'zod';
import type { Objective } from '../../objective.ts';
import { objectiveKind } from './kind.ts';

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

/** Of both types a module makes the objective; they say what with. */
const moduleKind = <T extends 'custom' | 'tfjs'>(type: T) =>
  objectiveKind(
    z
      .strictObject({
        type: z.literal(type),
        module: z.string().min(1).describe('A program, which is run: its default export makes the objective.'),
        labels: z.array(z.string()).default([]).describe('Columns with labels.'),
        classes: z
          .record(z.string(), z.array(z.string()).min(2))
          .default({})
          .describe('Of labels; default: the distinct values of the training data.'),
        options: z.record(z.string(), z.unknown()).default({}).describe('Given to the module.'),
      })
      .superRefine(({ labels, classes }, context) => {
        for (const label of Object.keys(classes)) {
          if (labels.includes(label)) continue;
          const message = `no label "${label}"; there are ${labels.map((other) => `"${other}"`).join(', ') || 'none'}`;
          context.addIssue({ code: 'custom', path: ['classes', label], message });
        }
      }),
    {
      reads: ({ labels, classes }) => ({
        features: null,
        labels: labels.map((label, i) => ({
          path: ['labels', i],
          name: label,
          types: ['class', 'classes', 'number'],
          classes: classes[label],
        })),
        numbers: null,
      }),
      create: ({ module, options }, { featureDims, classes, seed, folder }) =>
        fromModule(modulePath(module, folder), { options, featureDims, classes, seed }),
      movePaths: (objective, move) => ({ ...objective, module: move(objective.module) }),
      identity: async ({ module }, folder) => ({
        'objective.module of SHA-256': await sha256File(modulePath(module, folder)),
      }),
    },
  );

/** `custom()`, or an objective from the ground up. */
export const customKind = moduleKind('custom');
/** `tfjsObjective()` or `tfjsModel()` of @finetable/tfjs. */
export const tfjsKind = moduleKind('tfjs');

function modulePath(module: string, folder: string): string {
  const path = resolve(folder, module);
  if (existsSync(path)) return path;
  throw new FinetableError('NOT_FOUND', `objective.module: ${path} does not exist`, {
    path: 'objective.module',
    file: path,
  });
}

/** @throws NOT_FOUND where the module is missing; INVALID_JOB where it does not load, makes no objective or throws */
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
    'export default ({ options, featureDims, classes, seed }) => custom({ … }), or tfjsObjective({ … }) or tfjsModel(…) of @finetable/tfjs';
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
