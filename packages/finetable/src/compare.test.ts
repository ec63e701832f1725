import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runHere } from './testing/capture.ts';
import { writeTinyJob } from './testing/tiny-job.ts';

test('runs side by side: as text, as JSON, and as a page', async () => {
  const { folder, job } = await writeTinyJob();
  const runs = ['a', 'b'].map((name) => join(folder, name));
  for (const [i, run] of runs.entries())
    expect((await runHere(['train', job, '--run', run, '--set', `adapters.items.rank=${i + 1}`])).status).toBe(0);
  const output = join(folder, 'page.html');
  const told = await runHere(['compare', ...runs, '--output', output]);
  expect(told.status).toBe(0);
  const lines = told.stdout.split('\n');
  expect(lines[0]).toMatch(/^ +a +b$/);
  expect(lines).toContainEqual(expect.stringMatching(/^adapters\.items\.rank +1 +2$/));
  expect(lines).toContainEqual(expect.stringMatching(/^accuracy +[\d.]+ +[\d.]+$/));
  expect(told.stdout).not.toContain('train.seed');
  expect(await readFile(output, 'utf8')).toContain('2 runs compared');
  const json = await runHere(['compare', ...runs, '--output', output, '--json']);
  expect(JSON.parse(json.stdout)).toMatchObject({
    written: output,
    runs: [
      { label: 'a', settings: { 'adapters.items.rank': '1' }, steps: 40 },
      { label: 'b', settings: { 'adapters.items.rank': '2' }, steps: 40 },
    ],
  });
});

test('one run, or a folder that is none, is refused and no page is written', async () => {
  const { folder } = await writeTinyJob();
  const output = join(folder, 'page.html');
  expect((await runHere(['compare', folder, '--output', output])).status).toBe(2);
  const ended = await runHere(['compare', folder, folder, '--output', output]);
  expect(ended.status).toBe(2);
  expect(ended.stderr).toMatch(/is not a finished run/);
  expect(existsSync(output)).toBe(false);
});
