/** Checks of what the caller passes, before anything is opened; and the defaults. */
import { FinetableError, poolings } from '@finetable/core';
import { show, showNames } from './errors.ts';
import { formatOf } from './source.ts';
import type { DataSpec, FeatureSpec, LabelSpec, LoaderOptions, TokenSpec } from './spec.ts';

function refuse(path: string, found: unknown, allowed: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `${path}: found ${show(found)}; allowed: ${allowed}`, {
    path,
    found: show(found),
  });
}

export function checkInteger(path: string, value: number, low: number, high: number): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  throw refuse(
    path,
    value,
    high === Number.MAX_SAFE_INTEGER ? `integers from ${low}` : `integers from ${low} to ${high}`,
  );
}

function checkOneOf(path: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) throw refuse(path, value, showNames(allowed));
}

/** @throws INVALID_ARGUMENT whose `details.path` names the field */
export function checkData(data: DataSpec): void {
  formatOf(data.source);
  for (const [name, { rows }] of Object.entries(data.tables)) checkInteger(`tables.${name}.rows`, rows, 1, 2 ** 31 - 1);
  for (const [name, spec] of Object.entries(data.features)) checkFeature(`features.${name}`, spec, data.tables);
  for (const [name, spec] of Object.entries(data.labels)) checkLabel(`labels.${name}`, spec);
}

function checkFeature(path: string, spec: FeatureSpec, tables: DataSpec['tables']): void {
  const { table, pooling = 'mean', tokens, ngrams, weights } = spec;
  if (!Object.hasOwn(tables, table)) throw refuse(`${path}.table`, table, showNames(Object.keys(tables)));
  checkOneOf(`${path}.pooling`, pooling, poolings);
  if (tokens && ngrams) throw refuse(path, 'tokens and ngrams', 'one of the two');
  if (weights !== undefined && (tokens ?? ngrams)) throw refuse(`${path}.weights`, weights, 'only for integer ids');
  if (tokens) checkTokens(`${path}.tokens`, tokens);
  if (ngrams) {
    const { min = 3, max = 5, seed = 0 } = ngrams;
    checkInteger(`${path}.ngrams.min`, min, 1, Number.MAX_SAFE_INTEGER);
    checkInteger(`${path}.ngrams.max`, max, min, Number.MAX_SAFE_INTEGER);
    checkInteger(`${path}.ngrams.seed`, seed, 0, 2 ** 32 - 1);
  }
}

function checkTokens(path: string, tokens: TokenSpec): void {
  const given = { pattern: undefined, lowercase: undefined, maxTokens: undefined, ...tokens };
  if ((tokens.vocabulary === undefined) === (tokens.tokenizer === undefined)) {
    throw refuse(path, tokens.vocabulary === undefined ? 'neither' : 'both', 'vocabulary or tokenizer');
  }
  if (tokens.tokenizer !== undefined) {
    for (const member of ['pattern', 'lowercase'] as const) {
      if (given[member] !== undefined) throw refuse(`${path}.${member}`, given[member], 'only with a vocabulary');
    }
    checkOneOf(`${path}.unknown`, tokens.unknown ?? 'drop', ['drop', 'keep', 'error']);
    checkInteger(`${path}.maxTokens`, tokens.maxTokens ?? 1, 1, Number.MAX_SAFE_INTEGER);
    return;
  }
  if (given.maxTokens !== undefined) throw refuse(`${path}.maxTokens`, given.maxTokens, 'only with a tokenizer');
  checkOneOf(`${path}.unknown`, tokens.unknown ?? 'drop', ['drop', 'error']);
  try {
    new RegExp(tokens.pattern ?? '', 'gu');
  } catch (error) {
    throw refuse(`${path}.pattern`, tokens.pattern, `a JavaScript regular expression (${(error as Error).message})`);
  }
}

function checkLabel(path: string, { classes }: LabelSpec): void {
  if (!classes) return;
  if (classes.length === 0) throw refuse(`${path}.classes`, classes, 'at least one class');
  const twice = classes.find((name, i) => classes.indexOf(name) < i);
  if (twice !== undefined) throw refuse(`${path}.classes`, twice, 'each class once');
}

/** Options with every default filled in. */
export interface LoaderPlan {
  readonly batchSize: number;
  readonly workers: number;
  readonly shuffle: boolean;
  readonly seed: number;
  /** Batches made or being made, and not consumed. */
  readonly prefetchBatches: number;
  /** Batches per task. */
  readonly taskBatches: number;
}

/** A task's round trip costs 0.1 ms, so a task should be some milliseconds of work: about this many examples. */
const taskExamples = 1024;

/** @throws INVALID_ARGUMENT whose `details.path` names the option */
export function planLoader(options: LoaderOptions): LoaderPlan {
  const { batchSize, workers = 1, shuffle = false, seed = 0 } = options;
  checkInteger('batchSize', batchSize, 1, 2 ** 31 - 1);
  checkInteger('workers', workers, 0, 1024);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  if (options.prefetchBatches !== undefined) checkInteger('prefetchBatches', options.prefetchBatches, 1, 2 ** 31 - 1);
  // On the caller's own thread nothing is made before it is asked for.
  if (workers === 0) return { batchSize, workers, shuffle, seed, prefetchBatches: 1, taskBatches: 1 };
  const chunk = Math.min(16, Math.ceil(taskExamples / batchSize));
  const prefetchBatches = options.prefetchBatches ?? Math.max(16, 2 * workers * chunk);
  const taskBatches = Math.max(1, Math.min(chunk, Math.floor(prefetchBatches / (2 * workers))));
  return { batchSize, workers, shuffle, seed, prefetchBatches, taskBatches };
}
