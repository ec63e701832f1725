import { gzipSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  savePeftAdapter,
  saveSparseAdapter,
  writeNpy,
  writeSafetensors,
  type AdapterTensors,
} from '@finetable/formats';
import { expect, test } from 'vitest';
import { Captured, runHere } from '../testing/capture.ts';
import type { ColumnReport, DataReport, TensorsReport } from './report.ts';
import { tableDim, tableRows, temporaryFolder, writeTable, writeTinyJob } from '../testing/tiny-job.ts';

/** Text and JSON of one path, which must both come without a word on stderr. */
async function both(path: string): Promise<{ text: string; report: unknown }> {
  const [text, json] = [await runHere(['inspect', path]), await runHere(['inspect', path, '--json'])];
  expect([text.status, text.stderr, json.status, json.stderr]).toEqual([0, '', 0, '']);
  return { text: text.stdout, report: JSON.parse(json.stdout) };
}

test('safetensors: tensors, metadata, and statistics of a table', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'model.safetensors');
  const rows = Float32Array.of(3, -4, 0, 0, 1, NaN, 2, 2);
  await writeSafetensors(
    path,
    [
      { name: 'table', dtype: 'F32', shape: [4, 2], data: rows },
      { name: 'bias', dtype: 'I64', shape: [3], data: new BigInt64Array(3) },
    ],
    { author: 'me' },
  );
  const { text, report } = await both(path);
  expect(report).toMatchObject({
    kind: 'safetensors',
    metadata: { author: 'me' },
    tensors: [
      { name: 'bias', dtype: 'I64', shape: [3], sizeBytes: 24 },
      { name: 'table', dtype: 'F32', shape: [4, 2], sizeBytes: 32 },
    ],
    tables: [
      {
        tensor: 'table',
        sampledRows: 4,
        nonFiniteRows: 1,
        rows: [
          { row: 0, min: -4, max: 3, norm: 5 },
          { row: 1, min: 0, max: 0, norm: 0 },
          { row: 2, min: null, max: null, norm: null },
        ],
      },
    ],
  });
  expect(text).toContain('bias   I64  [3]     24 B');
  expect(text).toContain('metadata author: me');
  expect(text).toContain('of 4 rows looked at, 1 with NaN or infinity');
  expect(text).toContain('row 0  min -4   max 3    norm 5');
});

test('how the rows of a table are stored: dtype, groups, scales, bytes', async () => {
  const folder = await temporaryFolder();
  const path = (name: string): string => join(folder, name);
  const values = Float32Array.from({ length: 2 * 70 }, (_, i) => (i % 15) - 7);
  await writeNpy(path('a.npy'), { dtype: 'F32', shape: [2, 70], data: values });
  const tables = async (...argv: string[]) => {
    const out = path(`${argv.join('')}.safetensors`);
    expect((await runHere(['convert', path('a.npy'), out, '--dtype', ...argv])).status).toBe(0);
    const { text, report } = await both(out);
    return { text, tables: (report as TensorsReport).tables };
  };
  const rows = [
    { row: 0, min: -7, max: 7 },
    { row: 1, min: -7, max: 7 },
  ];
  const int4 = await tables('int4', '--group', '32');
  expect(int4.tables).toMatchObject([
    {
      tensor: 'embeddings',
      dtype: 'int4',
      dim: 70,
      groupDims: 32,
      scalesPerRow: 3,
      rowBytes: 47,
      f32RowBytes: 280,
      rows,
    },
  ]);
  expect(int4.text).toContain('embeddings: int4, 3 scales a row (groups of 32), 47 B a row (16.8 % of f32); of 2 rows');
  expect(int4.text).toContain('embeddings.scale  F32  [2, 3]');
  const int8 = await tables('int8');
  expect(int8.tables).toMatchObject([{ dtype: 'int8', groupDims: 70, scalesPerRow: 1, rowBytes: 74 }]);
  expect(int8.text).toContain('int8, one scale a row, 74 B a row (26.4 % of f32)');
  expect((await tables('bf16')).text).toContain('embeddings: bf16, 140 B a row (50 % of f32); of 2 rows');
  expect((await both(path('a.npy'))).text).toContain('array: f32, 280 B a row; of 2 rows');
});

