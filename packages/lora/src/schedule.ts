/**
 * Learning-rate schedules: what multiplies the learning rate of a step, as a function of the step's number alone, so that a
 * training that goes on from a file meets the same rates.
 */
import { checkOptionNames, FinetableError } from '@finetable/core';

/** What every schedule has. */
export interface Common {
  /** Steps over which the factor first rises from 1 / warmupSteps to 1. Default 0: none. */
  readonly warmupSteps?: number | undefined;
}

/** What multiplies the learning rate, by step. */
export type Schedule =
  | (Common & { readonly type: 'constant' })
  /** From 1 in the first step after the warm-up towards `finalFactor` (default 0), which the step after `totalSteps` would have. */
  | (Common & {
      readonly type: 'linear' | 'cosine';
      readonly totalSteps: number;
      readonly finalFactor?: number | undefined;
    })
  /** Times `factor` (default 0.1) every `everySteps` steps after the warm-up. */
  | (Common & { readonly type: 'step'; readonly everySteps: number; readonly factor?: number | undefined });

/** All schedules by the names that jobs have for them. */
export const scheduleTypes: readonly Schedule['type'][] = ['constant', 'linear', 'cosine', 'step'];

const common = { type: true, warmupSteps: true } as const;
const falling = { ...common, totalSteps: true, finalFactor: true } as const;
const namesOf: { readonly [T in Schedule['type']]: Readonly<Record<string, true>> } = {
  constant: common,
  linear: falling,
  cosine: falling,
  step: { ...common, everySteps: true, factor: true },
};

/**
 * The factor of each step, 1 for the first.
 * @throws INVALID_ARGUMENT naming the option
 */
export function scheduleFactor(schedule: Schedule): (step: number) => number {
  if (typeof (schedule as unknown) !== 'object') checkOptionNames('optimizer.schedule', schedule, common);
  if (!scheduleTypes.includes(schedule.type)) {
    refuse('type', JSON.stringify(schedule.type), scheduleTypes.join(', '));
  }
  checkOptionNames(`optimizer.schedule of type ${JSON.stringify(schedule.type)}`, schedule, namesOf[schedule.type]);
  const warmupSteps = integer('warmupSteps', schedule.warmupSteps ?? 0, 0);
  const after = factorAfter(schedule, warmupSteps);
  return (step) => (step <= warmupSteps ? step / warmupSteps : after(step - 1 - warmupSteps));
}

/** @returns the factor as a function of the steps made since the warm-up */
function factorAfter(schedule: Schedule, warmupSteps: number): (steps: number) => number {
  switch (schedule.type) {
    case 'constant':
      return () => 1;
    case 'linear':
    case 'cosine': {
      const total = integer('totalSteps', schedule.totalSteps, 1);
      if (total < warmupSteps) refuse('totalSteps', total, `warmupSteps (${warmupSteps}) or more`);
      const final = number('finalFactor', schedule.finalFactor ?? 0);
      const { type } = schedule;
      const left = (done: number): number => (type === 'linear' ? 1 - done : (1 + Math.cos(Math.PI * done)) / 2);
      const span = Math.max(1, total - warmupSteps);
      return (steps) => final + (1 - final) * left(Math.min(1, steps / span));
    }
    case 'step': {
      const every = integer('everySteps', schedule.everySteps, 1);
      const factor = number('factor', schedule.factor ?? 0.1);
      return (steps) => factor ** Math.floor(steps / every);
    }
  }
}

function integer(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least) refuse(name, value, `an integer of ${least} or more`);
  return value;
}

function number(name: string, value: number): number {
  if (!Number.isFinite(value) || value < 0) refuse(name, value, 'a number of 0 or more');
  return value;
}

function refuse(name: string, found: unknown, allowed: string): never {
  const path = `optimizer.schedule.${name}`;
  throw new FinetableError('INVALID_ARGUMENT', `${path}: found ${String(found)}; allowed: ${allowed}`, { path });
}
