import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeSafetensors } from '@finetable/formats';
import { parseHTML } from 'linkedom';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkJob, type LoadedJob } from '../job/read.ts';
import { runFolder, runJob, type RunResult } from '../run/run.ts';
import { compareRuns, comparisonRows } from './compare.ts';
import { writeReport } from './write.ts';

const D = 4;
/** Two clusters; words of the second half are never read. The first is markup. */
const words = ['<b>a&b</b>', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight'];
let folder: string;
let result: RunResult;
const notes: string[] = [];

function job(name: string, rank: number, report?: object): LoadedJob {
  const input = {
    name,
    tables: { items: { file: 'items.safetensors' } },
    data: { train: { file: 'train.jsonl' }, validation: { file: 'train.jsonl' }, batchSize: 4, workers: 0 },
    features: { text: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'text', label: 'class' },
    adapters: { items: { rank } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    train: { epochs: 3, logEverySteps: 2, sliceBy: ['language'], metrics: ['f1-macro'] },
    ...(report && { report }),
  };
  return { job: checkJob(input), folder };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'report-'));
  const data = Float32Array.from({ length: words.length * D }, (_, i) => Math.sin(1 + i * i));
  await writeSafetensors(join(folder, 'items.safetensors'), [
    { name: 'rows', dtype: 'F32', shape: [words.length, D], data },
  ]);
  await writeFile(join(folder, 'words.txt'), words.join('\n'));
  const line = (i: number): string =>
    JSON.stringify({ ids: [i % 4], class: i % 2 ? 'odd' : 'even', language: i % 3 ? 'de' : '"en"' });
  await writeFile(join(folder, 'train.jsonl'), Array.from({ length: 24 }, (_, i) => `${line(i)}\n`).join(''));
  result = await runJob(job('small', 2), { onNote: (note) => notes.push(note) });
});
afterAll(() => rm(folder, { recursive: true }));

type Document = ReturnType<typeof parseHTML>['document'];
const open = async (path: string): Promise<Document> => parseHTML(await readFile(path, 'utf8')).document;
const cells = (document: Document, selector: string): string[][] =>
  [...document.querySelectorAll(`${selector} tr`)].map((row) =>
    [...row.querySelectorAll('th, td')].map((cell) => cell.textContent),
  );

test('changes: where touched rows lie, how far they moved, and what is near them, before and after', () => {
  const { positions, sampledRows, moved, probes } = result.changes!.items!;
  expect(positions).toEqual([1, 1, 1, 1, 0, 0, 0, 0]);
  expect(sampledRows).toBe(4);
  expect(moved.counts.reduce((a, b) => a + b)).toBe(4);
  expect(moved.edges[0]).toBe(0);
  expect(moved.median).toBeGreaterThan(0);
  expect(probes.map(({ row }) => row).sort()).toEqual([0, 1, 2, 3]);
  const distances = probes.map((probe) => probe.moved);
  expect(distances).toEqual([...distances].sort((a, b) => b - a));
  for (const { word, row, before, after } of probes) {
    expect(word).toBe(words[row]);
    for (const near of [before, after]) {
      expect(near).toHaveLength(5);
      expect(near.map((neighbour) => neighbour.word)).not.toContain(word);
    }
    expect(after).not.toEqual(before);
  }
});

