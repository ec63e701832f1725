/** `finetable convert`: checks that the combination makes sense, converts, tells what was written. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { FinetableError, formatBytes } from '@finetable/core';
import { writeJson } from '../failure.ts';
import { formatNumber } from '../format.ts';
import type { Io } from '../io.ts';
import type { ConvertOptions } from '../program.ts';
import { convertAdapter } from './adapter.ts';
import { convertKeras, isKerasFile } from './keras.ts';
import { convertTable } from './table.ts';
import type { RoundingError } from './row-encoder.ts';
import { isTableFile } from './table-source.ts';
import { convertWords } from './words.ts';

type Target = NonNullable<ConvertOptions['to']>;

/** What was written. */
export interface Written {
  readonly path: string;
  /** Such as `F16 [400000, 300]`. */
  readonly what: string;
  /** Of a table that was rounded. */
  readonly error?: RoundingError;
}

/** A conversion of a table, its options checked. */
export interface TableConversion {
  readonly input: string;
  readonly output: string;
  readonly to: 'safetensors' | 'npy';
  readonly options: ConvertOptions;
  readonly signal: AbortSignal;
}

const targets = {
  adapter: ['sparse', 'peft'],
  table: ['safetensors', 'npy'],
  model: ['safetensors', 'npy', 'sparse', 'peft'],
} as const;

/** `model`: of Keras, with tables and adapters in it. */
type Input = keyof typeof targets;

export async function convertCommand(input: string, output: string, options: ConvertOptions, io: Io): Promise<void> {
  const written = await convert(input, output, options, io.signal);
  const sized = await Promise.all(written.map(async (file) => ({ ...file, sizeBytes: await sizeOf(file.path) })));
  if (options.json) writeJson(io, { written: sized });
  else
    for (const { path, what, sizeBytes, error } of sized) {
      io.stdout.write(`${path}: ${what}${sizeBytes === null ? '' : `, ${formatBytes(sizeBytes)}`}\n`);
      if (error) io.stdout.write(describeError(error));
    }
}

function describeError({ maxAbsolute, rms, meanCosine }: RoundingError): string {
  // Cosines differ from 1 in their last places only, which are the ones to be seen.
  const cosine = meanCosine === null ? 'none' : meanCosine.toFixed(8);
  return `  rounding error: at most ${formatNumber(maxAbsolute)}, RMS ${formatNumber(rms)}, mean cosine of rows ${cosine}\n`;
}

/** @throws INVALID_ARGUMENT for combinations that mean nothing; EXISTS without `overwrite`; what reading and writing throw */
export async function convert(
  input: string,
  output: string,
  options: ConvertOptions,
  signal: AbortSignal,
): Promise<Written[]> {
  const inputIs: Input = (await kindOf(input)) === 'folder' ? 'adapter' : isKerasFile(input) ? 'model' : 'table';
  if (resolve(input) === resolve(output)) throw refuse(`${output} is the input itself; name another output`);
  const to = chooseTarget(inputIs, output, options);
  checkOptions(input, inputIs, to, options);
  if (options.overwrite !== true && (await kindOf(output, true)) !== null) throw exists(output);
  if (to === 'sparse' || to === 'peft') return convertAdapter(input, output, to, options);
  const convertIt = inputIs === 'model' ? convertKeras : isTableFile(input) ? convertTable : convertWords;
  return convertIt({ input, output, to, options, signal });
}

/** For outputs that are there and were not to be replaced. */
export function exists(path: string): FinetableError {
  return new FinetableError('EXISTS', `${path} is there already; choose another name, or replace it with --overwrite`, {
    file: path,
  });
}

function chooseTarget(inputIs: Input, output: string, { to }: ConvertOptions): Target {
  const allowed: readonly Target[] = targets[inputIs];
  const chosen = to ?? /\.(safetensors|npy)$/.exec(output)?.[1];
  if (chosen !== undefined && (allowed as readonly string[]).includes(chosen)) return chosen as Target;
  const what = { adapter: 'an adapter', table: 'a table', model: 'a Keras model' }[inputIs];
  if (chosen === undefined)
    throw refuse(
      `${output}: its ending does not tell the format; allowed for ${what}: --to ${allowed.join(' or --to ')}`,
    );
  throw refuse(`${what} cannot become ${chosen}; allowed: ${allowed.join(', ')}`);
}

function checkOptions(
  input: string,
  inputIs: Input,
  to: Target,
  { dtype, group, tensor, base, duplicates }: ConvertOptions,
): void {
  const toAdapter = to === 'sparse' || to === 'peft';
  if (toAdapter && dtype !== undefined) throw refuse('--dtype goes with tables; adapters are always f32');
  if (group !== undefined && dtype !== 'int4') throw refuse('--group goes with --dtype int4');
  if (to === 'npy' && dtype !== undefined && dtype !== 'f32' && dtype !== 'f16')
    throw refuse(`.npy has no place for ${dtype}; write .safetensors`);
  if (inputIs === 'adapter' && tensor !== undefined)
    throw refuse('--tensor goes with tables; an adapter folder is converted whole');
  if (to === 'npy' && inputIs === 'table' && tensor !== undefined && !/\.(safetensors|index\.json)$/.test(input))
    throw refuse('--tensor goes with safetensors; a .npy file holds one array without a name');
  if (duplicates !== undefined && (inputIs !== 'table' || isTableFile(input)))
    throw refuse('--duplicates goes with word vectors');
  if (!toAdapter && base !== undefined) throw refuse('--base goes with adapters; a table has no base');
}

function refuse(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `convert: ${message}`);
}

async function kindOf(path: string): Promise<'file' | 'folder'>;
async function kindOf(path: string, optional: true): Promise<'file' | 'folder' | null>;
async function kindOf(path: string, optional = false): Promise<'file' | 'folder' | null> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch (error) {
    if (optional) return null;
    throw new FinetableError('NOT_FOUND', `${path}: no such file or folder`, { file: path }, { cause: error });
  }
}

/** Of a file; null for a folder. */
async function sizeOf(path: string): Promise<number | null> {
  const found = await stat(path);
  return found.isFile() ? found.size : null;
}