test('scales of another kind make no table, and the reason is told', async () => {
  const path = join(await temporaryFolder(), 'other.safetensors');
  await writeSafetensors(path, [
    { name: 't', dtype: 'I8', shape: [2, 2], data: new Int8Array(4) },
    { name: 't.scale', dtype: 'F32', shape: [1], data: new Float32Array(1) },
    { name: 'u', dtype: 'F32', shape: [1, 1], data: Float32Array.of(3) },
  ]);
  const { text, report } = await both(path);
  const { tensors, tables } = report as TensorsReport;
  expect(tables).toMatchObject([{ tensor: 'u', rows: [{ norm: 3 }] }]);
  expect(tensors.map(({ problem }) => problem ?? null)).toEqual([null, null, expect.stringContaining('F32 [2, 1]')]);
  expect(text).toContain(`not a table: ${path}: tensor "t": its scales are F32 [1]`);
});

test('a large table is sampled, not read', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'large.npy');
  async function* zeros(): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < 64; i++) yield new Uint8Array(2 ** 20);
  }
  await writeNpy(path, { dtype: 'F16', shape: [2 ** 20, 32], data: zeros() });
  const { text, report } = await both(path);
  expect(report).toMatchObject({
    kind: 'npy',
    tensors: [{ name: '', dtype: 'F16', shape: [2 ** 20, 32] }],
    tables: [{ sampledRows: 256 }],
  });
  expect(text).toContain('array  F16  [1048576, 32]  64 MiB');
});

test('the index of a sharded model tells the file of each tensor', async () => {
  const folder = await temporaryFolder();
  for (const name of ['a', 'b']) {
    await writeSafetensors(join(folder, `${name}.safetensors`), [
      { name, dtype: 'F32', shape: [2], data: new Float32Array(2) },
    ]);
  }
  const index = join(folder, 'model.safetensors.index.json');
  await writeFile(index, JSON.stringify({ weight_map: { a: 'a.safetensors', b: 'b.safetensors' } }));
  const { text, report } = await both(index);
  expect(report).toMatchObject({
    tensors: [
      { name: 'a', file: join(folder, 'a.safetensors') },
      { name: 'b', file: join(folder, 'b.safetensors') },
    ],
  });
  expect(text).toContain('2 tensors');
  expect(text).toContain('b.safetensors');
});

test('word vectors, text and binary', async () => {
  const folder = await temporaryFolder();
  const glove = join(folder, 'glove.txt');
  await writeFile(glove, 'the 3 4\nof 1 0\n');
  expect((await both(glove)).report).toMatchObject({
    kind: 'words',
    format: 'text',
    rows: null,
    dim: 2,
    words: ['the', 'of'],
    firstRows: [{ norm: 5 }, { norm: 1 }],
  });
  const binary = join(folder, 'vectors.bin');
  const values = Buffer.from(Float32Array.of(3, 4).buffer);
  await writeFile(binary, Buffer.concat([Buffer.from('1 2\nword '), values, Buffer.from('\n')]));
  const { text, report } = await both(binary);
  expect(report).toMatchObject({ format: 'binary', rows: 1, dim: 2, words: ['word'] });
  expect(text).toContain('word vectors (binary)');
  expect(text).toContain('1 rows of 2 dims');
});

