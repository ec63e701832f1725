/** What must hold in a run's folder whatever happened to the process that worked in it. */
import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadAdapter, readSafetensorsHeader, verifyManifest } from '@finetable/formats';
import { expect } from 'vitest';

/** Names under which incomplete things may be found. */
const temporary = /^(\.finetable-(tmp|old)-|lock)/;

/** Everything that has its final name is complete. @returns the steps of the checkpoints, ascending */
export async function expectComplete(run: string): Promise<number[]> {
  if (!existsSync(run)) return [];
  const names = (await readdir(run)).filter((name) => !temporary.test(name));
  const known = [
    'adapter',
    'checkpoints',
    'data',
    'job.yaml',
    'metrics.jsonl',
    'objective.safetensors',
    'report.html',
    'result.json',
  ];
  expect(known).toEqual(expect.arrayContaining(names));
  if (names.includes('job.yaml')) expect(readFileSync(join(run, 'job.yaml'), 'utf8')).toMatch(/^name: .*[^]*\n$/);
  if (names.includes('metrics.jsonl')) {
    const text = readFileSync(join(run, 'metrics.jsonl'), 'utf8');
    expect(text === '' || text.endsWith('\n')).toBe(true);
    for (const line of text.split('\n').slice(0, -1)) expect(JSON.parse(line)).toHaveProperty('step');
  }
  if (names.includes('objective.safetensors')) await readSafetensorsHeader(join(run, 'objective.safetensors'));
  if (names.includes('adapter')) await loadAdapter(join(run, 'adapter'));
  if (names.includes('result.json')) {
    expect(JSON.parse(readFileSync(join(run, 'result.json'), 'utf8'))).toHaveProperty('checksums');
    expect(names).toEqual(expect.arrayContaining(['adapter', 'objective.safetensors']));
  }
  if (!names.includes('checkpoints')) return [];
  const checkpoints = (await readdir(join(run, 'checkpoints'))).filter((name) => !temporary.test(name));
  for (const name of checkpoints) {
    expect(name).toMatch(/^step-\d{8}$/);
    const entries = await verifyManifest(join(run, 'checkpoints', name));
    expect(entries.map((entry) => entry.name)).toEqual([
      'adapter-items.safetensors',
      'objective.safetensors',
      'progress.json',
    ]);
    JSON.parse(readFileSync(join(run, 'checkpoints', name, 'progress.json'), 'utf8'));
  }
  return checkpoints.map((name) => Number(name.slice(5))).sort((a, b) => a - b);
}

/** The bytes that two runs of one job must agree on, by name. */
export async function resultBytes(run: string): Promise<Record<string, string>> {
  const adapter = (await readdir(join(run, 'adapter'))).map((name) => join('adapter', name));
  const files = [...adapter, 'objective.safetensors'].sort();
  return Object.fromEntries(
    await Promise.all(files.map(async (name) => [name, (await readFile(join(run, name))).toString('base64')] as const)),
  );
}

/**
 * The log without how fast it went, and without the means of `step` lines: the first after a resume is over the steps since
 * the checkpoint.
 */
export async function loggedLines(run: string): Promise<object[]> {
  const lines = (await readFile(join(run, 'metrics.jsonl'), 'utf8')).trimEnd().split('\n');
  return lines.map((line) => {
    const event = JSON.parse(line) as { type: string };
    return event.type === 'step' ? { ...event, examplesPerSecond: 0, waitSeconds: 0, memoryBytes: 0, metrics: {} } : event;
  });
}
