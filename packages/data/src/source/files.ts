/** Which files a source names. */
import { stat } from 'node:fs/promises';
import { FinetableError } from '@finetable/core';
import { glob } from 'tinyglobby';
import type { FileSource } from '../spec.ts';

/** The files of paths and patterns, each once: those of a pattern in the order of their names. @throws NOT_FOUND */
export async function filesOf({ file }: FileSource): Promise<string[]> {
  const files: string[] = [];
  for (const name of typeof file === 'string' ? [file] : file) {
    if (!/[*?[{]/.test(name) || (await exists(name))) files.push(name);
    else {
      const found = (await glob(name, { absolute: name.startsWith('/'), expandDirectories: false })).sort(byCodeUnits);
      if (found.length === 0) throw new FinetableError('NOT_FOUND', `${name}: no file has such a name`, { file: name });
      files.push(...found);
    }
  }
  return [...new Set(files)];
}

/** For messages about the source as a whole. */
export function sourceName({ file }: FileSource): string {
  if (typeof file === 'string') return file;
  return file.length > 1 ? `${file[0]!} and ${file.length - 1} more` : file[0]!;
}

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch {
    return false; // opening it will tell why
  }
}

const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
