/** Everything that people get wrong: status 2, a message that says where, what and what instead, and no file left. */
import { appendFile, copyFile, mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors } from '@finetable/formats';
import { describe, expect, test } from 'vitest';
import { runHere } from './testing/capture.ts';
import { listTree, tableDim, tableRows, writeTable, writeTinyJob, type TinyJob } from './testing/tiny-job.ts';

interface Case {
  readonly what: string;
  /** Makes the files bad. */
  readonly spoil?: (job: TinyJob) => Promise<unknown>;
  /** Makes the job bad, by `--set`. */
  readonly set?: string;
  readonly code: string;
  /** Parts that the message must have. */
  readonly says: readonly string[];
  readonly details?: object;
}

const addLine = (line: string) => (job: TinyJob) => appendFile(join(job.folder, 'train.jsonl'), `\n${line}\n`);

/** A safetensors file with this header and as many bytes of data. */
async function writeRaw(path: string, header: string, dataBytes: number, lengthField?: bigint): Promise<void> {
  const json = Buffer.from(header);
  const bytes = Buffer.alloc(8 + json.length + dataBytes);
  bytes.writeBigUInt64LE(lengthField ?? BigInt(json.length));
  json.copy(bytes, 8);
  await writeFile(path, bytes);
}

const table = (job: TinyJob): string => join(job.folder, 'table.safetensors');