test('a run, from interrupted to finished, its adapter, and its job', async () => {
  const { folder, job, run } = await writeTinyJob();
  const stop = new AbortController();
  const stdout = new Captured();
  const keep = stdout._write.bind(stdout);
  // The first event is the start, before any step.
  stdout._write = (...written) => {
    stop.abort();
    keep(...written);
  };
  expect((await runHere(['train', job, '--json'], { signal: stop.signal, stdout })).status).toBe(130);
  const interrupted = await both(run);
  expect(interrupted.report).toMatchObject({
    kind: 'run',
    status: 'interrupted',
    pid: null,
    checkpointSteps: [],
    result: null,
  });
  expect(interrupted.text).toContain('interrupted, before its first checkpoint');

  expect((await runHere(['train', job, '--resume'])).status).toBe(0);
  const finished = await both(run);
  expect(finished.report).toMatchObject({
    status: 'finished',
    name: 'tiny',
    checkpointSteps: [32, 40],
    result: { steps: 40 },
  });
  expect(finished.text).toContain('run "tiny", finished');
  expect(finished.text).toContain('validation  loss');

  const adapter = await both(join(run, 'adapter'));
  expect(adapter.report).toMatchObject({
    kind: 'adapter',
    format: 'sparse',
    adapters: [
      {
        table: 'items',
        base: { rows: tableRows, dim: tableDim, dtype: 'f32' },
        dora: false,
        maxNorm: null,
        grownRows: 0,
        groups: [{ name: 'rest', members: null, kind: 'lora', rank: 2 }],
      },
    ],
  });
  expect(adapter.text).toMatch(/items: rank 2, alpha 2, \d+ of 120 rows/);

  const checked = await both(job);
  expect(checked.report).toMatchObject({ kind: 'job', job: { train: { epochs: 2, keepCheckpoints: 2 } } });
  expect(checked.text).toMatch(/train\.epochs +2$/m);

  await mkdir(join(folder, 'empty'));
  expect(await runHere(['inspect', join(folder, 'empty')])).toMatchObject({ status: 2, stdout: '' });
});

test('a PEFT adapter, and one with groups, DoRA and grown rows', async () => {
  const folder = await temporaryFolder();
  const tensors: AdapterTensors = {
    table: 'embedding',
    base: { rows: 5, dim: 3, dtype: 'f32', fingerprint: null },
    groups: [
      {
        name: 'rest',
        members: null,
        untouched: null,
        kind: 'lora',
        rank: 1,
        alpha: 2,
        rsLora: false,
        rows: Int32Array.of(1, 4),
        a: Float32Array.of(1, 2),
        b: Float32Array.of(1, 2, 3),
      },
    ],
    magnitude: null,
    baseSquares: null,
    maxNorm: null,
    grown: null,
  };
  await savePeftAdapter(join(folder, 'peft'), [tensors]);
  const { text, report } = await both(join(folder, 'peft'));
  expect(report).toMatchObject({
    format: 'peft',
    adapters: [{ table: 'embedding', groups: [{ touchedRows: 2 }], base: { rows: 5, dim: 3 } }],
  });
  expect(text).toContain('peft adapter');
  expect(text).toContain('2 of 5 rows');

  const [rest] = tensors.groups;
  const grouped: AdapterTensors = {
    ...tensors,
    groups: [
      { ...rest!, members: Int32Array.of(0, 3, 4, 5) },
      { ...rest!, name: 'new', members: Int32Array.of(3, 4, 5, 7), kind: 'dense', rank: 3, rows: Int32Array.of(6), a: new Float32Array(3), b: null },
    ],
    magnitude: new Float32Array(3),
    maxNorm: 2.5,
    grown: new Float32Array(6),
  }; // prettier-ignore
  await saveSparseAdapter(join(folder, 'sparse'), [grouped]);
  const sparse = await both(join(folder, 'sparse'));
  expect(sparse.report).toMatchObject({
    format: 'sparse',
    adapters: [
      {
        dora: true,
        maxNorm: 2.5,
        grownRows: 2,
        groups: [
          { name: 'rest', members: 4 },
          { name: 'new', members: 3 },
        ],
      },
    ],
  });
  expect(sparse.text).toContain(
    'embedding: rank 1, alpha 2, 2 of 4 rows, 20 B; DoRA; vectors no longer than 2.5; grown by 2 rows; base [5, 3] f32',
  );
  expect(sparse.text).toContain('    group "new": dense, 1 of 3 rows, 12 B');
});

