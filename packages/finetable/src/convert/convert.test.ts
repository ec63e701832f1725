import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { f16ToF32, f32ToF16 } from '@finetable/core';
import {
  loadAdapter,
  readNpy,
  readSafetensorsHeader,
  readTensor,
  writeNpy,
  writeSafetensors,
  saveSparseAdapter,
  type AdapterTensors,
} from '@finetable/formats';
import { openTable } from '@finetable/placement';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { listTree, temporaryFolder, writeTable, writeTinyJob } from '../testing/tiny-job.ts';

const interrupted = { signal: AbortSignal.abort() };

async function convert(...argv: string[]): Promise<string> {
  const { status, stdout, stderr } = await runHere(['convert', ...argv]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

async function tensorOf(path: string, name = 'embeddings') {
  return readTensor(path, await readSafetensorsHeader(path), name);
}

const glove = 'the 0.5 -1.5 2\nof 1e-3 0 65504\nü 3 4 5\n';
const gloveValues = Float32Array.of(0.5, -1.5, 2, 1e-3, 0, 65504, 3, 4, 5);

test('GloVe text to safetensors, with the words beside it', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'glove.txt'), glove);
  const out = join(folder, 'out.safetensors');
  const said = await convert(join(folder, 'glove.txt'), out);
  expect(await tensorOf(out)).toEqual({ dtype: 'F32', shape: [3, 3], data: gloveValues });
  expect(await readFile(join(folder, 'words.txt'), 'utf8')).toBe('the\nof\nü\n');
  expect(said).toBe(`${out}: F32 [3, 3], ${(await stat(out)).size} B\n${join(folder, 'words.txt')}: 3 words, 10 B\n`);
});

test('word2vec binary to npy in f16, and the name of a tensor', async () => {
  const folder = await temporaryFolder();
  const vectors = Buffer.from(Float32Array.of(0.1, 2, 3, 4).buffer);
  const parts = ['2 2\n', 'a ', vectors.subarray(0, 8), '\n', 'b ', vectors.subarray(8), '\n'].map((part) =>
    Buffer.from(part as string),
  );
  await writeFile(join(folder, 'v.bin'), Buffer.concat(parts));
  await convert(join(folder, 'v.bin'), join(folder, 'v.npy'), '--dtype', 'f16');
  expect(await readNpy(join(folder, 'v.npy'))).toMatchObject({
    dtype: 'F16',
    shape: [2, 2],
    data: Uint16Array.of(0x2e66, 0x4000, 0x4200, 0x4400),
  });
  await convert(join(folder, 'v.bin'), join(folder, 'v.safetensors'), '--tensor', 'words', '--overwrite');
  expect((await tensorOf(join(folder, 'v.safetensors'), 'words')).shape).toEqual([2, 2]);
});

test('npy to safetensors and back gives the same values, in f16 rounded once', async () => {
  const folder = await temporaryFolder();
  const path = (name: string): string => join(folder, name);
  const float = fc.float({ noNaN: true, min: -65504, max: 65504 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(float, { minLength: 3, maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      async (numbers, cols) => {
        const data = Float32Array.from(numbers.slice(0, numbers.length - (numbers.length % cols)));
        const shape = [data.length / cols, cols];
        await writeNpy(path('a.npy'), { dtype: 'F32', shape, data });
        await convert(path('a.npy'), path('a.safetensors'), '--overwrite');
        expect(await tensorOf(path('a.safetensors'))).toEqual({ dtype: 'F32', shape, data });
        await convert(path('a.safetensors'), path('half.npy'), '--dtype', 'f16', '--overwrite');
        const half = Uint16Array.from(data, f32ToF16);
        expect(await readNpy(path('half.npy'))).toEqual({ dtype: 'F16', shape, data: half });
        await convert(path('half.npy'), path('back.npy'), '--dtype', 'f32', '--overwrite');
        expect(await readNpy(path('back.npy'))).toEqual({
          dtype: 'F32',
          shape,
          data: Float32Array.from(half, f16ToF32),
        });
      },
    ),
    { numRuns: 20 },
  );
});

test('more than one block, cut inside values by the stream', async () => {
  const folder = await temporaryFolder();
  const data = Float32Array.from({ length: 900_001 }, (_, i) => i % 2048);
  await writeNpy(join(folder, 'a.npy'), { dtype: 'F32', shape: [900_001, 1], data });
  await convert(join(folder, 'a.npy'), join(folder, 'b.npy'), '--dtype', 'f16');
  const { data: half } = await readNpy(join(folder, 'b.npy'));
  expect(Float32Array.from(half as Uint16Array, f16ToF32)).toEqual(data);
});

test('one tensor of several', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'two.safetensors');
  const tensor = (name: string, value: number) =>
    ({ name, dtype: 'F32', shape: [1, 2], data: Float32Array.of(value, value) }) as const;
  await writeSafetensors(path, [tensor('a', 1), tensor('b', 2)]);
  await convert(path, join(folder, 'b.npy'), '--tensor', 'b');
  expect((await readNpy(join(folder, 'b.npy'))).data).toEqual(Float32Array.of(2, 2));
  await convert(path, join(folder, 'only.safetensors'), '--tensor', 'b');
  expect((await tensorOf(join(folder, 'only.safetensors'), 'b')).data).toEqual(Float32Array.of(2, 2));
  for (const options of [[], ['--tensor', 'c']]) {
    const { status, stderr } = await runHere(['convert', path, join(folder, 'c.npy'), ...options]);
    expect(status).toBe(2);
    expect(stderr).toContain('allowed: a, b');
  }
});

