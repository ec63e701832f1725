import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { tableDim, tableRows, writeTinyJob } from '../testing/tiny-job.ts';

test('a plan as a table: sizes, places, working memory, time', async () => {
  const { job, folder, run } = await writeTinyJob();
  const before = await readdir(folder);
  const { status, stdout, stderr } = await runHere(['plan', job, '--set', 'placement.memory=200MB']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(
    /^items: 120 rows of 8 dims, f32, 3\.75 KiB; a batch has 32 ids of about 28 rows; training touches about 120\n/,
  );
  expect(stdout).toMatch(/^table +device +rows +columns +size +lookups +time a batch$/m);
  expect(stdout).toMatch(/^items +ram +0 to 119 +0 to 7 +3\.75 KiB +100\.0 % +[\d.]+ µs$/m);
  expect(stdout).toMatch(/^ {2}process +96 MiB$/m);
  expect(stdout).toMatch(/^ram +3\.75 KiB +0 B +96[.\d]* MiB +96[.\d]* MiB +191 MiB \(placement\.memory 200MB, the /m);
  expect(stdout).toMatch(/^mapped +0 B +0 B +0 B +0 B +no limit$/m);
  expect(stdout).toMatch(/^a step reads and writes memory for [\d.]+ µs/m);
  expect(await readdir(folder)).toEqual(before);
  expect(existsSync(run)).toBe(false);
});

test('--json: the plan as one object', async () => {
  const { job } = await writeTinyJob();
  const { status, stdout } = await runHere(['plan', job, '--json', '--set', 'tables.items.placement=mapped']);
  expect(status).toBe(0);
  const plan = JSON.parse(stdout) as { devices: { reservedBytes: number }[]; reserved: Record<string, number> };
  expect(plan).toMatchObject({
    tables: [
      {
        name: 'items',
        shards: [{ device: 'mapped', firstRow: 0, rows: tableRows, columns: tableDim, hitRate: 1, cache: null }],
      },
    ],
    devices: [{ name: 'ram', tableBytes: 0 }, { name: 'mapped' }],
    notes: [],
  });
  expect(Object.values(plan.reserved).reduce((a, b) => a + b, 0)).toBe(plan.devices[0]!.reservedBytes);
});

test('what was assumed is said', async () => {
  const { job } = await writeTinyJob();
  const { status, stdout } = await runHere(['plan', job, '--set', 'data.train.file=gone.jsonl']);
  expect(status).toBe(0);
  expect(stdout).toMatch(/\nnote: gone\.jsonl could not be looked at .*20 ids an example are assumed/);
});

test.each(['plan', 'train'])('%s: a job that does not fit is refused with status 2, with numbers', async (command) => {
  const { job, folder } = await writeTinyJob();
  const before = await readdir(folder);
  const argv = [command, job, '--set', 'placement.memory=1KB'];
  const { status, stdout, stderr } = await runHere(argv);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toMatch(
    /^finetable: the plan does not fit: ram needs 96[.\d]* MiB \(process 96 MiB, .*\), its budget is 1000 B \(placement\.memory 1KB, .*\): 96[.\d]* MiB short\. Any one of these makes it fit:\n {2}- raise the budget of ram to 97 MiB\n$/,
  );
  const json = await runHere([...argv, '--json']);
  expect(json.status).toBe(2);
  expect(JSON.parse(json.stdout)).toMatchObject({
    error: { code: 'DOES_NOT_FIT', details: { device: 'ram', budgetBytes: 1000, remedies: [expect.any(String)] } },
  });
  expect(await readdir(folder)).toEqual(before);
});

test.each(['8 gigs', '101%', -1])('a budget of %j is refused by its field', async (size) => {
  const { job } = await writeTinyJob();
  const { status, stderr } = await runHere(['plan', job, '--set', `placement.memory=${size}`]);
  expect(status).toBe(2);
  expect(stderr).toMatch(/placement\.memory: .* is not a size; allowed: a number of bytes, or text such as "8GiB"/);
});
