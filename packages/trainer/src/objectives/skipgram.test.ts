/** Word vectors from texts, by a loader. */
import { matrix, RandomStream } from '@finetable/core';
import { openLoader, type Row } from '@finetable/data';
import { adam, createAdapter } from '@finetable/lora';
import { createTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { Trainer } from '../trainer.ts';
import { cbow, skipgram } from './skipgram.ts';

const V = 12;
const D = 8;
/** Words 0 to 5 stand together, and 6 to 11. */
const random = new RandomStream(1, 'texts');
const rows: Row[] = Array.from({ length: 60 }, (_, i) => ({
  words: Array.from({ length: 1 + (i % 7) }, (_, j) => 6 * (i % 2) + random.below(8 * i + j, 6)),
}));

const tableOf = (name: string) => {
  const values = matrix(V, D);
  new RandomStream(2, name).fillNormal(values.data, 0.1);
  return createTable(name, values);
};

test.each([
  ['skipgram', skipgram, 'contexts'],
  ['skipgram over one table', skipgram, 'words'],
  ['cbow', cbow, 'contexts'],
] as const)('%s: words that stand together become alike', async (_, make, contexts) => {
  const words = { column: 'words', pooling: 'none' } as const;
  const names = [...new Set(['words', contexts])];
  const open = (workers: number) =>
    openLoader(
      {
        source: { rows },
        features: { word: { table: 'words', ...words }, around: { table: contexts, ...words } },
        labels: {},
        tables: Object.fromEntries(names.map((name) => [name, { rows: V }])),
      },
      { batchSize: 12, workers, shuffle: true },
    );
  const train = async (workers: number) => {
    const loader = await open(workers);
    const adapters = Object.fromEntries(names.map((name) => [name, createAdapter(tableOf(name), { kind: 'dense' })]));
    const objective = make({ input: 'word', context: 'around', window: 2, counts: new Float64Array(V).fill(20) });
    const trainer = new Trainer({ adapters, objective, optimizer: adam({ learningRate: 0.05 }) });
    const before = await trainer.evaluate(loader);
    await trainer.fit(loader, { epochs: 30 });
    const after = await trainer.evaluate(loader);
    await loader.close();
    const vectors = adapters['words']!.vectors(Int32Array.from({ length: V }, (_, i) => i));
    return { before, after, vectors };
  };
  const { before, after, vectors } = await train(0);
  expect(after['loss']).toBeLessThan(before['loss']! - 0.2);
  const cosine = (a: number, b: number): number => {
    const [x, y] = [a, b].map((row) => vectors.data.subarray(row * D, (row + 1) * D)) as [Float32Array, Float32Array];
    const dot = (p: Float32Array, q: Float32Array): number => p.reduce((sum, value, i) => sum + value * q[i]!, 0);
    return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
  };
  let [near, far] = [0, 0];
  for (let a = 0; a < V; a++) {
    for (let b = 0; b < a; b++) {
      if (a < 6 === b < 6) near += cosine(a, b) / 30;
      else far += cosine(a, b) / 36;
    }
  }
  expect(near).toBeGreaterThan(far + 0.4);
  // Pairs do not depend on who makes the batches.
  expect((await train(2)).vectors.data).toEqual(vectors.data);
});

test('what is wrong is named', () => {
  const refused = (options: object, message: RegExp): void =>
    expect(() => skipgram({ input: 'word', context: 'around', ...options })).toThrow(message);
  refused({ context: 'word' }, /input and context are one feature/);
  refused({ window: 0 }, /window: found 0; allowed: 1 or more/);
  refused({ negatives: 1.5 }, /negatives: found 1.5/);
  refused({ subsample: 1e-3 }, /subsample needs counts/);
});
