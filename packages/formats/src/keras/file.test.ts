import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isFinetableError } from '@finetable/core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openKerasFile, type KerasFile } from './file.ts';

interface Expected {
  readonly values: number[][];
  readonly output: number[][];
  readonly lora?: { readonly rank: number; readonly alpha: number; readonly a: number[][]; readonly b: number[][] };
}

const fixtures = fileURLToPath(new URL('../../test/keras/', import.meta.url));
const expected = JSON.parse(await readFile(join(fixtures, 'expected.json'), 'utf8')) as Record<
  string,
  Record<string, Expected>
>;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-keras-test-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function withFile<T>(name: string, use: (file: KerasFile) => T | Promise<T>): Promise<T> {
  const file = await openKerasFile(name.startsWith('/') ? name : join(fixtures, name));
  try {
    return await use(file);
  } finally {
    file.close();
  }
}

/** The largest difference; of matrices of another size it is infinite. */
function difference(found: ArrayLike<number>, wanted: readonly number[][]): number {
  const flat = wanted.flat();
  if (found.length !== flat.length) return Infinity;
  return flat.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i]!)), 0);
}

/** Files of the test that are open; the process has others, which come and go. */
function openFiles(): string[] {
  if (!existsSync('/proc/self/fd')) return [];
  const files = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // closed since it was listed, as the listing's own
    }
  });
  return files.filter((file) => file.startsWith(folder));
}

const exact = (name: string): boolean => !name.includes('int') && !name.startsWith('functional');

describe.each(
  Object.keys(expected).filter((name) => !/^int\d?(-rows|8)?\.weights/.test(name) || name === 'int4.weights.h5'),
)('%s', (name) => {
  test('has the values that Keras computes', async () => {
    await withFile(name, (file) => {
      expect(file.embeddings.map((embedding) => embedding.name).sort()).toEqual(Object.keys(expected[name]!).sort());
      for (const [layer, { values, output, lora }] of Object.entries(expected[name]!)) {
        const embedding = file.embedding(layer);
        expect([embedding.rows, embedding.dim]).toEqual([values.length, values[0]!.length]);
        const { data } = file.readRows(embedding, 0, embedding.rows);
        // Keras' own arithmetic rounds: in f32, and where LoRA is merged in the dtype of the matrix.
        expect(difference(data, values)).toBeLessThanOrEqual(exact(name) ? 0 : 1e-6);
        expect(file.readRows(embedding, 1, 3).data).toEqual(data.slice(embedding.dim, 3 * embedding.dim));
        const factors = file.readLora(embedding);
        expect(embedding.lora).toEqual(lora ? { rank: lora.rank, alpha: lora.alpha } : null);
        expect(factors === null).toBe(!lora);
        if (!factors || !lora) continue;
        expect(difference(factors.a.data, lora.a)).toBe(0);
        expect(difference(factors.b.data, lora.b)).toBe(0);
        const { rank, alpha } = lora;
        const whole = data.map((value, i) => {
          const [row, dim] = [Math.floor(i / embedding.dim), i % embedding.dim];
          let delta = 0;
          for (let k = 0; k < rank; k++) delta += lora.a[row]![k]! * lora.b[k]![dim]!;
          return value + (alpha / rank) * delta;
        });
        expect(difference(whole, output)).toBeLessThan(1e-6);
      }
    });
  });
});

test('tells how a matrix is stored', async () => {
  const dtypes = async (name: string): Promise<unknown> =>
    withFile(name, ({ embeddings, format }) => [format, ...embeddings.map((embedding) => embedding.dtype)]);
  expect(await dtypes('functional.keras')).toEqual(['keras', 'f32', 'bf16', 'f16']);
  expect(await dtypes('functional.weights.h5')).toEqual(['weights.h5', 'f32', 'bf16', 'f16']);
  expect(await dtypes('int8.h5')).toEqual(['h5', 'int8']);
  expect(await dtypes('int4.keras')).toEqual(['keras', 'int4']);
  expect(await dtypes('int4-rows.keras')).toEqual(['keras', 'int4']);
});

test('of several embeddings one must be named, by name or path', async () => {
  await withFile('subclassed.keras', (file) => {
    expect(() => file.embedding()).toThrow('has 2 embedding layers; choose one; allowed: embedding_1, embedding');
    expect(() => file.embedding('tags')).toThrow('no embedding layers named "tags"; allowed: embedding_1, embedding');
    expect(file.embedding('inner/layers/embedding')).toMatchObject({ name: 'embedding_1', rows: 6 });
    expect(file.embedding('layers/embedding')).toMatchObject({ name: 'embedding', rows: 4 });
  });
  await withFile('int8.keras', (file) => expect(file.embedding()).toMatchObject({ name: 'words', rows: 6 }));
});