const cases: Case[] = [
  {
    what: 'an id as large as the table',
    spoil: addLine(`{"ids": [${tableRows}], "label": "a"}`),
    code: 'ID_OUT_OF_RANGE',
    says: ['train.jsonl, line 161', `id ${tableRows}`, `0 to ${tableRows - 1}`],
    details: { line: 161, id: tableRows, table: 'items' },
  },
  {
    what: 'an id beyond 2^31',
    spoil: addLine('{"ids": [4294967297], "label": "a"}'),
    code: 'ID_OUT_OF_RANGE',
    says: ['line 161', 'id 4294967297', `0 to ${tableRows - 1}`],
  },
  {
    what: 'a negative id',
    spoil: addLine('{"ids": [3, -1], "label": "a"}'),
    code: 'INVALID_DATA',
    says: ['line 161', '"ids"', 'found -1', `integers from 0 to ${tableRows - 1}`],
  },
  {
    what: 'a fractional id',
    spoil: addLine('{"ids": [1.5], "label": "a"}'),
    code: 'INVALID_DATA',
    says: ['line 161', '"ids"', 'found 1.5', 'integers from 0'],
  },
  {
    what: 'NaN in rows that are looked up',
    spoil: (job) => writeTable(table(job), [5, 50, 100]),
    code: 'NON_FINITE',
    says: ['items', 'row'],
  },
  {
    what: 'an unknown label',
    spoil: addLine('{"ids": [1], "label": "bb"}'),
    set: 'objective.classes=[a, b, c]',
    code: 'INVALID_DATA',
    says: ['line 161', '"label"', 'unknown class "bb"', '"b"'],
  },
  {
    what: 'a label of the validation data that training has not',
    spoil: (job) => appendFile(join(job.folder, 'valid.jsonl'), '\n{"ids": [1], "label": "d"}'),
    set: 'train.checkpointEverySteps=1000',
    code: 'INVALID_DATA',
    says: ['valid.jsonl, line 25', 'unknown class "d"', '"a"'],
  },
  {
    what: 'a column that one line lacks',
    spoil: addLine('{"ids": [1], "lable": "a"}'),
    code: 'INVALID_DATA',
    says: ['line 161', '"label"', 'the columns there are: "ids", "lable"'],
  },
  {
    what: 'a column that the CSV header lacks',
    spoil: (job) => writeFile(join(job.folder, 'train.csv'), 'id,label\n1,a\n2,b\n'),
    set: 'data.train.file=train.csv',
    code: 'INVALID_DATA',
    says: ['train.csv, header', 'no column "ids"', '"id", "label"'],
  },
  {
    what: 'a line that is not JSON',
    spoil: addLine('{"ids": [1], '),
    code: 'INVALID_DATA',
    says: ['train.jsonl, line 161', 'not JSON'],
  },
  {
    what: 'a truncated table',
    spoil: (job) => truncate(table(job), 1000),
    code: 'INVALID_FILE',
    says: ['table.safetensors', 'truncated', 'the file has 1000'],
  },
  {
    what: 'a header that is longer than the file',
    spoil: (job) => writeRaw(table(job), '{}', 0, 2n ** 40n),
    code: 'INVALID_FILE',
    says: ['table.safetensors', '1099511627776'],
  },
  {
    what: 'tensors that overlap',
    spoil: (job) =>
      writeRaw(
        table(job),
        '{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}}',
        24,
      ),
    code: 'INVALID_FILE',
    says: ['tensor "b"', 'overlaps "a"'],
    details: { tensor: 'b' },
  },
  {
    what: 'a shape that overflows',
    spoil: (job) =>
      writeRaw(table(job), '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', 0),
    code: 'INVALID_FILE',
    says: ['tensor "a"', 'overflows'],
  },
  {
    what: 'a table of one dimension',
    spoil: (job) =>
      writeSafetensors(table(job), [{ name: 'embeddings', dtype: 'F32', shape: [4], data: new Float32Array(4) }]),
    code: 'INVALID_ARGUMENT',
    says: ['table.safetensors', 'no 2-d F32, F16 or BF16 tensor', 'embeddings'],
  },
  {
    what: 'a tensor that is there with three dimensions',
    spoil: (job) =>
      writeSafetensors(table(job), [{ name: 'cube', dtype: 'F32', shape: [2, 2, 2], data: new Float32Array(8) }]),
    set: 'tables.items.tensor=cube',
    code: 'INVALID_FILE',
    says: ['tensor "cube"', '[2, 2, 2]', '[rows, dims]'],
  },
  {
    what: 'a tensor that is not there',
    set: 'tables.items.tensor=weights',
    code: 'INVALID_ARGUMENT',
    says: ['"weights"', 'embeddings'],
  },
  {
    what: 'a rank above min(V, D)',
    set: `adapters.items.rank=${tableDim + 1}`,
    code: 'INVALID_ARGUMENT',
    says: ['items', `rank ${tableDim + 1}`, `1 to ${tableDim}`],
  },
  {
    what: 'an unknown key in the job',
    set: 'train.epoch=3',
    code: 'INVALID_JOB',
    says: ['job.yaml', 'train.epoch', 'did you mean "epochs"'],
    details: { path: 'train.epoch' },
  },
  {
    what: 'a value of the wrong type',
    set: 'data.batchSize=many',
    code: 'INVALID_JOB',
    says: ['data.batchSize', 'found "many"', 'number'],
  },
  {
    what: 'an override without a value',
    set: 'train.epochs',
    code: 'INVALID_JOB',
    says: ['--set train.epochs', 'field.path=value'],
  },
  {
    what: 'a table file that is not there',
    set: 'tables.items.file=tabel.safetensors',
    code: 'NOT_FOUND',
    says: ['tabel.safetensors'],
  },
  {
    what: 'a data file that is not there',
    set: 'data.train.file=trian.jsonl',
    code: 'NOT_FOUND',
    says: ['trian.jsonl'],
  },
  {
    what: 'validation data that are not there',
    set: 'data.validation.file=vaild.jsonl',
    code: 'NOT_FOUND',
    says: ['vaild.jsonl'],
  },
  {
    what: 'a data file without examples',
    spoil: (job) => writeFile(join(job.folder, 'train.jsonl'), '\n\n'),
    code: 'INVALID_DATA',
    says: ['train.jsonl', 'no examples'],
  },
];

describe.each(['--json', ''])('train %s', (json) => {
  test.each(cases)('$what', async ({ spoil, set, code, says, details }) => {
    const job = await writeTinyJob();
    await spoil?.(job);
    const options = set === undefined ? [] : ['--set', set];
    const before = await listTree(job.folder);
    const { status, stdout, stderr } = await runHere(['train', job.job, ...options, ...(json ? [json] : [])]);
    expect(stderr).toContain('finetable: ');
    for (const text of says) expect(stderr).toContain(text);
    expect(stderr, 'no stack').not.toContain('\n    at ');
    expect(status).toBe(2);
    expect(await listTree(job.folder), 'no file is left').toEqual(before);
    if (!json) return;
    const last = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { error: object };
    expect(last.error).toMatchObject({ code, details: details ?? {} });
  });
});

