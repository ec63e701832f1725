/** A temporary folder for the files of a test file. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { Row } from '../spec.ts';

export interface TestFolder {
  readonly path: string;
  /** @returns the file's path */
  write(name: string, content: string | Uint8Array): string;
}

/** Removed after the last test. */
export function testFolder(): TestFolder {
  const path = mkdtempSync(join(tmpdir(), 'finetable-'));
  afterAll(() => rmSync(path, { recursive: true }));
  return {
    path,
    write: (name, content) => {
      const file = join(path, name);
      writeFileSync(file, content);
      return file;
    },
  };
}

export function jsonLines(rows: readonly Row[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('');
}
