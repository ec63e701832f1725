import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MetricsLog } from './metrics-log.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'metrics-'));
  path = join(folder, 'metrics.jsonl');
});
afterEach(() => rm(folder, { recursive: true }));

const line = (step: number): string => `${JSON.stringify({ step, note: 'größer' })}\n`;
const lines = (...steps: number[]): string => steps.map(line).join('');

async function append(step: number, ...steps: number[]): Promise<void> {
  const log = new MetricsLog(path, step);
  for (const at of steps) log.write({ step: at, note: 'größer' });
  log.sync();
  await log.close();
}

test('a resumed run keeps the lines up to its step and goes on after them', async () => {
  await append(0, 1, 2, 2, 3);
  expect(await readFile(path, 'utf8')).toBe(lines(1, 2, 2, 3));
  await append(2, 3, 4);
  expect(await readFile(path, 'utf8')).toBe(lines(1, 2, 2, 3, 4));
  await append(0);
  expect(await readFile(path, 'utf8')).toBe('');
});

test.each(['{"step": 2', '{"step": 2}\n\0\0\0\n{"step": 2}\n', '{"step": 2}\nnull\n', '{"step": 2}\n{"loss": 1}\n'])(
  'what is no whole line of ours is dropped, and all after it: %j',
  async (rest) => {
    await writeFile(path, lines(1) + rest);
    await append(9, 3);
    const kept = rest.includes('\n') ? '{"step": 2}\n' : '';
    expect(await readFile(path, 'utf8')).toBe(lines(1) + kept + line(3));
  },
);
