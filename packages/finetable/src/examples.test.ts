/** The examples as a user runs them, on small data: what they print, and that adapters help there. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test, type TestContext } from 'vitest';

let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'finetable-'))));
afterEach(() => rm(folder, { recursive: true, force: true }));

/** What it prints; the test is skipped, with the example's own words, where its data are not here. */
async function example(context: TestContext, name: string, ...args: string[]): Promise<string> {
  const script = fileURLToPath(new URL(`../../../examples/${name}/run.mjs`, import.meta.url));
  try {
    return (await promisify(execFile)(process.execPath, [script, '--out', folder, ...args])).stdout;
  } catch (error) {
    const absent = /^This example needs .*, which are not part of the project\.$/m.exec(
      (error as { stderr: string }).stderr,
    );
    if (absent) context.skip(absent[0]);
    throw error;
  }
}

/** The rows of a Markdown table by their first cells, and those by the names of columns. */
function tableIn(printed: string): Map<string, Record<string, string>> {
  const [header, , ...rows] = printed
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim())); // prettier-ignore
  return new Map(rows.map((cells) => [cells[0]!, Object.fromEntries(cells.map((cell, i) => [header![i]!, cell]))]));
}

test('commands: adapted word vectors find more of them than frozen ones', { timeout: 300_000 }, async (context) => {
  const printed = await example(context, 'commands', '--small');
  expect(printed).toMatch(/^test \d+, valid \d+, train \d{4}\n/);
  const table = tableIn(printed);
  expect([...table.keys()]).toEqual(['frozen', 'LoRA, r = 4', 'LoRA, r = 16', 'LoRA, r = 64', 'full', 'map']);
  const validation = (name: string): number => Number(table.get(name)!['validation mrr@1000']);
  expect(validation('frozen')).toBeGreaterThan(0.3);
  for (const name of ['LoRA, r = 16', 'LoRA, r = 64', 'full']) expect(validation(name)).toBeGreaterThan(validation('frozen')); // prettier-ignore
  expect(table.get('frozen')!['touched rows']).toBe('-');
});

test('next purchase: products that are new are found once they have vectors', { timeout: 300_000 }, async (context) => {
  const printed = await example(context, 'next-purchase', '--small');
  expect(printed).toMatch(/^4477 old and 296 new products; base \d+, train \d+, valid \d+, test \d+\n/);
  const table = tableIn(printed);
  expect([...table.keys()]).toEqual([
    'frozen',
    'LoRA, r = 16',
    'LoRA, r = 16, new products in full',
    'new products in full, the rest frozen',
    'full',
  ]);
  expect(table.get('frozen')!['test recall@20/product=new']).toBe('0.000');
  expect(table.get('new products in full, the rest frozen')!['touched rows']).toMatch(/^\d{2,3}$/);
});

test(
  'clicks: adapters come nearer to the planted model than perceptrons over frozen tables',
  { timeout: 300_000 },
  async (context) => {
    const printed = await example(context, 'clicks', '--small');
    expect(printed).toMatch(/^[\d,]+ rows in 26 tables, 8,000 examples\nthe planted model itself: auc 0\.9\d+/);
    const table = tableIn(printed);
    expect([...table.keys()]).toEqual(['frozen', 'LoRA, r = 4', 'full']);
    const auc = (name: string): number => Number(table.get(name)!['test auc']);
    expect(auc('LoRA, r = 4')).toBeGreaterThan(auc('frozen'));
  },
);

test('tenants: one lookup gives everybody their own vectors', { timeout: 300_000 }, async (context) => {
  const printed = await example(context, 'tenants', '--tenants', '3');
  expect(printed).toMatch(/^3 jobs in .*\n3 adapters of .* on a table of 250 KiB\n/);
  const table = tableIn(printed);
  const recall = (name: string): number => Number(table.get(name)!['recall@20']);
  const own = recall("each with its tenant's adapter");
  expect(own).toBeGreaterThan(recall('shared vectors'));
  expect(own).toBeGreaterThan(recall("each with another tenant's"));
});