test('JSON Lines: columns, what they hold, and how many rows there are', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'a.jsonl');
  const lines = Array.from({ length: 150 }, (_, i) =>
    JSON.stringify({ ids: [i, i + 1], weight: i + 0.5, label: i % 2 ? 'odd' : 'even', ...(i < 3 && { note: null }) }),
  );
  await writeFile(path, `${lines.slice(0, 50).join('\n')}\n\n${lines.slice(50).join('\r\n')}`);
  const { text, report } = await both(path);
  expect(report).toMatchObject({
    kind: 'data',
    format: 'jsonl',
    rows: 150,
    sampledRows: 150,
    columns: [
      {
        ...{ name: 'ids', types: ['list of integers'], missing: 0, examples: ['[0,1]', '[1,2]', '[2,3]'] },
        numbers: { min: 0, mean: 75, max: 150 },
        listLengths: { min: 2, mean: 2, max: 2 },
        textLengths: null,
        frequencies: {
          ...{ places: 300, distinct: 151, complete: true, distinctEstimate: 151 },
          head: [1, 2, 3, 4, 5].map((id) => ({ value: String(id), count: 2 })),
          histogram: [
            { from: 1, to: 1, values: 2, share: 2 / 300 },
            { from: 2, to: 3, values: 149, share: 298 / 300 },
          ],
        },
      },
      { name: 'weight', types: ['number'], numbers: { min: 0.5, mean: 75, max: 149.5 }, frequencies: null },
      { name: 'label', types: ['text'], examples: ['even', 'odd'], textLengths: { min: 3, mean: 3.5, max: 4 } },
      { name: 'note', types: ['null'], missing: 147, numbers: null, textLengths: null, frequencies: null },
    ],
    problemCount: 0,
    problems: [],
  });
  expect(text).toContain('2 to 3 times      149 different, 99.3 % of all ####################\n');
  expect(text).toContain('most frequent     1 (2), 2 (2), 3 (2), 4 (2), 5 (2)\n');
  expect(text).toContain('150 rows');
  expect(text).toContain('null (missing in 147 of 150)');
});

test('the first problems: lines that cannot be read, kinds that change, integers that are not exact', async () => {
  const path = join(await temporaryFolder(), 'problems.jsonl');
  const lines = Array.from({ length: 400 }, (_, i) => `{"id":${i},"n":${i % 2 ? 'null' : '1.5'},"ids":[${i}]}`);
  lines[9] = '{"id":9,';
  lines[150] = '{"id":"150","n":2,"ids":[]}';
  lines[151] = '{"id":9007199254740993,"n":3,"ids":["a"],"late":true}';
  for (let i = 300; i < 310; i++) lines[i] = 'x';
  await writeFile(path, lines.join('\n'));
  const { text, report } = await both(path);
  expect(report).toMatchObject({ rows: 400, sampledRows: 400, problemCount: 14 });
  const { problems, columns } = report as DataReport;
  expect(problems.map((problem) => problem.replace(path, 'f').replace(/not JSON: .*/, 'not JSON'))).toEqual([
    'f, line 10: not JSON',
    'f, line 151, column "id": found integer text; the rows before have number',
    'f, line 152, column "id": found 9007199254740992, with an integer past 2^53, which a number does not hold exactly',
    'f, line 152, column "ids": found list of text; the rows before have list of numbers',
    'f, line 301: not JSON',
    'f, line 302: not JSON',
  ]);
  expect(columns.at(-1)).toMatchObject({ name: 'late', types: ['boolean'], missing: 400 - 11 - 1 });
  expect(text).toContain('\n14 problems, the first of them:\n  ');
});

test('of a large file runs of rows spread over it', async () => {
  const path = join(await temporaryFolder(), 'large.csv');
  const ids = Array.from({ length: 150_000 }, (_, i) => i);
  await writeFile(path, `id\n${ids.join('\n')}\n`);
  const { text, report } = await both(path);
  const { rows, sampledRows, columns, problemCount } = report as DataReport;
  expect([rows, sampledRows, problemCount]).toEqual([150_000, 100_000, 0]);
  const [{ numbers, frequencies }] = columns as [ColumnReport];
  expect(numbers!.min).toBe(0);
  expect(numbers!.max).toBeGreaterThan(149_000);
  expect(frequencies).toMatchObject({ distinct: 100_000, histogram: [{ from: 1, to: 1, values: 100_000, share: 1 }] });
  expect(frequencies!.distinctEstimate).toBeGreaterThan(150_000);
  expect(text).toContain('150,000 rows; 100,000 of them, spread over the file, looked at');
});