test('a job file that is not there, or is not YAML', async () => {
  const { folder } = await writeTinyJob();
  const missing = await runHere(['train', join(folder, 'jbo.yaml')]);
  expect(missing).toMatchObject({
    status: 2,
    stderr: `finetable: ${join(folder, 'jbo.yaml')}: no such job file; finetable init writes one\n`,
  });
  await writeFile(join(folder, 'broken.yaml'), 'name: x\ntables: {a\n');
  const broken = await runHere(['train', join(folder, 'broken.yaml')]);
  expect(broken.status).toBe(2);
  expect(broken.stderr).toContain('broken.yaml');
  expect(broken.stderr).toMatch(/line \d/);
});

test('a run that is there is neither resumed nor overwritten unasked', async () => {
  const { job, run } = await writeTinyJob();
  expect((await runHere(['train', job])).status).toBe(0);
  const before = await readFile(join(run, 'result.json'), 'utf8');
  const again = await runHere(['train', job]);
  expect(again.status).toBe(2);
  expect(again.stderr).toContain('holds a finished run');
  expect(await readFile(join(run, 'result.json'), 'utf8')).toBe(before);
  expect((await runHere(['train', job, '--overwrite'])).status).toBe(0);
});

test('a folder that is not a run is left alone, whatever was asked for', async () => {
  const { folder, job } = await writeTinyJob();
  const photos = join(folder, 'photos');
  await mkdir(join(photos, 'adapter'), { recursive: true });
  await copyFile(job, join(photos, 'adapter', 'job.yaml'));
  const before = await listTree(folder);
  for (const option of [[], ['--overwrite'], ['--resume']]) {
    const { status, stderr } = await runHere(['train', job, '--run', photos, ...option]);
    expect(status).toBe(2);
    expect(stderr).toContain('not a run (adapter)');
    expect(await listTree(folder)).toEqual(before);
  }
});

test("the job file's own folder is not emptied", async () => {
  const { folder, job } = await writeTinyJob();
  const before = await readFile(job, 'utf8');
  const { status, stderr } = await runHere(['train', job, '--run', folder, '--overwrite']);
  expect(status).toBe(2);
  expect(stderr).toContain("is the job file's own folder");
  expect(await readFile(job, 'utf8')).toBe(before);
});

test('a run is resumed only with the job that it was started with', async () => {
  const { job, run } = await writeTinyJob();
  await runHere(['train', job]);
  const { status, stderr } = await runHere(['train', job, '--resume', '--set', 'optimizer.learningRate=0.5']);
  expect(status).toBe(2);
  expect(stderr).toContain(join(run, 'job.yaml'));
  expect(stderr).toContain('optimizer.learningRate = 0.01, now it is 0.5');
});

test.each([
  [
    'no such run',
    (job: TinyJob) => [join(job.folder, 'nothing'), '--data', join(job.folder, 'valid.jsonl')],
    'is not a run',
  ],
  ['no such data', (job: TinyJob) => [job.run, '--data', join(job.folder, 'vaild.jsonl')], 'vaild.jsonl'],
])('evaluate: %s', async (_, argv, says) => {
  const job = await writeTinyJob();
  await runHere(['train', job.job]);
  const before = await listTree(job.folder);
  const { status, stdout, stderr } = await runHere(['evaluate', ...argv(job)]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(says);
  expect(await listTree(job.folder)).toEqual(before);
});

test('evaluate, interrupted', async () => {
  const { folder, job, run } = await writeTinyJob();
  await runHere(['train', job]);
  const ended = await runHere(['evaluate', run, '--data', join(folder, 'valid.jsonl')], {
    signal: AbortSignal.abort(),
  });
  expect(ended).toMatchObject({ status: 130, stdout: '' });
});