test('weights of tf-keras alone have no names, so that paths tell them apart', async () => {
  await withFile('tfkeras.weights.h5', (file) => {
    const { values } = expected['tfkeras.h5']!.tags!;
    expect(() => file.embedding('embedding')).toThrow('several embedding layers named "embedding"');
    expect(() => file.embedding()).toThrow(
      'allowed: layers/embedding, embedding_1, layers/sequential/layers/embedding',
    );
    expect(difference(file.readRows(file.embedding('embedding_1'), 0, 7).data, values)).toBe(0);
  });
});

test('a quantised matrix without a configuration is not guessed', async () => {
  for (const name of ['int8.weights.h5', 'int4-rows.weights.h5']) {
    await expect(openKerasFile(join(fixtures, name))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('do not tell int8 from int4; read the whole model') as string,
    });
  }
});

test('files that are none, broken or cut short are told in our words', async () => {
  await withFile('int8.h5', () => undefined); // loads the library
  const text = join(folder, 'text.h5');
  await writeFile(text, 'not HDF5 at all');
  await expect(openKerasFile(text)).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: `${text}: not to be opened as HDF5: file signature not found`,
  });
  await expect(openKerasFile(join(folder, 'none.h5'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(openKerasFile(join(folder, 'none.keras'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await writeFile(join(folder, 'text.keras'), 'not a zip archive');
  await expect(openKerasFile(join(folder, 'text.keras'))).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringContaining('text.keras: not a .keras file: ') as string,
  });
  for (const name of ['functional.h5', 'functional.keras']) {
    const whole = await readFile(join(fixtures, name));
    const broken = join(folder, `broken-${name}`);
    for (const bytes of [4, 100, 2000, 9000, Math.floor(whole.length / 2), whole.length - 3]) {
      await copyFile(join(fixtures, name), broken);
      await truncate(broken, bytes);
      await expect(openKerasFile(broken), `${name} of ${bytes} bytes`).rejects.toMatchObject({ code: 'INVALID_FILE' });
    }
  }
  // An archive is closed by the system in its own time.
  await vi.waitFor(() => expect(openFiles()).toEqual([]), 30_000);
});

test('chunks and compression of HDF5 are read', async () => {
  await withFile('chunked.weights.h5', (file) => {
    const { data } = file.readRows(file.embedding(), 95, 205);
    expect(data).toEqual(Float32Array.from({ length: 440 }, (_, i) => 380 + i));
  });
});

test('other files are never read, and compressed archives are told what to do', async () => {
  // The bytes are there, beside it: 64 of versions.json.
  await withFile('external.weights.h5', (file) => {
    expect(() => file.readRows(file.embedding(), 0, 4)).toThrow('unable to open external raw data file');
  });
  await withFile('link.weights.h5', ({ embeddings }) => expect(embeddings).toEqual([]));
  await expect(openKerasFile(join(fixtures, 'compressed.keras'))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('model.weights.h5 is compressed, which Keras does not do') as string,
  });
});

test('any byte changed gives values or an error of ours', async () => {
  const whole = await readFile(join(fixtures, 'int8.h5'));
  const zipped = await readFile(join(fixtures, 'int8.keras'));
  const outcomes = new Set<string>();
  for (let i = 0; i < 240; i++) {
    const source = i % 8 === 0 ? zipped : whole;
    const bytes = Buffer.from(source);
    bytes[(i * 7919) % bytes.length]! ^= 1 << (i % 8);
    const path = join(folder, source === zipped ? 'fuzz.keras' : 'fuzz.h5');
    await writeFile(path, bytes);
    outcomes.add(
      await withFile(path, (file) => {
        for (const embedding of file.embeddings) file.readRows(embedding, 0, embedding.rows);
        return 'values';
      }).catch((error: unknown) => {
        if (isFinetableError(error)) return error.code;
        throw error;
      }),
    );
  }
  expect(outcomes).toContain('values');
  expect(outcomes).toContain('INVALID_FILE');
});

test('rows are refused past the end and after close()', async () => {
  const file = await openKerasFile(join(fixtures, 'int8.keras'));
  const embedding = file.embedding();
  expect(() => file.readRows(embedding, 0, 7)).toThrow('rows 0 to 7; allowed: within 0 to 6');
  expect(file.readRows(embedding, 6, 6).data).toHaveLength(0);
  file.close();
  file.close();
  expect(() => file.readRows(embedding, 0, 1)).toThrow('read after close()');
});
