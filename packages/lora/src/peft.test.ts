import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { jagged, makePlan, matrix, RandomStream } from '@finetable/core';
import { writeNpy, writeSafetensors } from '@finetable/formats';
import { openTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { createAdapter } from './adapter.ts';
import { saveAdapters } from './files.ts';
import { adamw } from './optimizer.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const python = join(root, '.cache/venv/bin/python');
const V = 5000;
const D = 32;

test.for([false, true])(
  'PEFT loads an exported adapter and gives the same vectors (rsLora: %s)',
  async (rsLora, context) => {
    if (!existsSync(python)) context.skip('no Python peers: node tools/peers/setup.mjs prepares them where it can');
    const folder = await mkdtemp(join(tmpdir(), 'peft-'));
    try {
      const values = new Float32Array(V * D);
      new RandomStream(1, 'base').fillNormal(values);
      const base = join(folder, 'base.safetensors');
      await writeSafetensors(base, [{ name: 'embeddings', dtype: 'F32', shape: [V, D], data: values }]);
      const table = await openTable(base);
      const adapter = createAdapter(table, { rank: 4, alpha: 16, rsLora });
      adapter.startTraining(adamw({ learningRate: 0.05 }));
      for (let step = 0; step < 20; step++) {
        const plan = makePlan(
          jagged([
            [step * 31, step * 7, 4999],
            [step, step],
          ]),
          V,
        );
        const out = matrix(2, D);
        adapter.lookup(plan, out, true);
        adapter.update(plan, adapter.gradients(plan, out));
      }
      await saveAdapters(join(folder, 'adapter'), [adapter], {
        format: 'peft',
        modulePaths: { [table.name]: 'embedding' },
      });

      const ids = [0, 7, 31, 62, 1234, 4999];
      const expected = matrix(ids.length, D);
      adapter.lookup(makePlan(jagged(ids.map((id) => [id])), V), expected);
      await writeNpy(join(folder, 'expected.npy'), { dtype: 'F32', shape: [ids.length, D], data: expected.data });

      const output = execFileSync(
        python,
        [
          join(root, 'tools/peers/check_peft.py'),
          '--base',
          base,
          '--tensor',
          'embeddings',
          '--adapter',
          join(folder, 'adapter'),
          '--ids',
          ids.join(),
          '--expected',
          join(folder, 'expected.npy'),
        ],
        { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
      );
      const { maxAbsError, maxAbsDelta } = JSON.parse(output.trim().split('\n').at(-1)!) as {
        maxAbsError: number;
        maxAbsDelta: number;
      };
      expect(maxAbsError).toBeLessThanOrEqual(1e-5);
      expect(maxAbsDelta).toBeGreaterThan(0.1);
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);
