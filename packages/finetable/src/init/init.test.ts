import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readJob } from '@finetable/trainer';
import { expect, test } from 'vitest';
import { Captured, runHere } from '../testing/capture.ts';
import { temporaryFolder, writeTable } from '../testing/tiny-job.ts';
import { writeFirstJob } from './command.ts';

async function files(): Promise<{ table: string; train: string; job: string }> {
  const folder = await temporaryFolder();
  const [table, train, job] = ['items.safetensors', 'train.csv', 'job.yaml'].map((name) => join(folder, name)) as [string, string, string]; // prettier-ignore
  await writeTable(table);
  const row = (i: number): string => `${i % 120} ${(i * 7) % 120},a text of ${i},${i % 120},${'xy'[i % 2]}`;
  await writeFile(train, `past,query text,next,kind\n${Array.from({ length: 40 }, (_, i) => row(i)).join('\n')}\n`);
  return { table, train, job };
}

test.each([
  [
    ['--input', 'past', '--label', 'kind'],
    { type: 'classification', input: 'past', label: 'kind' },
    { past: { column: 'past' } },
  ],
  [
    ['--input', 'past', '--target', 'next'],
    { type: 'ranking', query: 'past', target: 'next' },
    { next: { column: 'next' } },
  ],
  [
    ['--input', 'query text', '--target', 'kind'],
    { type: 'contrastive', anchor: 'input', positive: 'kind' },
    { input: { column: 'query text', tokens: { vocabulary: {} } } },
  ],
])('%j is a job that passes every check', async (options, objective, features) => {
  const { table, train, job } = await files();
  const { status, stdout, stderr } = await runHere(['init', job, '--table', table, '--train', train, ...options]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toBe(`${job}: a job of 40 examples; next: finetable train ${job}\n`);
  const loaded = await readJob(job);
  expect(loaded.job).toMatchObject({ objective, features, tables: { items: { file: 'items.safetensors' } }, adapters: { items: { rank: 8 } } }); // prettier-ignore
  expect(await readFile(job, 'utf8')).toMatch(/^# yaml-language-server: \$schema=.*job\.schema\.json\n/);
});

test('what it writes can be trained', async () => {
  const { table, train, job } = await files();
  await runHere(['init', job, '--table', table, '--train', train, '--input', 'past', '--label', 'kind']);
  expect(await runHere(['train', job, '--set', 'train.epochs=1', '--json'])).toMatchObject({ status: 0 });
});

test('without a terminal a missing option is named, with the columns there are; nothing is written', async () => {
  const { table, train, job } = await files();
  const run = (...options: string[]) => runHere(['init', job, ...options]);
  expect((await run()).stderr).toBe('finetable: --table is missing. Without a terminal nobody is asked\n');
  expect(await run('--table', table, '--train', train)).toMatchObject({ status: 2, stderr: 'finetable: --input is missing; the columns there are: past (ids), query text (text), next (ids), kind (text). Without a terminal nobody is asked\n' }); // prettier-ignore
  expect((await run('--table', table, '--train', train, '--input', 'pst', '--label', 'kind')).stderr).toContain('no column "pst"; there are: past, query text, next, kind'); // prettier-ignore
  expect((await run('--label', 'a', '--target', 'b')).stderr).toContain("cannot be used with option '--target");
  await expect(readFile(job)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a person is asked for what the options do not say; a file that is there stays', async () => {
  const { table, train, job } = await files();
  const answers = [table, train, 'past', 'kind'];
  const asked: string[] = [];
  const io = { stdout: new Captured(80), stderr: new Captured(80), signal: new AbortController().signal };
  const ask = (question: string) => (asked.push(question), Promise.resolve(answers.shift()!));
  await writeFirstJob(job, { rank: 4 }, ask, io);
  expect(asked).toHaveLength(4);
  expect(asked[2]).toContain('past (ids), query text (text)');
  expect((await readJob(job)).job.adapters).toMatchObject({ items: { rank: 4, alpha: 8 } });
  await expect(writeFirstJob(job, { rank: 4 }, ask, io)).rejects.toMatchObject({ code: 'EXISTS' });
});
