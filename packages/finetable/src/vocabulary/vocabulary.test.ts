import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { temporaryFolder } from '../testing/tiny-job.ts';

async function setUp() {
  const folder = await temporaryFolder();
  const lines = ['The cat', 'the cat sat', 'a dog; the dog', 'Éric'].map((text, i) =>
    JSON.stringify({ text, tags: ['x', i % 2 ? 'y\ny' : ''] }),
  );
  const file = join(folder, 'data.jsonl');
  await writeFile(file, lines.join('\n'));
  return { folder, file, output: join(folder, 'words.txt'), counts: join(folder, 'words.counts.tsv') };
}

const read = (path: string): Promise<string> => readFile(path, 'utf8');

test('words by count, and the counts beside them; for any number of threads', async () => {
  const { folder, file, output, counts } = await setUp();
  const told = await runHere(['vocabulary', file, '--column', 'text', '--output', output]);
  expect(told).toEqual({
    status: 0,
    stdout: `${output}: 6 words of 4 rows\n${counts}: their counts\n`,
    stderr: '',
  });
  expect(await read(output)).toBe('the\ndog\ncat\néric\nsat\na\n'.replace('sat\n', 'sat\n'));
  expect(await read(counts)).toBe('the\t3\ndog\t2\ncat\t2\néric\t1\nsat\t1\na\t1\n');
  const copy = join(folder, 'data-2.jsonl');
  await writeFile(copy, await read(file));
  const again = await runHere([
    'vocabulary',
    file,
    copy,
    '--column',
    'text',
    '--output',
    output,
    '--overwrite',
    '--workers',
    '2',
    '--min-count',
    '3',
    '--json',
  ]);
  expect(JSON.parse(again.stdout)).toEqual({
    written: { words: output, counts },
    words: 3,
    leftOut: 0,
    examples: 8,
    skipped: { count: 0, problems: [] },
  });
  expect(await read(counts)).toBe('the\t6\ndog\t4\ncat\t4\n');
});

test('values, case, limits, and what has no line of its own', async () => {
  const { file, output, counts } = await setUp();
  const tags = await runHere(['vocabulary', file, '--column', 'tags', '--values', '--output', output]);
  expect(tags.stdout).toBe(
    `${output}: 1 words of 4 rows\n${counts}: their counts\nleft out: 2 that are empty or have line breaks\n`,
  );
  expect(await read(counts)).toBe('x\t4\n');
  await runHere([
    'vocabulary',
    file,
    '--column',
    'text',
    '--no-lowercase',
    '--max-words',
    '2',
    '--output',
    output,
    '--overwrite',
  ]);
  expect(await read(output)).toBe('the\ndog\n');
  await writeFile(file, '{"text":1}\n{"text":"a b"}\n{}\n');
  const skipped = await runHere([
    'vocabulary',
    file,
    '--column',
    'text',
    '--skip',
    '2',
    '--output',
    output,
    '--overwrite',
  ]);
  expect(skipped.stdout).toContain('2 words of 1 rows');
  expect(skipped.stdout).toContain(`skipped: 2 bad rows\n  ${file}, line 1, column "text": found 1; allowed: text\n`);
});

test('what people get wrong', async () => {
  const { folder, file, output } = await setUp();
  const refused = async (...argv: string[]): Promise<string> => {
    const { status, stdout, stderr } = await runHere(['vocabulary', ...argv]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    return stderr;
  };
  expect(await refused(file, '--column', 'txt', '--output', output)).toContain(
    'data.jsonl, line 1, column "txt": no such column; the columns there are: "text", "tags"',
  );
  expect(await refused(file, '--column', 'text', '--output', join(folder, 'words.json'))).toContain('allowed: .txt');
  expect(await refused(file, '--column', 'text', '--values', '--ngrams', '2', '--output', output)).toContain(
    '--ngrams goes with words, not with --values',
  );
  expect(await refused(file, '--column', 'text', '--pattern', '(', '--output', output)).toContain(
    'a JavaScript regular expression',
  );
  await writeFile(output, 'mine\n');
  expect(await refused(file, '--column', 'text', '--output', output)).toContain(
    'is there already; choose another name',
  );
  const stopped = await runHere(['vocabulary', file, '--column', 'text', '--output', output, '--overwrite'], {
    signal: AbortSignal.abort(),
  });
  expect(stopped).toMatchObject({ status: 130, stdout: '' });
  expect((await readdir(folder)).sort()).toEqual(['data.jsonl', 'words.txt']);
  expect(await read(output)).toBe('mine\n');
});
