/** `finetable merge` and `finetable unmerge`: whole tables from a base and an adapter, and the base again. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FinetableError, formatBytes, isFinetableError } from '@finetable/core';
import { checkOutput } from '@finetable/formats';
import { loadAdapterOf, mergeAdapter, unmergeTable, type MergedTable, type RewriteOptions } from '@finetable/lora';
import { openTable, type ShardedTable } from '@finetable/placement';
import { exists } from '../convert/command.ts';
import { describeFormat } from '../convert/write-rows.ts';
import { writeJson } from '../failure.ts';
import { formatCount } from '../format.ts';
import type { Io } from '../io.ts';
import type { MergeOptions, UnmergeOptions } from '../program.ts';
import { rowProgress } from './progress.ts';

export async function mergeCommand(folder: string, options: MergeOptions, io: Io): Promise<void> {
  const { dtype, group, output, table: name } = options;
  if (options.inPlace === true) {
    throw refuse(
      'merge',
      '--in-place: the base is never written to: others share it, and unmerge and further adapters need it as it is; name a new file with --output',
    );
  }
  if (output === undefined) throw refuse('merge', '--output is missing; name the file to write');
  if (group !== undefined && dtype !== 'int4') throw refuse('merge', '--group goes with --dtype int4');
  await pass('merge', { ...options, output }, [options.base], io, async (table, shared) => {
    const groupDims = group === undefined ? undefined : group === 'row' ? table.dim : Number(group);
    const adapter = await loadAdapterOf(folder, table, name);
    try {
      await checkOutput(output, { inputs: await filesOf(folder), overwrite: options.overwrite });
      return await mergeAdapter(adapter, output, { ...shared, dtype, groupDims });
    } finally {
      adapter.close();
    }
  });
}

export async function unmergeCommand(merged: string, options: UnmergeOptions, io: Io): Promise<void> {
  await pass('unmerge', options, [options.base, merged], io, (table, shared) =>
    unmergeTable(merged, table, options.output, shared),
  );
}

/** Opens the base, has `write` write the output, and tells what was written. */
async function pass(
  command: 'merge' | 'unmerge',
  { base, output, tensor, overwrite, json }: UnmergeOptions,
  inputs: readonly string[],
  io: Io,
  write: (table: ShardedTable, options: RewriteOptions) => Promise<MergedTable>,
): Promise<void> {
  if (!output.endsWith('.safetensors'))
    throw refuse(command, `${output}: it writes .safetensors; convert makes other formats of that`);
  // Before anything is opened, which for a large adapter takes time.
  await checkOutput(output, { inputs, overwrite }).catch(withRemedy);
  const progress = rowProgress(io.stderr, command === 'merge' ? 'merging' : 'unmerging');
  try {
    const table = await openTable(base, { tensor });
    try {
      const shared = { overwrite, signal: io.signal, onProgress: progress.update };
      const written = await write(table, shared).catch(withRemedy);
      progress.close();
      await tell(command, written, json === true, io);
    } finally {
      table.close();
    }
  } finally {
    progress.close();
  }
}

async function tell(command: string, written: MergedTable, json: boolean, io: Io): Promise<void> {
  const { path, format, rows, tensor, changedRows } = written;
  const { size: sizeBytes } = await stat(path);
  const what = describeFormat(format, [rows, format.dim]);
  if (json) writeJson(io, { written: { path, what, tensor, rows, ...format, changedRows, sizeBytes } });
  else {
    const changed = command === 'merge' ? `, ${formatCount(changedRows)} rows changed` : '';
    io.stdout.write(`${path}: ${what}${changed}, ${formatBytes(sizeBytes)}\n`);
  }
}

/** Errors of the library, with the option that is the remedy. */
function withRemedy(error: unknown): never {
  if (!isFinetableError(error)) throw error;
  const { code, details } = error;
  if (code === 'EXISTS' && typeof details.file === 'string') throw exists(details.file);
  if (Array.isArray(details.tables))
    throw refuse(
      'merge',
      `${String(details.file)} adapts several tables; choose one with --table; allowed: ${details.tables.join(', ')}`,
    );
  throw error;
}

async function filesOf(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).map((name) => join(folder, name));
}

function refuse(command: string, message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `${command}: ${message}`);
}