test('adapters: sparse to PEFT and back with the base gives the same bytes', async () => {
  const { folder, job, run } = await writeTinyJob();
  expect((await runHere(['train', job])).status).toBe(0);
  const sparse = join(run, 'adapter');
  const table = join(folder, 'table.safetensors');
  expect(await convert(sparse, join(folder, 'peft'), '--to', 'peft')).toMatch(
    /peft adapter, items: rank 2, \d+ rows\n$/,
  );
  expect(await readdir(join(folder, 'peft'))).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  await convert(join(folder, 'peft'), join(folder, 'again'), '--to', 'sparse', '--base', table);
  for (const name of ['adapter_config.json', 'adapter_model.safetensors']) {
    expect(await readFile(join(folder, 'again', name))).toEqual(await readFile(join(sparse, name)));
  }
  // Without the base its facts are not known, and the adapter is laid on any table of its size.
  await convert(join(folder, 'peft'), join(folder, 'loose'), '--to', 'sparse');
  expect((await loadAdapter(join(folder, 'loose')))[0]!.base).toMatchObject({ dtype: 'unknown', fingerprint: null });

  await writeTable(table, [0]);
  const other = await runHere(['convert', sparse, join(folder, 'wrong'), '--to', 'peft', '--base', table]);
  expect(other.status).toBe(2);
  expect(other.stderr).toContain('fingerprints differ');
});

test('adapters with groups and DoRA: to PEFT as one group; what PEFT cannot hold is refused', async () => {
  const folder = await temporaryFolder();
  const group = { untouched: null, kind: 'lora', rank: 1, alpha: 2, rsLora: false, b: Float32Array.of(1, 2) } as const;
  const adapter: AdapterTensors = {
    table: 'items',
    base: { rows: 6, dim: 2, dtype: 'f32', fingerprint: null },
    groups: [
      { ...group, name: 'rest', members: Int32Array.of(0, 4), rows: Int32Array.of(1), a: Float32Array.of(3) },
      { ...group, name: 'new', members: Int32Array.of(4, 6), rows: Int32Array.of(4, 5), a: Float32Array.of(1, 2) },
    ],
    magnitude: Float32Array.of(1, 2),
    baseSquares: Float64Array.of(1, 2),
    maxNorm: null,
    grown: null,
  };
  const sparse = join(folder, 'sparse');
  await saveSparseAdapter(sparse, [adapter]);
  const text = await convert(sparse, join(folder, 'again'), '--to', 'sparse');
  expect(text).toContain('sparse adapter, items: rank 1, 1 rows, "new" rank 1, 2 rows\n');
  expect(await loadAdapter(join(folder, 'again'))).toEqual([adapter]);
  await convert(sparse, join(folder, 'peft'), '--to', 'peft');
  expect(await loadAdapter(join(folder, 'peft'))).toMatchObject([
    {
      groups: [{ name: 'rest', members: null, rank: 2, alpha: 2, rows: Int32Array.of(1, 4, 5) }],
      magnitude: adapter.magnitude,
    },
  ]);
  await saveSparseAdapter(sparse, [{ ...adapter, grown: Float32Array.of(1, 2) }], { overwrite: true });
  const { status, stderr } = await runHere(['convert', sparse, join(folder, 'no'), '--to', 'peft']);
  expect(status).toBe(2);
  expect(stderr).toContain('no format for rows that the base lacks; merge the adapter');
});

