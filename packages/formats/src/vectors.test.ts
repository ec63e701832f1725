import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readNpy } from './npy.ts';
import { readSafetensorsHeader } from './safetensors/header.ts';
import { readTensor } from './safetensors/model.ts';
import { writeVectors, type VectorPart } from './vectors.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vectors-'));
});
afterEach(() => rm(folder, { recursive: true }));

const dim = 3;
/** Row i of all holds i + column / 4. */
function part(first: number, rows: number, keys: readonly unknown[]): VectorPart {
  const data = Float32Array.from({ length: rows * dim }, (_, at) => first + Math.floor(at / dim) + (at % dim) / 4);
  return { vectors: { data, rows, cols: dim }, keys };
}
const row = (i: number): number[] => [i, i + 0.25, i + 0.5];
async function* parts(...all: VectorPart[]): AsyncGenerator<VectorPart> {
  yield* all;
  await Promise.resolve();
}

test.each(['npy', 'safetensors', 'jsonl', 'parquet'])('.%s: parts of any size, in order', async (ending) => {
  const path = join(folder, `vectors.${ending}`);
  const write = (...all: VectorPart[]): Promise<number> => writeVectors(path, parts(...all), { dim, keyName: 'text' });
  expect(await write()).toBe(0);
  expect(await rowsIn(path)).toEqual([]);
  expect(await write(part(0, 2, ['a', 'ü']), part(2, 1, ['"']))).toBe(3);
  expect((await rowsIn(path)).map(({ vector }) => vector)).toEqual([0, 1, 2].map(row));
  if (ending === 'jsonl' || ending === 'parquet')
    expect((await rowsIn(path)).map(({ text }) => text)).toEqual(['a', 'ü', '"']);
  expect(await readdir(folder)).toEqual([`vectors.${ending}`]);
});

interface Row {
  readonly text?: unknown;
  readonly vector: number[];
}

async function rowsIn(path: string): Promise<Row[]> {
  if (path.endsWith('.jsonl'))
    return (await readFile(path, 'utf8')).split('\n').filter(Boolean).map((line) => JSON.parse(line) as Row); // prettier-ignore
  if (path.endsWith('.parquet')) return (await parquetReadObjects({ file: await asyncBufferFromFile(path) })) as Row[];
  const { shape, data } = path.endsWith('.npy')
    ? await readNpy(path)
    : await readTensor(path, await readSafetensorsHeader(path), 'vectors');
  expect(shape[1]).toBe(dim);
  return Array.from({ length: shape[0]! }, (_, i) => ({ vector: Array.from(data.subarray(i * dim, (i + 1) * dim) as Float32Array) })); // prettier-ignore
}

test('.parquet: integers are a column of integers, lists are text; a row group for each part', async () => {
  const path = join(folder, 'vectors.parquet');
  await writeVectors(path, parts(part(0, 2, [7, 8]), part(2, 1, [2 ** 40])), { dim });
  const file = await asyncBufferFromFile(path);
  expect((await parquetReadObjects({ file })).map(({ key }) => key as unknown)).toEqual([7n, 8n, 2n ** 40n]);
  const { row_groups, schema } = await parquetMetadataAsync(file);
  expect(row_groups.map(({ num_rows }) => num_rows)).toEqual([2n, 1n]);
  expect(schema.map(({ name }) => name)).toEqual(['root', 'key', 'vector', 'list', 'element']);
  await writeVectors(path, parts(part(0, 1, [[1, 2]])), { dim });
  expect(await parquetReadObjects({ file: await asyncBufferFromFile(path) })).toEqual([{ key: '[1,2]', vector: row(0) }]); // prettier-ignore
});

test('what fails on the way leaves what was there; an unknown ending is refused before that', async () => {
  const path = join(folder, 'vectors.parquet');
  await writeVectors(path, parts(part(0, 1, ['a'])), { dim });
  const before = await readFile(path);
  const failing = async function* (): AsyncGenerator<VectorPart> {
    yield part(0, 1, ['b']);
    await Promise.reject(new Error('gone'));
  };
  await expect(writeVectors(path, failing(), { dim })).rejects.toThrow('gone');
  expect(await readFile(path)).toEqual(before);
  expect(await readdir(folder)).toEqual(['vectors.parquet']);
  await expect(writeVectors(join(folder, 'vectors.txt'), parts(), { dim })).rejects.toThrow(
    'vectors.txt: its ending says no format for vectors; allowed: .npy, .safetensors, .jsonl, .parquet',
  );
});
