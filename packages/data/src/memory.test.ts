/** Batches that are given back: the same bytes in the same memory. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { batchBuffers } from './assemble.ts';
import type { Batch } from './batch.ts';
import type { Loader } from './loader.ts';
import { BatchMemory, MemorySource, SpareMemory } from './memory.ts';
import type { DataSpec } from './spec.ts';
import { collect, using } from './testing/batches.ts';
import { jsonLines, testFolder } from './testing/folder.ts';

const { path: folder } = testFolder();
const examples = 250;
const rows = Array.from({ length: examples }, (_, v) => ({
  id: v,
  ids: Array.from({ length: 1 + ((v * 7) % 5) }, (_, k) => v + k),
  shares: Array.from({ length: 1 + ((v * 7) % 5) }, (_, k) => k + 0.5),
  text: `some text ${v}`,
  class: `c${v % 3}`,
  tags: v % 2 === 0 ? ['a', 'b'] : [],
  price: v + 1,
}));
const files = [0, 1].map((i) => {
  const file = join(folder, `${i}.jsonl`);
  writeFileSync(file, jsonLines(rows.slice(125 * i, 125 * i + 125)));
  return file;
});
const data: DataSpec = {
  source: { file: files },
  features: {
    id: { table: 'items', column: 'id', pooling: 'sum' },
    ids: { table: 'items', column: 'ids', weights: 'shares' },
    each: { table: 'grams', column: 'text', ngrams: {}, pooling: 'none' },
  },
  negatives: { others: { of: 'id', count: 3, exclude: ['id', 'ids'] } },
  labels: {
    class: { column: 'class' },
    tags: { column: 'tags', type: 'classes' },
    score: { column: 'id', type: 'number' },
  },
  numbers: { sizes: { column: ['price', 'id'] } },
  weight: { column: 'price' },
  id: { column: 'text' },
  tables: { items: { rows: 300 }, grams: { rows: 1000 } },
};
const epochs = 4;
const options = { batchSize: 8, shuffle: true, seed: 3 };

async function recycled(loader: Loader): Promise<{ batches: Batch[]; buffers: number[] }> {
  const batches: Batch[] = [];
  const buffers: number[] = [];
  for await (const batch of loader.batches(0, 0, epochs)) {
    buffers.push(batchBuffers(batch).size);
    batches.push(structuredClone(batch));
    // Nothing must depend on what it is given.
    for (const buffer of batchBuffers(batch)) new Uint8Array(buffer).fill(0xa5);
    loader.recycle(batch);
    if (batch.index % 5 === 0) loader.recycle(batch);
  }
  return { batches, buffers };
}

test.each([
  [0, 0],
  [0, 1 << 20],
  [1, 0],
  [2, 1 << 20],
  // Of which some examples are kept.
  [2, 9000],
])('batches of recycled memory are those of new memory (workers %i, cacheBytes %i)', async (workers, cacheBytes) => {
  const expected = await using(data, { ...options, workers: 0 }, (loader) => collect(loader.batches(0, 0, epochs)));
  const { batches, buffers } = await using(data, { ...options, workers, cacheBytes }, recycled);
  expect(batches).toEqual(expected);
  // The first batch of a thread has to find out how large batches are.
  expect(buffers.filter((count) => count === 1).length).toBeGreaterThan(buffers.length / 2);
});

test('batches that are kept are not overwritten by those made of others', async () => {
  const expected = await using(data, { ...options, workers: 0 }, (loader) => collect(loader.batches(0, 0, epochs)));
  const kept = await using(data, { ...options, workers: 1 }, async (loader) => {
    const all: Batch[] = [];
    for await (const batch of loader.batches(0, 0, epochs)) {
      if (batch.index % 2 === 0) all.push(batch);
      else loader.recycle(batch);
    }
    return all;
  });
  expect(kept).toEqual(expected.filter(({ index }) => index % 2 === 0));
});

test('memory that was given away, or back twice, is not used twice', () => {
  const batch = (): Batch => {
    const lines = new Float64Array(2);
    return { plans: {}, features: {}, labels: {}, targets: {}, labelSets: {}, numbers: {}, lines } as unknown as Batch;
  };
  const spare = new SpareMemory(3);
  const [one, other] = [batch(), batch()];
  spare.add(one);
  spare.add(one);
  spare.add(other);
  structuredClone(other, { transfer: [other.lines.buffer as ArrayBuffer] });
  expect(spare.take(4)).toEqual([one.lines.buffer]);
  expect(spare.take(4)).toEqual([]);
  for (let i = 0; i < 5; i++) spare.add(batch());
  expect(spare.take(9)).toHaveLength(3);
});

test('arrays lie behind one another, each where an f64 may begin, and elsewhere where there is no room', () => {
  const buffer = new ArrayBuffer(64);
  const memory = new BatchMemory(buffer);
  const arrays = [memory.i32(3), memory.f32(1), memory.copy(Float64Array.of(1, 2)), memory.i32(0), memory.i32(7)];
  expect(arrays.map(({ byteOffset, length }) => [byteOffset, length])).toEqual([[0, 3], [16, 1], [24, 2], [40, 0], [0, 7]]); // prettier-ignore
  expect(arrays.map((array) => array.buffer === buffer)).toEqual([true, true, true, true, false]);
  expect([...arrays[2]!]).toEqual([1, 2]);
  expect(memory.sizeBytes).toBe(40 + 32);
  const source = new MemorySource();
  source.took(memory);
  const [small, large] = [new ArrayBuffer(71), new ArrayBuffer(72)];
  source.add([large, small]);
  expect(source.next().i32(1).buffer).toBe(large);
  expect(source.next().i32(1).buffer.byteLength).toBe(81);
});
