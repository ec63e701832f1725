import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSafetensors, readTensorF32 } from '../safetensors/model.ts';
import { writeSafetensors } from '../safetensors/write.ts';
import { readStaticLayout, type StaticLayout } from './layout.ts';
import { saveStaticFolder } from './save.ts';

/** Rows of 64 KiB, so that a block has 64 of them; row v holds v. */
const [V, D] = [150, 2 ** 14];
let folder: string;
let layout: StaticLayout;
const others = { 'tokenizer.json': '{ }', 'config.json': '{"normalize" : true}', LICENSE: 'free', 'README.md': '# \n' };
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'static-'));
  const model = join(folder, 'model');
  await mkdir(model);
  const data = Float32Array.from({ length: V * D }, (_, i) => Math.floor(i / D));
  await writeSafetensors(
    join(model, 'model.safetensors'),
    [
      { name: 'embeddings', dtype: 'F32', shape: [V, D], data },
      { name: 'weights', dtype: 'F64', shape: [V], data: new Float64Array(V).fill(0.1) },
      { name: 'mapping', dtype: 'I16', shape: [V], data: new Int16Array(V).fill(7) },
    ],
    { kept: 'as it was' },
  );
  for (const [name, text] of Object.entries(others)) await writeFile(join(model, name), text);
  await mkdir(join(model, 'onnx'));
  for (const name of ['pytorch_model.bin', 'onnx/model.onnx', '.gitattributes', 'model.safetensors.index.json'])
    await writeFile(join(model, name), '{}');
  layout = await readStaticLayout(model);
});
afterAll(() => rm(folder, { recursive: true }));

test('rows are changed block by block, everything else stays', async () => {
  const target = join(folder, 'deep', 'changed');
  const seen: number[][] = [];
  const leftOut = await saveStaticFolder(layout, target, (firstRow, bytes) => {
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const rows = values.length / D;
    seen.push([firstRow, rows]);
    for (let row = 0; row < rows; row++) {
      expect(values[row * D]).toBe(firstRow + row);
      if ((firstRow + row) % 70 === 0) values.fill(-1, row * D, (row + 1) * D);
    }
  });
  expect(seen).toEqual([
    [0, 64],
    [64, 64],
    [128, 22],
  ]);
  expect(leftOut).toEqual(['.gitattributes', 'model.safetensors.index.json', 'pytorch_model.bin']);
  expect((await readdir(target)).sort()).toEqual([...Object.keys(others), 'model.safetensors'].sort());
  for (const [name, text] of Object.entries(others)) expect(await readFile(join(target, name), 'utf8')).toBe(text);
  const model = await openSafetensors(join(target, 'model.safetensors'));
  expect(model.metadata).toEqual({ kept: 'as it was' });
  const values = await readTensorF32(model.path, model, 'embeddings');
  for (let row = 0; row < V; row++) {
    const expected = row % 70 === 0 ? -1 : row;
    expect([values[row * D], values[row * D + D - 1]]).toEqual([expected, expected]);
  }
});

test('without a change the file is the same', async () => {
  const target = join(folder, 'same');
  await saveStaticFolder(layout, target, null);
  const bytes = await readFile(join(target, 'model.safetensors'));
  expect(bytes.equals(await readFile(layout.file))).toBe(true);
});

test('what is there stays unless it is a model that may be replaced; a failure leaves nothing', async () => {
  const target = join(folder, 'target');
  const own = saveStaticFolder(layout, `${layout.folder}/../model/`, null, { overwrite: true });
  await expect(own).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('is the model itself'),
  });
  await mkdir(target);
  await writeFile(join(target, 'precious.txt'), 'x');
  await expect(saveStaticFolder(layout, target, null)).rejects.toMatchObject({ code: 'EXISTS' });
  const notOurs = saveStaticFolder(layout, target, null, { overwrite: true });
  await expect(notOurs).rejects.toMatchObject({ code: 'EXISTS', message: expect.stringContaining('is not a model') });
  expect(await readdir(target)).toEqual(['precious.txt']);

  const failing = join(folder, 'failing');
  const thrown = new Error('no');
  const fail = (firstRow: number): void => {
    if (firstRow > 0) throw thrown;
  };
  await expect(saveStaticFolder(layout, failing, fail)).rejects.toBe(thrown);
  expect((await readdir(folder)).filter((name) => name === 'failing' || name.startsWith('.'))).toEqual([]);
  await saveStaticFolder(layout, failing, null);
  await saveStaticFolder(layout, failing, (_, bytes) => void bytes.fill(0), { overwrite: true });
  const model = await openSafetensors(join(failing, 'model.safetensors'));
  expect((await readTensorF32(model.path, model, 'embeddings')).every((value) => value === 0)).toBe(true);
});
