/** Optimisers as people configure them, turned into the kernels' update rules. */
import { checkOptionNames, FinetableError, type OptionNames } from '@finetable/core';
import type { UpdateRule } from '@finetable/kernels';
import { scheduleFactor, type Schedule } from './schedule.ts';

/** What every optimiser has. */
export interface Common {
  /** Step size; a number > 0. With a schedule the rate at step t is this times the schedule's factor of t. */
  readonly learningRate: number;
  /** Default: constant. */
  readonly schedule?: Schedule | undefined;
  /**
   * What happens to touched rows in steps whose batch does not hold them. `exact` (default): what the dense optimiser does
   * (momentum and decay go on), replayed when the row is next read. `lazy`: nothing; a row meets momentum and decay only in the
   * steps of its own batches. In both Adam's bias corrections follow the step of the training, which all rows share: in lazy
   * mode a row that is first touched late gets the smaller first step of a moment that has not filled up yet, as in PyTorch's
   * SparseAdam. The modes are the same for sgd and the Adagrads without momentum and weight decay.
   */
  readonly mode?: 'exact' | 'lazy' | undefined;
  /** Default 0. `l2` adds wd w to the gradient, `decoupled` shrinks w by lr wd beside the step. */
  readonly weightDecay?: number | undefined;
  /**
   * How the state of rows (not of B or an objective's parameters) is kept, default f32. bf16 and f16 take half the memory;
   * steps are in f32 and rounded at random. bf16 has the range of f32. f16 has more precision but holds no square below 6e-8,
   * so with Adam and Adagrad it suits gradients of 1e-3 and more.
   */
  readonly stateDtype?: StateDtype | undefined;
}

/** How the optimiser state of rows is stored; 16 bits are rounded at random. */
export type StateDtype = 'f32' | 'bf16' | 'f16';
const stateDtypes: readonly StateDtype[] = ['f32', 'bf16', 'f16'];

/** Where weight decay goes: into the gradient (`l2`), or beside it (`decoupled`). */
export interface ChosenDecay {
  /** Default `l2`. */
  readonly decay?: 'l2' | 'decoupled' | undefined;
}

/** What Adam's forms have beside the common options. */
export interface AdamNumbers {
  readonly beta1?: number | undefined;
  readonly beta2?: number | undefined;
  readonly epsilon?: number | undefined;
}

/** An optimiser as plain values, as jobs and checkpoints hold it. Made by {@link adamw} and the like. */
export type OptimizerSpec =
  | (Common & ChosenDecay & { readonly type: 'sgd'; readonly momentum?: number | undefined })
  | (Common & ChosenDecay & { readonly type: 'adagrad' | 'rowwise-adagrad'; readonly epsilon?: number | undefined })
  | (Common & AdamNumbers & { readonly type: 'adam' | 'adamw' | 'rowwise-adam' });

/** All optimisers by the names that jobs have for them. */
export const optimizerTypes: readonly OptimizerSpec['type'][] = [
  'sgd',
  'adagrad',
  'rowwise-adagrad',
  'adam',
  'adamw',
  'rowwise-adam',
];

/** Options of `sgd`. */
export type SgdOptions = Common & ChosenDecay & { readonly momentum?: number | undefined };
/** Options of `adagrad` and `rowwiseAdagrad`. */
export type AdagradOptions = Common & ChosenDecay & { readonly epsilon?: number | undefined };
/** Options of `adam`, `adamw` and `rowwiseAdam`. */
export type AdamOptions = Common & AdamNumbers;

const common: OptionNames<Common & { type: unknown }> = {
  type: true,
  learningRate: true,
  schedule: true,
  mode: true,
  weightDecay: true,
  stateDtype: true,
};
const sgdNames: OptionNames<SgdOptions> = { ...common, decay: true, momentum: true };
const adagradNames: OptionNames<AdagradOptions> = { ...common, decay: true, epsilon: true };
const adamNames: OptionNames<AdamOptions> = { ...common, beta1: true, beta2: true, epsilon: true };
const namesOf: Readonly<Record<OptimizerSpec['type'], Readonly<Record<string, true>>>> = {
  sgd: sgdNames,
  adagrad: adagradNames,
  'rowwise-adagrad': adagradNames,
  adam: adamNames,
  adamw: adamNames,
  'rowwise-adam': adamNames,
};

