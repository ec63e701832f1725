/** What happens when threads fail, are stopped, or are in the way. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openLoader, openLoaderOn, type Loader } from './loader.ts';
import type { DataSpec, LoaderOptions } from './spec.ts';

const folder = mkdtempSync(join(tmpdir(), 'finetable-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Every thread that was started, to see that none is left. */
let threads: Worker[] = [];
const onWorker = (worker: Worker): void => void threads.push(worker);
beforeAll(() => void process.on('worker', onWorker));
afterAll(() => void process.off('worker', onWorker));
beforeEach(() => {
  threads = [];
});

async function expectNoThreads(started: number): Promise<void> {
  expect(threads.length).toBeGreaterThanOrEqual(started);
  // An ended thread has the id -1; one that ended by itself may take a moment to be noticed.
  for (let i = 0; i < 3000 && threads.some(({ threadId }) => threadId !== -1); i++) await setTimeout(10);
  expect(threads.map(({ threadId }) => threadId)).toEqual(threads.map(() => -1));
}

const faulty = { workerUrl: new URL('../test/faulty-worker-entry.cjs', import.meta.url).href };
const examples = 64;

function dataOf(failure: string): DataSpec {
  const file = join(folder, `${failure}.jsonl`);
  writeFileSync(file, Array.from({ length: examples }, (_, v) => `{"id":${v}}\n`).join(''));
  return {
    source: { file },
    features: { id: { table: failure, column: 'id' } },
    labels: {},
    tables: { [failure]: { rows: examples } },
  };
}

/** Two batches of four examples a task and a worker, so that example 37 is in the task of lines 33 to 40. */
const options: LoaderOptions = { batchSize: 4, workers: 2, prefetchBatches: 8 };

async function consume(loader: Loader, each: (index: number) => void = () => undefined): Promise<void> {
  for await (const batch of loader.batches(0)) each(batch.index);
}

describe('a failed worker', () => {
  test.each([
    ['throw', 'thrown on purpose'],
    ['exit', 'worker exited with code: 3'],
    ['reject', 'rejected on purpose'],
    ['memory', 'reaching memory limit'],
  ])('%s', async (failure, reason) => {
    const data = dataOf(failure);
    const loader = await openLoaderOn({ ...faulty, resourceLimits: { maxOldGenerationSizeMb: 32 } }, data, options);
    const error = await consume(loader).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'FinetableError', code: 'WORKER_FAILED' });
    expect((error as Error).message).toContain(`${data.source.file}, lines 33 to 40: a loader worker failed: `);
    expect((error as Error).message).toContain(reason);
    await expectNoThreads(3);
    // The loader stays failed, and says why.
    await expect(consume(loader)).rejects.toBe(error);
    await loader.close();
    await expectNoThreads(3);
  });

  test.each(['throw', 'exit'])('in the index pass: %s', async (failure) => {
    const data = dataOf(`index-${failure}`);
    await expect(openLoaderOn(faulty, data, options)).rejects.toMatchObject({
      code: 'WORKER_FAILED',
      message: expect.stringContaining(`${data.source.file}, index pass: a loader worker failed: `) as string,
    });
    await expectNoThreads(1);
  });

  test('that cannot even start', async () => {
    const nowhere = { workerUrl: new URL('../test/nowhere.mjs', import.meta.url).href };
    await expect(openLoaderOn(nowhere, dataOf('any'), options)).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    await expectNoThreads(1);
  });
});

describe('close', () => {
  test.each([0, 2])('ends an iteration and refuses others, twice (workers %i)', async (workers) => {
    const loader = await openLoader(dataOf('any'), { ...options, workers });
    const iterating = consume(loader, (index) => {
      if (index === 2) void loader.close();
    });
    await expect(iterating).rejects.toMatchObject({ code: 'CLOSED' });
    await loader.close();
    await expect(consume(loader)).rejects.toMatchObject({ code: 'CLOSED' });
    await expectNoThreads(workers);
  });

  test('does not wait for a worker that never ends', async () => {
    const loader = await openLoaderOn(faulty, dataOf('spin'), options);
    const seen: number[] = [];
    const iterating = consume(loader, (index) => seen.push(index));
    iterating.catch(() => undefined);
    while (seen.length < 8) await setTimeout(5);
    await loader.close();
    await expect(iterating).rejects.toMatchObject({ code: 'CLOSED' });
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    await expectNoThreads(3);
  });
});

describe('the signal', () => {
  const interruption = { code: 'INTERRUPTED', name: 'FinetableError' };

  test.each([0, 2])('stops opening (workers %i)', async (workers) => {
    await expect(openLoader(dataOf('any'), { ...options, workers, signal: AbortSignal.abort() })).rejects.toMatchObject(
      interruption,
    );
    const stopping = new AbortController();
    const opening = openLoader(dataOf('any'), { ...options, workers, signal: stopping.signal });
    stopping.abort();
    await expect(opening).rejects.toMatchObject(interruption);
    await expectNoThreads(0);
  });

  test('stops a worker in the index pass that never ends', async () => {
    const stopping = new AbortController();
    const opening = openLoaderOn(faulty, dataOf('index-spin'), { ...options, signal: stopping.signal });
    opening.catch(() => undefined);
    await setTimeout(200);
    stopping.abort();
    await expect(opening).rejects.toMatchObject(interruption);
    await expectNoThreads(1);
  });

  test('stops a worker that never ends', async () => {
    const stopping = new AbortController();
    const loader = await openLoaderOn(faulty, dataOf('spin'), { ...options, signal: stopping.signal });
    const seen: number[] = [];
    const iterating = consume(loader, (index) => seen.push(index));
    iterating.catch(() => undefined);
    while (seen.length < 8) await setTimeout(5);
    stopping.abort();
    await expect(iterating).rejects.toMatchObject(interruption);
    await expectNoThreads(3);
    await expect(consume(loader)).rejects.toMatchObject(interruption);
    await loader.close();
  });

  test.each([0, 2])('stops batches that were made already (workers %i)', async (workers) => {
    const stopping = new AbortController();
    const loader = await openLoader(dataOf('any'), { ...options, workers, signal: stopping.signal });
    const seen: number[] = [];
    const consuming = consume(loader, (index) => {
      seen.push(index);
      if (index === 4) stopping.abort();
    });
    await expect(consuming).rejects.toMatchObject(interruption);
    expect(seen).toEqual([0, 1, 2, 3, 4]);
    await loader.close();
  });
});
