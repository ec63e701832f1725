/** Options of the layer: what is asked for is honoured or refused, also by programs that no compiler has checked. */
import { FinetableError, parseBytes, type ErrorCode } from '@finetable/core';
import { ruleOf } from '@finetable/lora';
import { closest } from 'fastest-levenshtein';
import { resolveTable } from '../rows/tables.ts';
import type { EmbeddingOptions } from './options.ts';
import { embeddingOptionNames } from './options.ts';

/** From here on a dense gradient costs more than a row store's step. */
const defaultThreshold = 64 * 2 ** 20;

/** tfjs ignores an argument that it does not know; Keras raises an error. @throws INVALID_ARGUMENT with the nearest known name */
export function checkNames(where: string, given: unknown, known: Readonly<Record<string, true>>): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    refuse(`${where} takes an object of arguments; found ${show(given)}`);
  const names = Object.keys(known);
  for (const [name, value] of Object.entries(given as object)) {
    if (value === undefined || names.includes(name)) continue;
    refuse(`${where}: there is no argument ${JSON.stringify(name)}; did you mean "${closest(camel(name), names)}"?`, {
      argument: name,
    });
  }
}

export interface CheckedOptions extends EmbeddingOptions {
  readonly inputDim: number;
  readonly outputDim: number;
  readonly thresholdBytes: number;
}

/** @throws INVALID_ARGUMENT, naming the argument, what was found and what is allowed */
export function checkOptions(given: EmbeddingOptions): CheckedOptions {
  checkNames('embedding', given, embeddingOptionNames);
  // Null is Python's None, what configs have for what was not given.
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value != null)) as EmbeddingOptions;
  const table = options.table && resolveTable(options.table);
  const inputDim = sizeOf('inputDim', options.inputDim, table?.rows);
  const outputDim = sizeOf('outputDim', options.outputDim, table?.dim);
  oneOf('dtype', options.dtype, ['float32']);
  oneOf('inputDType', options.inputDType, ['int32', 'float32']);
  oneOf('outOfRange', options.outOfRange, ['error', 'zero', 'clip']);
  oneOf('loraInit', options.loraInit, ['keras', 'sparse']);
  oneOf('device', options.device, ['auto', 'gpu', 'cpu']);
  oneOf('quantization', options.quantization, ['int8', 'int4']);
  for (const name of ['maskZero', 'sparse', 'trainable'] as const)
    if (options[name] !== undefined && typeof options[name] !== 'boolean')
      refuse(`embedding: ${name} is ${show(options[name])}; allowed: true or false`, { argument: name });
  if (options.name !== undefined && (typeof options.name !== 'string' || options.name === ''))
    refuse(`embedding: name is ${show(options.name)}; allowed: text`, { argument: 'name' });
  if (options.sparse && options.maskZero)
    refuse('embedding: maskZero and sparse exclude each other: a sparse result has no mask', { argument: 'sparse' });
  checkShapes(options);
  if (options.loraRank !== undefined) {
    checkRank('loraRank', options.loraRank, inputDim, outputDim);
    if (options.embeddingsConstraint) refuseConstraint();
  }
  checkAlpha(options.loraAlpha);
  if (options.loraRank === undefined)
    for (const name of ['loraAlpha', 'loraInit'] as const)
      if (options[name] !== undefined)
        refuse(`embedding: ${name} is given without loraRank, which turns LoRA on`, { argument: name });
  if (table && options.weights) refuse('embedding: weights are given beside a table, which has rows of its own');
  if (options.optimizer) ruleOf(options.optimizer);
  const thresholdBytes = parseBytes(options.threshold ?? defaultThreshold, 'embedding: threshold');
  return { ...options, ...(table && { table }), inputDim, outputDim, thresholdBytes };
}

export function checkRank(name: string, rank: unknown, v: number, d: number): asserts rank is number {
  const most = Math.min(v, d);
  if (!Number.isSafeInteger(rank) || (rank as number) < 1 || (rank as number) > most)
    refuse(`embedding: ${name} is ${show(rank)}; allowed: a whole number from 1 to ${most}, the smaller of V and D`, {
      argument: name,
    });
}

export function checkAlpha(alpha: unknown): void {
  if (alpha == null) return;
  if (typeof alpha !== 'number' || !Number.isFinite(alpha) || alpha <= 0)
    refuse(`embedding: loraAlpha is ${show(alpha)}; allowed: a finite number greater than 0`, {
      argument: 'loraAlpha',
    });
}

export function refuseConstraint(): never {
  refuse(
    'embedding: LoRA and embeddingsConstraint exclude each other, for a constraint would need the merged table after every step; drop embeddingsConstraint, or loraRank',
    { argument: 'embeddingsConstraint' },
  );
}

export function oneOf(name: string, value: unknown, allowed: readonly string[]): void {
  if (value !== undefined && !allowed.includes(value as string))
    refuse(`embedding: ${name} is ${show(value)}; allowed: ${allowed.map((one) => `'${one}'`).join(', ')}`, {
      argument: name,
    });
}

/** A value in an error: what it is, and of what type where that is not plain. */
export function show(value: unknown): string {
  if (typeof value === 'string') return `${JSON.stringify(value)} (a string)`;
  if (typeof value === 'boolean') return `${value} (a boolean)`;
  if (value === undefined) return 'missing';
  if (typeof value !== 'object' || value === null) return String(value);
  return Array.isArray(value) ? `${JSON.stringify(value).slice(0, 60)} (a list)` : 'an object';
}

export function refuse(message: string, details = {}, code: ErrorCode = 'INVALID_ARGUMENT'): never {
  throw new FinetableError(code, message, details);
}

function sizeOf(name: 'inputDim' | 'outputDim', value: unknown, ofTable: number | undefined): number {
  if (ofTable !== undefined && (value === undefined || value === ofTable)) return ofTable;
  if (!Number.isSafeInteger(value) || (value as number) < 1)
    refuse(`embedding: ${name} is ${show(value)}; allowed: a whole number greater than 0`, { argument: name });
  if (ofTable !== undefined)
    refuse(`embedding: ${name} is ${show(value)}, but the table has ${ofTable}`, {}, 'MISMATCH');
  if ((value as number) >= 2 ** 31) refuse(`embedding: ${name} is ${show(value)}; ids are int32`, { argument: name });
  return value as number;
}

function checkShapes({ inputShape, batchInputShape, batchSize, inputLength }: EmbeddingOptions): void {
  const isSize = (size: unknown): boolean => size === null || (Number.isSafeInteger(size) && (size as number) >= 0);
  for (const [name, shape] of Object.entries({ inputShape, batchInputShape }))
    if (shape != null && !(Array.isArray(shape) && shape.every(isSize)))
      refuse(`embedding: ${name} is ${show(shape)}; allowed: a list of sizes, null for any`, { argument: name });
  if (batchSize != null && (batchSize === 0 || !isSize(batchSize)))
    refuse(`embedding: batchSize is ${show(batchSize)}; allowed: a whole number greater than 0`, {
      argument: 'batchSize',
    });
  if (inputLength == null) return;
  const lengths: readonly unknown[] = Array.isArray(inputLength) ? inputLength : [inputLength];
  if (lengths.length === 0 || !lengths.every((length) => isSize(length) && length !== 0))
    refuse(`embedding: inputLength is ${show(inputLength)}; allowed: a length, or a list of lengths, null for any`, {
      argument: 'inputLength',
    });
}

const camel = (name: string): string => name.replace(/_+(\w)/g, (_, letter: string) => letter.toUpperCase());
