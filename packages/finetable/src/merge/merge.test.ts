import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { matrix, range } from '@finetable/core';
import { writeNpy } from '@finetable/formats';
import { createAdapter, saveAdapters, type Adapter } from '@finetable/lora';
import { openTable, type ShardedTable } from '@finetable/placement';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Captured, runHere } from '../testing/capture.ts';
import { listTree, tableDim, tableRows, temporaryFolder, writeTable } from '../testing/tiny-job.ts';
import { rowProgress, rowsLine } from './progress.ts';

const touched = Int32Array.of(1, 5, 77);

interface Files {
  readonly folder: string;
  readonly base: string;
  readonly adapter: string;
  readonly output: string;
  readonly table: ShardedTable;
  /** Of rows 1, 5 and 77, dense, so that a row of it is easy to tell. */
  readonly trained: Adapter;
}

function adapterOn(table: ShardedTable): Adapter {
  const adapter = createAdapter(table, { kind: 'dense' });
  const group = adapter.groups[0]!;
  group.reset(touched);
  const deltas = matrix(touched.length, table.dim, new Float32Array(touched.length * table.dim).fill(0.25));
  table.kernels.scatterRows(group.factors, range(touched.length), deltas);
  return adapter;
}

async function writeFiles(): Promise<Files> {
  const folder = await temporaryFolder();
  const [base, adapter] = [join(folder, 'base.safetensors'), join(folder, 'adapter')];
  await writeTable(base);
  const table = await openTable(base, { name: 'items' });
  onTestFinished(() => table.close());
  const trained = adapterOn(table);
  onTestFinished(() => trained.close());
  await saveAdapters(adapter, [trained]);
  return { folder, base, adapter, output: join(folder, 'merged.safetensors'), table, trained };
}

async function rowsOf(path: string): Promise<Float32Array> {
  const table = await openTable(path);
  try {
    return table.gather(range(table.rows)).data;
  } finally {
    table.close();
  }
}

test('merge writes the adapted table, and unmerge the base again, byte for byte', async () => {
  const { folder, base, adapter, output, trained } = await writeFiles();
  const merged = await runHere(['merge', adapter, '--base', base, '--output', output]);
  expect(merged).toMatchObject({ status: 0, stderr: '' });
  expect(merged.stdout).toMatch(/^.*merged\.safetensors: F32 \[120, 8\], 3 rows changed, [\d.]+ KiB\n$/);
  expect(await rowsOf(output)).toEqual(trained.vectors(range(tableRows)).data);

  const restored = join(folder, 'restored.safetensors');
  const unmerged = await runHere(['unmerge', output, '--base', base, '--output', restored, '--json']);
  expect(unmerged).toMatchObject({ status: 0, stderr: '' });
  const bytes = await readFile(base);
  expect(JSON.parse(unmerged.stdout)).toEqual({
    written: {
      path: restored,
      what: 'F32 [120, 8]',
      tensor: 'embeddings',
      rows: tableRows,
      dtype: 'f32',
      dim: tableDim,
      groupDims: 0,
      changedRows: 0,
      sizeBytes: bytes.length,
    },
  });
  expect((await readFile(restored)).equals(bytes)).toBe(true);
});

test.each([
  ['f16', [], 'F16 [120, 8]', { dtype: 'f16', groupDims: 0 }],
  ['int8', [], 'int8 [120, 8]', { dtype: 'int8', groupDims: 8 }],
  ['int4', [], 'int4 [120, 8], one group a row', { dtype: 'int4', groupDims: 8 }],
  ['int4', ['--group', 'row'], 'int4 [120, 8], one group a row', { dtype: 'int4', groupDims: 8 }],
] as const)('--dtype %s %j', async (dtype, more, what, format) => {
  const { base, adapter, output } = await writeFiles();
  const argv = ['merge', adapter, '--base', base, '--output', output, '--dtype', dtype, ...more, '--json'];
  const { status, stdout } = await runHere(argv);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ written: { what, changedRows: 3, ...format } });
  const table = await openTable(output);
  onTestFinished(() => table.close());
  expect(table).toMatchObject(format);
});

test('a PEFT folder, an npy base, a folder of several tables', async () => {
  const { folder, base, output, table, trained } = await writeFiles();
  const peft = join(folder, 'peft');
  const lora = createAdapter(table, { rank: 2 });
  onTestFinished(() => lora.close());
  lora.groups[0]!.reset(touched);
  table.kernels.scatterRows(lora.groups[0]!.factors, range(3), matrix(3, 2, Float32Array.of(1, 2, 3, 4, 5, 6)));
  await saveAdapters(peft, [lora], { format: 'peft' });
  expect((await runHere(['merge', peft, '--base', base, '--output', output])).status).toBe(0);
  expect(await rowsOf(output)).toEqual(lora.vectors(range(tableRows)).data);

  const npy = join(folder, 'base.npy');
  await writeNpy(npy, { dtype: 'F32', shape: [tableRows, tableDim], data: await rowsOf(base) });
  const other = await openTable(npy, { name: 'other' });
  onTestFinished(() => other.close());
  const both = join(folder, 'both');
  const second = adapterOn(other);
  onTestFinished(() => second.close());
  await saveAdapters(both, [lora, second]);
  const argv = ['merge', both, '--base', npy, '--output', output, '--overwrite'];
  const several = await runHere(argv);
  expect(several.status).toBe(2);
  expect(several.stderr).toMatch(/both adapts several tables; choose one with --table; allowed: items, other/);
  expect((await runHere([...argv, '--table', 'none'])).stderr).toMatch(/adapts no table "none"; allowed: items, other/);
  expect((await runHere([...argv, '--table', 'other'])).status).toBe(0);
  expect(await rowsOf(output)).toEqual(trained.vectors(range(tableRows)).data);
});