/** Gradient descent as PyTorch's: momentum 0, weightDecay 0. */
export const sgd = (options: SgdOptions): OptimizerSpec => ({ type: 'sgd', ...options });
/** Adagrad (Duchi, Hazan and Singer 2011); epsilon 1e-10, outside the root. */
export const adagrad = (options: AdagradOptions): OptimizerSpec => ({ type: 'adagrad', ...options });
/** Adagrad with one accumulator a row, the mean of its squared gradients: 4 bytes of state a row (FBGEMM). */
export const rowwiseAdagrad = (options: AdagradOptions): OptimizerSpec => ({ type: 'rowwise-adagrad', ...options });
/** Adam (Kingma and Ba 2015); beta1 0.9, beta2 0.999, epsilon 1e-8, L2 weightDecay 0. */
export const adam = (options: AdamOptions): OptimizerSpec => ({ type: 'adam', ...options });
/** AdamW (Loshchilov and Hutter 2019): Adam with decoupled weightDecay, default 0. */
export const adamw = (options: AdamOptions): OptimizerSpec => ({ type: 'adamw', ...options });
/** Adam with one second moment a row, from the mean of its squared gradients (FBGEMM's partial row-wise Adam); decoupled decay. */
export const rowwiseAdam = (options: AdamOptions): OptimizerSpec => ({ type: 'rowwise-adam', ...options });

/** Settings of one group of parameters that differ from the optimiser's. */
export interface OptimizerOverrides {
  /** 0 leaves the group as it is. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

/** The kernels' rule with every default filled in. @throws INVALID_ARGUMENT naming the option */
export function ruleOf(spec: OptimizerSpec, overrides: OptimizerOverrides = {}): UpdateRule {
  if (typeof (spec as unknown) !== 'object' || (spec as OptimizerSpec | null) === null)
    checkOptionNames('optimizer', spec, common);
  oneOf('type', spec.type, optimizerTypes);
  checkOptionNames(`optimizer of type ${JSON.stringify(spec.type)}`, spec, namesOf[spec.type]);
  oneOf('mode', spec.mode ?? 'exact', ['exact', 'lazy']);
  oneOf('stateDtype', spec.stateDtype ?? 'f32', stateDtypes);
  positive('learningRate', spec.learningRate);
  if (spec.schedule) scheduleFactor(spec.schedule);
  const learningRate = nonNegative('learningRate', overrides.learningRate ?? spec.learningRate);
  const weightDecay = nonNegative('weightDecay', overrides.weightDecay ?? spec.weightDecay ?? 0);
  switch (spec.type) {
    case 'sgd': {
      const momentum = below1('momentum', spec.momentum ?? 0);
      return { type: 'sgd', learningRate, momentum, weightDecay, decay: decayOf(spec) };
    }
    case 'adagrad':
    case 'rowwise-adagrad': {
      const epsilon = positive('epsilon', spec.epsilon ?? 1e-10);
      return { type: spec.type, learningRate, epsilon, weightDecay, decay: decayOf(spec) };
    }
    case 'adam':
    case 'adamw':
    case 'rowwise-adam':
      return {
        type: spec.type === 'rowwise-adam' ? 'rowwise-adam' : 'adam',
        learningRate,
        beta1: below1('beta1', spec.beta1 ?? 0.9),
        beta2: below1('beta2', spec.beta2 ?? 0.999),
        epsilon: positive('epsilon', spec.epsilon ?? 1e-8),
        weightDecay,
        decay: spec.type === 'adam' ? 'l2' : 'decoupled',
      };
  }
}

/** The learning rate of a step, 1 for the first. @param learningRate of the group; default: the optimiser's */
export function rateOf(
  { schedule, learningRate }: OptimizerSpec,
  ofGroup: number = learningRate,
): (step: number) => number {
  if (!schedule) return () => ofGroup;
  const factor = scheduleFactor(schedule);
  return (step) => ofGroup * factor(step);
}

function decayOf({ decay = 'l2' }: ChosenDecay): 'l2' | 'decoupled' {
  oneOf('decay', decay, ['l2', 'decoupled']);
  return decay;
}

function check(name: string, value: number, good: boolean, allowed: string): number {
  if (!Number.isFinite(value) || !good) {
    throw new FinetableError('INVALID_ARGUMENT', `optimizer.${name}: found ${value}; allowed: ${allowed}`, {
      path: `optimizer.${name}`,
    });
  }
  return value;
}
function oneOf(name: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `optimizer.${name}: found ${JSON.stringify(value)}; allowed: ${allowed.join(', ')}`,
      { path: `optimizer.${name}` },
    );
  }
}
const nonNegative = (name: string, value: number): number => check(name, value, value >= 0, '0 or more');
const positive = (name: string, value: number): number => check(name, value, value > 0, 'more than 0');
const below1 = (name: string, value: number): number =>
  check(name, value, value >= 0 && value < 1, '0 or more and below 1');