test('the page holds curves, metrics, slices, settings and rows, loads nothing, and shows data as text', async () => {
  expect(notes).toEqual([]);
  const path = join(runFolder(job('small', 2)), 'report.html');
  const text = await readFile(path, 'utf8');
  expect(text.replaceAll('http://www.w3.org', '')).not.toMatch(/https?:|<script|<link|<img|url\(|@import/);
  const document = await open(path);
  expect(document.querySelector('title')!.textContent).toBe('small');
  expect(document.querySelector('html')!.getAttribute('lang')).toBe('en');
  const figures = [...document.querySelectorAll('figure')];
  expect(figures.map((figure) => figure.querySelector('figcaption')!.firstChild!.textContent!.trim())).toEqual([
    'loss',
    'accuracy',
    'f1-macro',
    'examples per second',
    'rows touched',
    'Where they lie in the table',
    'How far they moved, as a share of their length',
  ]);
  for (const figure of figures) {
    expect(figure.querySelector('svg path, svg rect, svg circle')).not.toBeNull();
    expect(figure.querySelector('details table')).not.toBeNull();
  }
  // Three evaluations: a line of three points, and their values.
  expect(cells(document, '#curves figure:nth-of-type(3) tbody').map(([step]) => step)).toEqual(['6', '12', '18']);
  const [header, ...metrics] = cells(document, '#results .scroll:nth-of-type(1) table');
  expect(header).toEqual(['metric', 'validation', 'training, last epoch']);
  expect(metrics.map(([name]) => name)).toEqual(['loss', 'accuracy', 'f1-macro']);
  expect(Number(metrics[0]![1])).toBeCloseTo(result.validation!.loss!, 2);
  const slices = cells(document, '#results .scroll:nth-of-type(2) tbody');
  expect(slices.map(([slice]) => slice).sort()).toEqual(['language="en"', 'language=de']);
  expect(cells(document, '#settings tbody')).toContainEqual(['adapters.items.rank', '2']);
  expect(cells(document, '#near-items tbody').map(([word]) => word)).toContain('<b>a&b</b>');
  // Every place that links lead to is there, and what scrolls can be reached with a keyboard.
  for (const link of document.querySelectorAll('a'))
    expect(document.querySelector(link.getAttribute('href')!)).not.toBeNull();
  for (const region of document.querySelectorAll('.scroll')) expect(region.getAttribute('tabindex')).toBe('0');
});

test('a page can be written again from the files of the run', async () => {
  const path = join(runFolder(job('small', 2)), 'report.html');
  const before = await readFile(path, 'utf8');
  await rm(path);
  expect(await writeReport(runFolder(job('small', 2)))).toBe(path);
  expect(await readFile(path, 'utf8')).toBe(before);
  await expect(writeReport(folder)).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('probes that the job names are shown in their order; none are where it cannot be said what rows mean', async () => {
  const named = await runJob(job('named', 2, { probes: ['eight', 1, 'nobody'] }));
  expect(named.changes!.items!.probes.map(({ word }) => word)).toEqual(['eight', 'two']);
  await rm(join(folder, 'words.txt'));
  const nameless = await runJob(job('nameless', 3));
  expect(nameless.changes!.items!.probes).toEqual([]);
  await writeFile(join(folder, 'words.txt'), words.join('\n'));
  expect(await readFile(join(folder, 'runs/nameless/report.html'), 'utf8')).not.toContain('near-items');
});

test('runs side by side: what differs in settings, metrics, times and sizes', async () => {
  const wide = await runJob(job('wide', 4), { report: false });
  const folders = ['small', 'wide'].map((name) => join(folder, 'runs', name));
  const html = join(folder, 'compare.html');
  const compared = await compareRuns(folders, html);
  expect(compared.map(({ label }) => label)).toEqual(['small', 'wide']);
  expect(compared.map(({ settings }) => settings)).toEqual([
    { 'adapters.items.rank': '2' },
    { 'adapters.items.rank': '4' },
  ]);
  expect(compared[1]!.metrics).toEqual(wide.validation);
  expect(compared[1]!.adapterBytes).toBe(4 * (4 * 4 + 4 * D));
  expect(comparisonRows(compared)[0]).toEqual({
    title: 'Settings that differ',
    rows: [['adapters.items.rank', '2', '4']],
  });
  const document = await open(html);
  expect(cells(document, '#tables .scroll:nth-of-type(1) table')).toEqual([
    ['', 'small', 'wide'],
    ['adapters.items.rank', '2', '4'],
  ]);
  const [first] = document.querySelectorAll('figure');
  expect(first!.querySelector('.legend')!.textContent).toBe('smallwide');
  expect(first!.querySelectorAll('g[aria-label="line"] path')).toHaveLength(2);
  await expect(compareRuns([folders[0]!])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(compareRuns([folders[0]!, folder])).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