test('what is refused, and writes nothing', async () => {
  const { folder, base, adapter, output } = await writeFiles();
  await writeFile(join(folder, 'there.safetensors'), 'before');
  const other = join(folder, 'other.safetensors');
  await writeTable(other, [3]);
  const to = (path: string): string[] => ['--base', base, '--output', path];
  const cases: [string[], ...string[]][] = [
    [['merge', adapter, '--base', base, '--in-place'], '--in-place: the base is never written to', '--output'],
    [['merge', adapter, '--base', base], '--output is missing'],
    [['merge', adapter, ...to(join(folder, 'o.npy'))], 'o.npy: it writes .safetensors'],
    [['merge', adapter, ...to(output), '--group', '32'], '--group goes with --dtype int4'],
    [['merge', adapter, ...to(output), '--dtype', 'f64'], 'Allowed choices are f32, f16'],
    [['merge', adapter, ...to(output), '--tensor', 'none'], 'no tensor "none"'],
    [['merge', adapter, ...to(join(folder, 'there.safetensors'))], 'is there already', 'replace it with --overwrite'],
    [['merge', adapter, ...to(base), '--overwrite'], 'base.safetensors: is an input itself'],
    [['merge', adapter, ...to(join(adapter, 'adapter_model.safetensors')), '--overwrite'], 'is an input itself'],
    [['merge', join(folder, 'none'), ...to(output)], 'none'],
    [['merge', adapter, '--base', other, '--output', output], 'fingerprint'],
    [['unmerge', base, ...to(output)], 'does not say what it was made of'],
    [['unmerge', base, ...to(join(folder, 'there.safetensors'))], 'replace it with --overwrite'],
  ];
  const before = await listTree(folder);
  const bytes = await readFile(base);
  for (const [argv, ...says] of cases) {
    const { status, stdout, stderr } = await runHere(argv);
    expect({ argv, status, stdout }).toEqual({ argv, status: 2, stdout: '' });
    expect(stderr, 'no stack').not.toContain('    at ');
    for (const part of says) expect(stderr).toContain(part);
    expect(await listTree(folder)).toEqual(before);
  }
  expect((await readFile(base)).equals(bytes)).toBe(true);
  expect(await readFile(join(folder, 'there.safetensors'), 'utf8')).toBe('before');

  expect((await runHere(['merge', adapter, ...to(output)])).status).toBe(0);
  const another = await runHere(['unmerge', output, '--base', other, '--output', join(folder, 'o.safetensors')]);
  expect(another.status).toBe(2);
  expect(another.stderr).toContain('it was made of [120, 8] f32 with fingerprint');
});

test('interrupted, it says so and leaves what was there', async () => {
  const { folder, base, adapter, output } = await writeFiles();
  await writeFile(output, 'before');
  const before = await listTree(folder);
  const argv = ['merge', adapter, '--base', base, '--output', output, '--overwrite'];
  const { status, stderr } = await runHere(argv, { signal: AbortSignal.abort() });
  expect({ status, stderr }).toEqual({ status: 130, stderr: 'finetable: interrupted; nothing was written\n' });
  expect(await listTree(folder)).toEqual(before);
  expect(await readFile(output, 'utf8')).toBe('before');
});

test('on a terminal there is a bar, which is taken away at the end; elsewhere nothing', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const [terminal, file] = [new Captured(80), new Captured()];
  const bars = [terminal, file].map((stream) => rowProgress(stream, 'merging'));
  for (const { update } of bars) update(1000, 4000);
  vi.advanceTimersByTime(1000);
  expect(terminal.text).toMatch(/merging ━{6}─{18} {2}25% 1,000 of 4,000 rows/);
  const shown = terminal.text;
  for (const { close } of [...bars, ...bars]) close();
  expect(terminal.text.slice(shown.length), 'the line is cleared').toMatch(/\u001b\[0J$/);
  expect(file.text).toBe('');
});

test('the line tells how far it is, and is never wider than the terminal', () => {
  expect(rowsLine('merging', 0, 0, 0, 80)).toBe(`merging ${'─'.repeat(24)}   0%`);
  expect(rowsLine('merging', 1000, 4000, 2000, 80)).toBe(
    `merging ${'━'.repeat(6)}${'─'.repeat(18)}  25% 1,000 of 4,000 rows 6.0 s left`,
  );
  expect(rowsLine('merging', 1000, 4000, 2000, 20)).toHaveLength(19);
});