test.each(['zstd.parquet', 'lz4.feather', 'stream.arrows'])('columns that a file stores: %s', async (name) => {
  const path = fileURLToPath(new URL(`../../../data/test/columns/${name}`, import.meta.url));
  const { report, text } = await both(path);
  expect(report).toMatchObject({ kind: 'data', format: /parquet/.test(name) ? 'parquet' : 'arrow', rows: 30 });
  const columns = (report as { columns: { name: string }[] }).columns;
  expect(Object.fromEntries(columns.map((column) => [column.name, column]))).toMatchObject({
    id: { types: ['integer'], examples: ['0', '7', '14'] },
    text: { types: ['text', 'null'] },
    weights: { types: ['list of numbers', 'empty list'] },
    day: { types: ['text'], examples: expect.arrayContaining(['2020-01-01T00:00:00.000Z']) as string[] },
    raw: { types: ['binary (cannot be read)'], examples: [] },
    big: { types: ['integer'] },
    ids: { numbers: { min: 0, max: 2 }, frequencies: { distinct: 3 } },
  });
  expect(text).toContain('binary (cannot be read)');
});

test('TSV, compressed', async () => {
  const path = join(await temporaryFolder(), 'a.tsv.gz');
  await writeFile(path, gzipSync('id\ttext\n1\ta, b\n'));
  const { report } = await both(path);
  expect(report).toMatchObject({
    format: 'tsv',
    rows: 1,
    columns: [{ name: 'id' }, { name: 'text', examples: ['a, b'] }],
  });
});

test('CSV: quotes, line ends inside them, and numbers in text', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'a.csv');
  await writeFile(path, '\ufeffid,ids,"a ""text"""\r\n1,3 17 5,"two\nlines, ""quoted"""\r\n2,"[1,2]",\n');
  const { report } = await both(path);
  expect(report).toMatchObject({
    format: 'csv',
    rows: 2,
    sampledRows: 2,
    columns: [
      { name: 'id', types: ['integer text'], examples: ['1', '2'] },
      { name: 'ids', types: ['integers text', 'text'] },
      { name: 'a "text"', types: ['text', 'empty'], examples: ['two lines, "quoted"', ''] },
    ],
  });
});

test.each([
  ['bad.jsonl', '{"a": ', 'bad.jsonl, line 1: not JSON'],
  ['list.jsonl', '[1]\n', 'line 1: found [1]; allowed: a JSON object'],
  ['empty.jsonl', '\n \n', 'empty.jsonl: no examples: blank lines only'],
  ['fields.csv', 'a,b\n3\n', 'fields.csv, line 2: found 1 fields; allowed: 2'],
  ['quote.csv', 'a,b\n1,x"y"\n', 'quote.csv, line 2: field 2: a quote inside a field without quotes'],
  ['open.csv', 'a,b\n1,"x\n', 'open.csv, line 2: a quote is opened in this record and never closed'],
  ['job.yaml', 'name: x\ntable: {}\n', 'did you mean "tables"'],
  ['cut.safetensors', '12345678', 'cut.safetensors'],
  ['none.npy', 'no', 'none.npy: does not begin with the bytes of a .npy file'],
  ['letter.txt', 'Dear all,\n', 'Is this a word vector file?'],
])('%s is refused with status 2', async (name, content, message) => {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, content);
  const { status, stdout, stderr } = await runHere(['inspect', path]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(message);
});

test('what is not there', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'table.safetensors');
  await writeTable(path);
  await symlink(path, join(folder, 'link.safetensors'));
  expect((await both(join(folder, 'link.safetensors'))).report).toMatchObject({ kind: 'safetensors' });
  await rm(path);
  const { status, stderr } = await runHere(['inspect', path]);
  expect(status).toBe(2);
  expect(stderr).toBe(`finetable: ${path}: no such file or folder\n`);
});
