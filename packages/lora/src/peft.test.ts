import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { jagged, makePlan, matrix, RandomStream, type Matrix } from '@finetable/core';
import { readSafetensorsHeader, readTensor, readTensorF32, writeNpy, writeSafetensors } from '@finetable/formats';
import { createTable, openTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import { adapterTensors, loadAdapters, saveAdapters } from './files.ts';
import { adamw } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const python = join(root, '.cache/venv/bin/python');
const noPeers = 'no Python peers: node tools/peers/setup.mjs prepares them where it can';
const tolerance = 1e-5;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peft-'));
});
afterEach(() => rm(folder, { recursive: true }));

function run(...args: string[]): string {
  return execFileSync(python, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function vectors(adapter: Adapter, ids: readonly number[]): Matrix {
  const out = matrix(ids.length, adapter.table.dim);
  adapter.lookup(makePlan(jagged(ids.map((id) => [id])), adapter.table.rows), out);
  return out;
}

function train(adapter: Adapter): void {
  const V = adapter.table.rows;
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  for (let step = 0; step < 20; step++) {
    const bags = [
      [step * 31, step * 7, V - 1],
      [step, step],
    ];
    const plan = makePlan(jagged(bags), V);
    const out = matrix(2, adapter.table.dim);
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, out));
  }
}

const cases: Record<string, AdapterOptions> = {
  plain: { rank: 4, alpha: 16 },
  rsLora: { rank: 4, alpha: 16, rsLora: true },
  random: { rank: 3, alpha: 6, init: 'keras' },
  dora: { rank: 4, alpha: 16, dora: true },
  groups: {
    rank: 4,
    alpha: 16,
    groups: [
      { name: 'new', rows: { from: 3000 }, rank: 2, alpha: 6, rsLora: true },
      { name: 'some', rows: [7, 31, 62], rank: 1, alpha: 0.5 },
    ],
  },
  'groups with dora': { rank: 2, dora: true, groups: [{ name: 'some', rows: [7, 31, 62], rank: 3, alpha: 9 }] },
};

test('PEFT loads exported adapters and gives the same vectors', async (context) => {
  if (!existsSync(python)) context.skip(noPeers);
  const [V, D] = [5000, 32];
  const values = new Float32Array(V * D);
  new RandomStream(1, 'base').fillNormal(values);
  const base = join(folder, 'base.safetensors');
  await writeSafetensors(base, [{ name: 'embeddings', dtype: 'F32', shape: [V, D], data: values }]);
  const ids = [0, 7, 31, 62, 1234, 4999];
  const args = ['--base', base, '--tensor', 'embeddings', '--ids', ids.join()];
  for (const [name, options] of Object.entries(cases)) {
    const table = await openTable(base);
    const adapter = createAdapter(table, options);
    train(adapter);
    const at = join(folder, name);
    await saveAdapters(at, [adapter], { format: 'peft', modulePaths: { [table.name]: 'embedding' } });
    const { data } = vectors(adapter, ids);
    await writeNpy(`${at}.npy`, { dtype: 'F32', shape: [ids.length, D], data });
    args.push('--adapter', at, '--expected', `${at}.npy`);
    adapter.close();
    table.close();
  }
  const lines = run(join(root, 'tools/peers/check_peft.py'), ...args)
    .trim()
    .split('\n');
  const reports = lines.map((line) => JSON.parse(line) as { maxAbsError: number; maxAbsDelta: number });
  expect(reports.length).toBe(Object.keys(cases).length);
  for (const { maxAbsError, maxAbsDelta } of reports) {
    expect(maxAbsError).toBeLessThanOrEqual(tolerance);
    expect(maxAbsDelta).toBeGreaterThan(0.1);
  }
});

/** Loads a folder of `tools/fixtures/dora.py` and compares with what PEFT made of it. */
async function checkDora(made: string): Promise<void> {
  const file = join(made, 'expected.safetensors');
  const header = await readSafetensorsHeader(file);
  const [V, D] = header.tensors.get('embeddings')!.shape as [number, number];
  const table = createTable('embedding', matrix(V, D, await readTensorF32(file, header, 'embeddings')));
  const [adapter] = await loadAdapters(made, [table]);
  const ids = [...((await readTensor(file, header, 'ids')).data as Int32Array)];
  const output = await readTensorF32(file, header, 'output');
  const check = (loaded: Adapter): void =>
    vectors(loaded, ids).data.forEach((value, i) =>
      expect(Math.abs(value - output[i]!)).toBeLessThanOrEqual(tolerance),
    );
  check(adapter!);
  const norms = await readTensorF32(file, header, 'norms');
  adapter!.norms!.norms().forEach((norm, j) => expect(Math.abs(norm - norms[j]!)).toBeLessThanOrEqual(tolerance));

  for (const format of ['sparse', 'peft'] as const) {
    await saveAdapters(join(folder, format), [adapter!], { format });
    const [again] = await loadAdapters(join(folder, format), [table]);
    check(again!);
    expect(adapterTensors(again!).groups).toEqual(adapterTensors(adapter!).groups);
    again!.close();
  }
  adapter!.close();
  table.close();
}

test('a DoRA folder that PEFT made gives the vectors that PEFT gives', () =>
  checkDora(fileURLToPath(new URL('peft-dora.fixture', import.meta.url))));

test('and one that the PEFT of today makes', async (context) => {
  if (!existsSync(python)) context.skip(noPeers);
  const made = join(folder, 'made');
  run(join(root, 'tools/fixtures/dora.py'), made);
  await checkDora(made);
});
