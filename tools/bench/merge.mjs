// Merging an adapter into a new table file, beside copying the file.
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { matrix, permutation, RandomStream, range } from '@finetable/core';
import { writeTableBlocks } from '@finetable/formats';
import { createAdapter, mergeAdapter } from '@finetable/lora';
import { openTable } from '@finetable/placement';
import { takeTurns } from './measure.mjs';

const rank = 8;
const dim = 64;
const rows = 2 ** 22; // 1 GiB of f32
const touched = Math.round(rows / 100);
const rounds = 9;

/** Values that no file system can leave out. */
async function writeTable(path) {
  const blockRows = 2 ** 14;
  const values = matrix(blockRows, dim);
  new RandomStream(1, 'values').fillNormal(values.data, 0.1);
  const bytes = new Uint8Array(values.data.buffer);
  const format = { dtype: 'f32', dim, groupDims: 0 };
  const fill = async (block) => block.bytes.set(bytes.subarray(0, block.bytes.length));
  await writeTableBlocks(path, { name: 'vectors', rows, format }, { blockRows, fill });
}

/** An adapter that has touched `count` rows anywhere in the table. */
function makeAdapter(table, count, options) {
  const adapter = createAdapter(table, { rank, alpha: 16, ...options });
  const [group] = adapter.groups;
  group.reset(Int32Array.from(permutation(rows, 4, 'touched').subarray(0, count)));
  const values = matrix(count, group.rank);
  new RandomStream(5, 'factors').fillNormal(values.data, 0.01);
  table.kernels.scatterRows(group.factors, range(count), values);
  return adapter;
}

/** The time of `write`, which leaves a file at `path` that is on the disk. */
async function timed(path, write) {
  await rm(path, { force: true });
  const begun = performance.now();
  await write();
  return performance.now() - begun;
}

export async function measureMerge(report) {
  report.section(
    'Merging',
    `A table of 1 GiB (V = ${rows / 2 ** 20}M, D = ${dim}, f32) and an adapter of rank ${rank} to a new file, beside a copy of the table's file (copyFile); both until the file is on the disk (fsync). ${rounds} rounds in turns.`,
  );
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  const [source, copy, merged] = ['base', 'copy', 'merged'].map((name) => join(folder, `${name}.safetensors`));
  try {
    await writeTable(source);
    const table = await openTable(source);
    const copying = () =>
      timed(copy, async () => {
        copyFileSync(source, copy);
        const file = await open(copy, 'r+');
        await file.sync();
        await file.close();
      });
    const cases = [
      ['1 % of rows touched', touched, {}, {}, { atMost: 1.5 }],
      ['10 % of rows touched', 10 * touched, {}, {}, undefined],
      ['DoRA: every row changes', touched, { dora: true }, {}, undefined],
      ['1 % of rows touched, to f16', touched, {}, { dtype: 'f16' }, undefined],
    ];
    for (const [what, count, options, output, goal] of cases) {
      const adapter = makeAdapter(table, count, options);
      const merging = () => timed(merged, () => mergeAdapter(adapter, merged, output));
      const [times, reference] = await takeTurns([merging, copying], { rounds, warmUp: 1 });
      report.timeRatio(`merge, ${what}`, 'copying the file', times, reference, goal);
      adapter.close();
    }
    table.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
