/** Whether a file may be written where somebody asks for it. */
import { stat } from 'node:fs/promises';
import { FinetableError } from '@finetable/core';
import { ioError } from './io.ts';

/**
 * Refuses an output that is one of the inputs, by whatever name or link, and one that is there already.
 * The inputs are files that the output is made of; those that are not there do not matter
 * @throws INVALID_ARGUMENT (an input), EXISTS without `overwrite`, IO
 */
export async function checkOutput(
  path: string,
  options: { readonly inputs: readonly string[]; readonly overwrite?: boolean | undefined },
): Promise<void> {
  const found = await look(path);
  if (!found) return;
  for (const input of options.inputs) {
    const other = await look(input);
    if (other?.ino !== found.ino || other.dev !== found.dev) continue;
    const what = input === path ? 'is an input itself' : `is the same file as the input ${input}`;
    throw new FinetableError('INVALID_ARGUMENT', `${path}: ${what}, which is read and kept; name another output`, {
      file: path,
    });
  }
  if (options.overwrite === true) return;
  throw new FinetableError('EXISTS', `${path} is there already; choose another name, or ask for it to be overwritten`, {
    file: path,
  });
}

/** Null where nothing is there. */
async function look(path: string): Promise<{ readonly dev: bigint; readonly ino: bigint } | null> {
  try {
    return await stat(path, { bigint: true });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw ioError(error, 'writing', path);
  }
}
