import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { matrix } from '@finetable/core';
import { openStaticModel } from '@finetable/data';
import { readNpy } from '@finetable/formats';
import { createAdapter, saveAdapters } from '@finetable/lora';
import { expect, test } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { temporaryFolder, writeTinyJob } from '../testing/tiny-job.ts';

const model = fileURLToPath(new URL('../../../data/test/static/m2v-words', import.meta.url));
const D = 16;

async function embed(...argv: string[]): Promise<string> {
  const { status, stdout, stderr } = await runHere(['embed', ...argv]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

async function refused(...argv: string[]): Promise<string> {
  const { status, stdout, stderr } = await runHere(['embed', ...argv]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr, 'no stack').not.toContain('    at ');
  return stderr;
}

interface Line {
  text: string;
  vector: number[];
}
const linesOf = (json: string): Line[] => json.trimEnd().split('\n').map((line) => JSON.parse(line) as Line); // prettier-ignore

async function vectorsOf(texts: readonly string[], adapterFolder?: string): Promise<Float32Array> {
  const opened = await openStaticModel(model);
  const adapter = adapterFolder === undefined ? null : await adaptedBy(opened, adapterFolder);
  const { data } = opened.encode(texts, adapter);
  adapter?.close();
  opened.close();
  return data;
}

/** Every dimension of the word "fox" grows by 2; written to a folder. */
async function adaptedBy(opened: Awaited<ReturnType<typeof openStaticModel>>, folder: string) {
  const adapter = createAdapter(opened.table, { kind: 'dense' });
  adapter.groups[0]!.reset(opened.ids(['fox']).values);
  opened.table.kernels.scatterRows(
    adapter.groups[0]!.factors,
    Int32Array.of(0),
    matrix(1, D, new Float32Array(D).fill(2)),
  );
  if (!existsSync(folder)) await saveAdapters(folder, [adapter]);
  return adapter;
}

test('texts of the command line, as one JSON object each', async () => {
  const lines = linesOf(await embed(model, '--text', 'the fox', '--text', ''));
  expect(lines.map(({ text }) => text)).toEqual(['the fox', '']);
  expect(lines.flatMap(({ vector }) => vector)).toEqual([...(await vectorsOf(['the fox', '']))]);
  expect(lines[1]!.vector).toEqual(new Array(D).fill(0));
});

test('lines of a file into an npy file, the empty ones too; an adapter changes them', async () => {
  const folder = await temporaryFolder();
  const texts = Array.from({ length: 1101 }, (_, i) => (i % 3 === 0 ? 'the fox' : i % 3 === 1 ? '' : 'a\u2028dog'));
  const [file, output] = [join(folder, 'texts.txt'), join(folder, 'vectors.npy')];
  await writeFile(file, `\uFEFF${texts.join('\r\n')}`);
  expect(await embed(model, '--file', file, '--output', output)).toBe(`${output}: F32 [1101, ${D}]\n`);
  const plain = await readNpy(output);
  expect(plain).toEqual({ dtype: 'F32', shape: [1101, D], data: await vectorsOf(texts) });

  const adapter = join(folder, 'adapter');
  const adapted = await vectorsOf(texts, adapter);
  const told = await embed(model, '--file', file, '--output', output, '--adapter', adapter, '--json');
  expect(JSON.parse(told)).toEqual({ written: { path: output, rows: 1101, dim: D } });
  expect((await readNpy(output)).data).toEqual(adapted);
  // Two words, of which one moved by 2.
  expect(adapted[0]! - (plain.data[0] as number)).toBeCloseTo(1, 5);

  await writeFile(file, 'the fox\n');
  expect(linesOf(await embed(model, '--file', file)).map(({ text }) => text)).toEqual(['the fox']);
  await writeFile(file, '');
  expect(await embed(model, '--file', file, '--output', output)).toBe(`${output}: F32 [0, ${D}]\n`);
});

test('a run: a data file into any format, as it was trained; a table and its adapter: ids', async () => {
  const { folder, job, run } = await writeTinyJob();
  expect((await runHere(['train', job])).status).toBe(0);
  const [data, adapter] = [join(folder, 'valid.jsonl'), join(run, 'adapter')];
  const ids = (await readFile(data, 'utf8')).split('\n').map((line) => (JSON.parse(line) as { ids: number[] }).ids);
  const lines = linesOf(await embed(run, '--file', data)) as unknown as { line: number; vector: number[] }[];
  expect(lines.map(({ line }) => line)).toEqual(ids.map((_, i) => i + 1));

  const list = join(folder, 'ids.txt');
  await writeFile(list, ids.map((row) => row.join(' ')).join('\n'));
  for (const ending of ['npy', 'safetensors', 'jsonl', 'parquet']) {
    const output = join(folder, `vectors.${ending}`);
    expect(await embed(run, '--file', data, '--output', output, '--workers', '2')).toBe(`${output}: F32 [24, 8]\n`);
  }
  const { data: written } = await readNpy(join(folder, 'vectors.npy'));
  expect([...(written as Float32Array)]).toEqual(lines.flatMap(({ vector }) => vector));
  // The table with the run's adapter, and the same lists of ids: the same means.
  const table = join(folder, 'table.safetensors');
  const rows = linesOf(await embed(table, '--adapter', adapter, '--file', list)) as unknown as { id: number[]; vector: number[] }[]; // prettier-ignore
  expect(rows.map(({ id }) => id)).toEqual(ids);
  expect(rows.map(({ vector }) => vector)).toEqual(lines.map(({ vector }) => vector));
  const [one] = linesOf(await embed(table, '--ids', '5,7')) as unknown as { id: number }[];
  expect(one!.id).toBe(5);

  expect(await refused(run, '--text', 'a')).toContain('--text to embed, but what is embedded are ids');
  expect(await refused(model, '--ids', '1')).toContain('--ids to embed, but what is embedded are texts');
  expect(await refused(run, '--file', list, '--id', 'x')).toContain('--column and --id go with .jsonl');
  expect(await refused(run, '--file', data, '--output', join(folder, 'x.txt'))).toContain('allowed: .npy');
  await writeFile(list, '1\ntwo\n');
  expect(await refused(run, '--file', list)).toContain('ids.txt, line 2: found "two"; allowed: an id, or several');
});

test('what people get wrong', async () => {
  const folder = await temporaryFolder();
  const file = join(folder, 'texts.txt');
  await writeFile(file, Buffer.concat([Buffer.from('good\n'), Buffer.of(0xe9, 10)]));
  expect(await refused(model)).toContain('embed: nothing to embed; allowed: one of --text, --ids, --file');
  expect(await refused(model, '--text', 'a', '--file', file)).toContain('both --text and --file to embed');
  expect(await refused(join(folder, 'absent'), '--text', 'a')).toContain('absent: no such file or folder');
  expect(await refused(model, '--file', join(folder, 'absent.txt'))).toContain('absent.txt');
  expect(await refused(model, '--text', 'a', '--adapter', join(folder, 'absent'))).toContain('absent');
  const output = join(folder, 'vectors.npy');
  expect(await refused(model, '--file', file, '--output', output)).toContain(
    `${file}, line 1: not UTF-8, there or a little later`,
  );
  const stopped = await runHere(['embed', model, '--text', 'a', '--output', output], { signal: AbortSignal.abort() });
  expect(stopped).toMatchObject({ status: 130, stdout: '' });
  expect(await readdir(folder)).toEqual(['texts.txt']);
});
