/** The Python libraries load what is saved, and give the vectors that were adapted. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makePlan, matrix } from '@finetable/core';
import { writeNpy } from '@finetable/formats';
import { adamw, createAdapter } from '@finetable/lora';
import { expect, test } from 'vitest';
import { openStaticModel } from './model.ts';

const root = fileURLToPath(new URL('../../../..', import.meta.url));
const python = join(root, '.cache/venv/bin/python');
const fixtures = fileURLToPath(new URL('../../test/static', import.meta.url));
const models = ['st-wordpiece', 'st-unigram', 'm2v-wordpiece', 'm2v-bpe', 'm2v-words'];

/** Without importing them, which takes seconds. */
const hasPeers = `
import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) is None for name in ("model2vec", "sentence_transformers")))`;

test('models saved with an adapter give the same vectors in Python', { timeout: 300_000 }, async (context) => {
  if (spawnSync(python, ['-c', hasPeers]).status !== 0)
    context.skip('no model2vec and sentence-transformers: node tools/peers/setup.mjs prepares them where it can');
  const texts = join(fixtures, 'texts.json');
  const list = JSON.parse(await readFile(texts, 'utf8')) as string[];
  const folder = await mkdtemp(join(tmpdir(), 'static-'));
  try {
    const pairs: string[] = [];
    for (const name of models) {
      const model = await openStaticModel(join(fixtures, name));
      const adapter = createAdapter(model.table, { rank: 4, alpha: 8 });
      adapter.startTraining(adamw({ learningRate: 0.1 }));
      const plan = makePlan(model.ids(list), model.table.rows, { pooling: model.pooling });
      const out = matrix(list.length, model.table.dim);
      for (let step = 0; step < 5; step++) {
        adapter.lookup(plan, out, true);
        adapter.update(plan, adapter.gradients(plan, out));
      }
      await model.save(join(folder, name), { adapter });
      // In f16, the merged rows are not quite W + ΔW; what was saved is what counts.
      const merged = await openStaticModel(join(folder, name));
      const { data, rows, cols } = model.table.dtype === 'f32' ? model.encode(list, adapter) : merged.encode(list);
      await writeNpy(join(folder, `${name}.npy`), { dtype: 'F32', shape: [rows, cols], data });
      pairs.push('--model', join(folder, name), join(folder, `${name}.npy`));
      for (const open of [adapter, model, merged]) open.close();
    }
    const arguments_ = [join(root, 'tools/peers/check_static.py'), '--texts', texts, ...pairs];
    // Importing takes three times as long without bytecode.
    const env = { ...process.env, PYTHONDONTWRITEBYTECODE: '' };
    const output = execFileSync(python, arguments_, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], env });
    const report = JSON.parse(output.trim().split('\n').at(-1)!) as { maxAbsError: Record<string, number> };
    expect(Object.keys(report.maxAbsError)).toEqual(models);
    for (const error of Object.values(report.maxAbsError)) expect(error).toBeLessThanOrEqual(1e-5);
  } finally {
    await rm(folder, { recursive: true });
  }
});
