/** Merges that are ended from outside while they write. */
import { open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { removeLeftovers, writeSafetensors } from '@finetable/formats';
import { createAdapter, saveAdapters } from '@finetable/lora';
import { openTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { start, type Child } from '../testing/child.ts';
import { temporaryFolder } from '../testing/tiny-job.ts';

const rows = 2 ** 20;
const dim = 64;

/** A table of zeros that takes no room on the disk: 256 MiB, which become 68 MiB of int8 in the best part of a second. */
async function writeSparse(path: string): Promise<void> {
  await writeSafetensors(path, [{ name: 'rows', dtype: 'F32', shape: [1, dim], data: new Float32Array(dim) }]);
  const file = await open(path, 'r+');
  const small = (await readFile(path)).subarray(8, -4 * dim).toString();
  const header = small
    .replace(`[1,${dim}]`, `[${rows},${dim}]`)
    .replace(`,${4 * dim}]`, `,${rows * 4 * dim}]`)
    .trimEnd();
  const padded = Buffer.from(header.padEnd(Math.ceil(header.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  await file.write(Buffer.concat([length, padded]), 0, 8 + padded.length, 0);
  await file.close();
  await truncate(path, 8 + padded.length + rows * 4 * dim);
}

const temporary = (names: readonly string[]): string[] => names.filter((name) => name.startsWith('.finetable-tmp-'));

/** Waits until the child has written some of the new file's blocks. */
async function writing(folder: string, child: Child): Promise<void> {
  for (; child.process.exitCode === null; await after(2)) {
    for (const name of temporary(await readdir(folder))) {
      const found = await stat(join(folder, name)).catch(() => null);
      if (found && found.size > 2 ** 22) return;
    }
  }
}

test.each(['SIGTERM', 'SIGKILL'] as const)(
  '%s while it writes: what was there stays, and no other file',
  async (signal) => {
    const folder = await temporaryFolder();
    const [base, adapter, output] = ['base.safetensors', 'adapter', 'merged.safetensors'].map((name) =>
      join(folder, name),
    );
    await writeSparse(base!);
    const table = await openTable(base!);
    const untrained = createAdapter(table, { rank: 1 });
    await saveAdapters(adapter!, [untrained]);
    untrained.close();
    table.close();
    await writeFile(output!, 'before');
    const before = (await readdir(folder)).sort();

    const child = start(['merge', adapter!, '--base', base!, '--output', output!, '--dtype', 'int8', '--overwrite']);
    await writing(folder, child);
    child.process.kill(signal);
    const ended = await child.ended;
    const names = (await readdir(folder)).sort();
    if (signal === 'SIGTERM') {
      expect(ended).toMatchObject({ status: 130, stderr: 'finetable: interrupted; nothing was written\n' });
      expect(names).toEqual(before);
    } else {
      expect(ended.signal).toBe('SIGKILL');
      expect(names.filter((name) => !temporary(names).includes(name))).toEqual(before);
      expect(await removeLeftovers(folder), 'known as rubbish').toHaveLength(1);
    }
    expect(await readFile(output!, 'utf8')).toBe('before');
  },
);