test.each([
  ['a table to an adapter', ['t.npy', 'o', '--to', 'peft'], 'a table cannot become peft; allowed: safetensors, npy'],
  ['an adapter to a table', ['adapter', 'o.npy'], 'an adapter cannot become npy; allowed: sparse, peft'],
  ['an output of no known kind', ['t.npy', 'o.bin'], '--to safetensors or --to npy'],
  ['an adapter to nothing in particular', ['adapter', 'o'], '--to sparse or --to peft'],
  ['--dtype for an adapter', ['adapter', 'o', '--to', 'peft', '--dtype', 'f16'], 'adapters are always f32'],
  ['--tensor for an adapter', ['adapter', 'o', '--to', 'peft', '--tensor', 'x'], '--tensor goes with tables'],
  ['--base for a table', ['t.npy', 'o.safetensors', '--base', 't.npy'], '--base goes with adapters'],
  [
    '--duplicates for a table',
    ['t.npy', 'o.safetensors', '--duplicates', 'skip'],
    '--duplicates goes with word vectors',
  ],
  ['the input as the output', ['t.npy', 't.npy', '--overwrite'], 'is the input itself'],
  ['an input that is not there', ['u.npy', 'o.safetensors'], 'u.npy: no such file or folder'],
  ['an output that is there', ['t.npy', 'there.safetensors'], 'is there already'],
  ['words that are there', ['glove.txt', 'o.safetensors'], 'words.txt is there already'],
  [
    'integers to floats',
    ['i.npy', 'o.safetensors', '--dtype', 'f16'],
    'I32 is not converted to f16; allowed: F32, F16',
  ],
  ['a word twice', ['twice.txt', 'sub/o.safetensors'], 'line 3'],
  ['a ragged line', ['ragged.txt', 'sub/o.npy'], 'line 2'],
  ['a table cut short', ['cut.npy', 'o.safetensors'], 'is truncated'],
])('%s is refused, and nothing is written', async (_, argv, message) => {
  const folder = await temporaryFolder();
  const files: Record<string, string> = {
    'glove.txt': glove,
    'words.txt': 'mine',
    'there.safetensors': 'mine',
    'twice.txt': 'a 1\nb 2\na 3\n',
    'ragged.txt': 'a 1 2\nb 1\n',
    'large.txt': 'a 1\nb -70000\n',
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  for (const name of ['adapter', 'sub']) await mkdir(join(folder, name));
  await writeNpy(join(folder, 't.npy'), { dtype: 'F32', shape: [2, 2], data: new Float32Array(4) });
  await writeNpy(join(folder, 'large.npy'), {
    dtype: 'F32',
    shape: [2, 2],
    data: Float32Array.of(65504, Infinity, 0, 65520),
  });
  await writeNpy(join(folder, 'i.npy'), { dtype: 'I32', shape: [2, 2], data: new Int32Array(4) });
  await writeFile(join(folder, 'cut.npy'), (await readFile(join(folder, 't.npy'))).subarray(0, -1));
  const before = await listTree(folder);
  const paths = argv.map((argument) =>
    /^[a-z]+(\/[a-z]+)?\.\w+$|^(adapter|o)$/.test(argument) ? join(folder, argument) : argument,
  );
  const { status, stdout, stderr } = await runHere(['convert', ...paths]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(message);
  expect(await listTree(folder)).toEqual(before);
  expect(await readFile(join(folder, 'words.txt'), 'utf8')).toBe('mine');
});

test('words that come twice can be skipped; --overwrite replaces; the result opens as a table', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'twice.txt'), 'a 1 1\nb 2 2\na 3 3\n');
  const out = join(folder, 'o.safetensors');
  await writeFile(out, 'before');
  const said = await convert(join(folder, 'twice.txt'), out, '--duplicates', 'skip', '--overwrite', '--json');
  expect(JSON.parse(said)).toMatchObject({ written: [{ path: out, what: 'F32 [2, 2]' }, { what: '2 words' }] });
  const table = await openTable(out);
  expect(table.gather(Int32Array.of(1)).data).toEqual(Float32Array.of(2, 2));
  table.close();
});

test('interrupted, it leaves nothing', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'glove.txt'), glove);
  await writeTable(join(folder, 'a.safetensors'));
  const before = await listTree(folder);
  for (const [from, to] of [
    ['glove.txt', 'o.npy'],
    ['a.safetensors', 'o.npy'],
  ] as const) {
    const { status, stderr } = await runHere(['convert', join(folder, from), join(folder, to)], interrupted);
    expect({ status, stderr }).toEqual({ status: 130, stderr: 'finetable: interrupted; nothing was written\n' });
    expect(await listTree(folder)).toEqual(before);
  }
});
