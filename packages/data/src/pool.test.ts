/** What happens when threads fail, are stopped, or are in the way. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openLoader, openLoaderOn, type Loader } from './loader.ts';
import type { DataSpec, LoaderOptions, Row } from './spec.ts';
import { testFolder } from './testing/folder.ts';

const { path: folder } = testFolder();

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
const withLittleMemory = { ...faulty, resourceLimits: { maxOldGenerationSizeMb: 32 } };

/** Data whose only table tells the faulty worker what to do; the marker of `once` is beside the file. */
function dataOf(type: string, failure = 'none', when = 'always'): DataSpec {
  const stem = `${type}-${failure}-${when}-${files++}`;
  const file = join(folder, `${stem}.jsonl`);
  const lines = Array.from({ length: examples }, (_, v) => `{"id":${v},"label":"l${v % 3}"}\n`);
  writeFileSync(file, lines.join(''));
  const table = `${type} ${failure} ${when} ${join(folder, stem)}`;
  return {
    // The scan is told nothing of tables.
    source: { file, ...{ name: table } },
    features: { id: { table, column: 'id' } },
    labels: {},
    tables: { [table]: { rows: examples } },
  };
}
let files = 0;

/** Two batches of four examples a task and a worker, so that example 37 is in the task of lines 33 to 40. */
const options: LoaderOptions = { batchSize: 4, workers: 2, prefetchBatches: 8 };

async function consume(loader: Loader, each: (index: number) => void = () => undefined): Promise<void> {
  for await (const batch of loader.batches(0)) each(batch.index);
}

async function idsOf(loader: Loader, epoch = 0): Promise<number[]> {
  const ids: number[] = [];
  for await (const { lines } of loader.batches(epoch)) ids.push(...Array.from(lines, (line) => line - 1));
  return ids;
}

const allIds = Array.from({ length: examples }, (_, id) => id);

/** What a worker does, and what the error says. */
const failures = [
  ['throw', 'thrown on purpose'],
  ['mistake', 'mistaken on purpose'],
  ['exit', 'worker exited with code: 3'],
  ['reject', 'rejected on purpose'],
  ['memory', 'reaching memory limit'],
  ['spin', 'no answer in 2 s (option taskSeconds)'],
] as const;
/** Long enough for a thread to start, on a busy machine. */
const limits = (failure: string): LoaderOptions => (failure === 'spin' ? { ...options, taskSeconds: 2 } : options);

const bytesBefore = (line: number): number =>
  allIds.slice(0, line - 1).reduce((sum, id) => sum + `{"id":${id},"label":"l0"}\n`.length, 0);

describe('a worker that fails', () => {
  test.each(failures)('once is replaced, and its task done again: %s', async (failure, reason) => {
    const data = dataOf('batches', failure, 'once');
    const loader = await openLoaderOn(withLittleMemory, data, { ...limits(failure), workers: 1, prefetchBatches: 4 });
    expect(await idsOf(loader)).toEqual(allIds);
    const { count, problems } = loader.statistics.retried;
    expect(count).toBe(1);
    expect(problems).toEqual([expect.stringContaining(reason)]);
    expect(problems[0]).toContain(`${data.source.file as string}, lines 33 to 40 (bytes `);
    // And goes on as if nothing had happened.
    expect(await idsOf(loader, 1)).toEqual(allIds);
    expect(loader.statistics.retried.count).toBe(1);
    await loader.close();
    await expectNoThreads(1 + 1 + 1);
  });

  test.each(failures.filter(([failure]) => /throw|exit|spin/.test(failure)))(
    'twice ends the loader: %s',
    async (failure, reason) => {
      const data = dataOf('batches', failure);
      const loader = await openLoaderOn(withLittleMemory, data, limits(failure));
      const error = await consume(loader).catch((thrown: unknown) => thrown);
      const bytes = [bytesBefore(33), bytesBefore(41)];
      expect(error).toMatchObject({
        name: 'FinetableError',
        code: 'WORKER_FAILED',
        details: { file: data.source.file, lines: [33, 40], examples: [33, 40], bytes },
      });
      const place = `${data.source.file as string}, lines 33 to 40 (bytes ${bytes.join(' to ')})`;
      expect((error as Error).message).toContain(`${place}: a loader worker failed twice: `);
      expect((error as Error).message).toContain(reason);
      expect(loader.statistics.retried.count).toBe(1);
      await expectNoThreads(1 + 2 + 2);
      // The loader stays failed, and says why.
      await expect(consume(loader)).rejects.toBe(error);
      await loader.close();
      await expectNoThreads(1 + 2 + 2);
    },
  );

  test('at shuffled examples names those that it had', async () => {
    const data = dataOf('batches', 'throw');
    const loader = await openLoaderOn(faulty, data, { ...options, shuffle: true });
    await expect(consume(loader)).rejects.toThrow(
      new RegExp(`, 8 of lines \\d+ to \\d+ \\(bytes \\d+ to \\d+\\): a loader worker failed twice: thrown on purpose`),
    );
    await loader.close();
  });

  test('at examples of several files names them', async () => {
    const [data, other] = [dataOf('batches', 'throw'), dataOf('none')];
    const both = [other.source.file as string, data.source.file as string];
    const loader = await openLoaderOn(
      faulty,
      { ...data, source: { ...data.source, file: [...both].reverse() } as DataSpec['source'] },
      { ...options, batchSize: 64, prefetchBatches: 2 },
    );
    await expect(consume(loader)).rejects.toThrow(`${both[1]!}, lines 1 to 64 (bytes 0 to `);
    await loader.close();
  });

  test.each([
    ['an array', (rows: Row[]) => rows],
    ['an iterable', (rows: Row[]) => () => rows.values()],
  ])('at rows of %s gets them again', async (_, source) => {
    const rows = allIds.map((id) => ({ id }));
    const given = { ...dataOf('batches', 'exit', 'once'), source: { rows: source(rows), name: 'mine' } };
    const loader = await openLoaderOn(faulty, given, options);
    expect(await idsOf(loader)).toEqual(allIds);
    expect(loader.statistics.retried.problems).toEqual(['mine, rows 33 to 40: worker exited with code: 3']);
    await loader.close();
    await expectNoThreads(1 + 2 + 2);
  });

  test('between tasks is replaced', async () => {
    const loader = await openLoaderOn(faulty, dataOf('batches', 'idle', 'once'), options);
    const begun = threads.length;
    expect(await idsOf(loader)).toEqual(allIds);
    for (let i = 0; i < 200 && threads.length < begun + 1; i++) await setTimeout(10);
    expect(await idsOf(loader, 1)).toEqual(allIds);
    await loader.close();
    await expectNoThreads(begun + 1);
  });

  test('to start ends opening', async () => {
    const nowhere = { workerUrl: new URL('../test/nowhere.mjs', import.meta.url).href };
    await expect(openLoaderOn(nowhere, dataOf('none'), options)).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    await expectNoThreads(1);
  });
});

describe('while opening', () => {
  const asked: Readonly<Record<string, (data: DataSpec) => DataSpec>> = {
    scan: (data) => data,
    split: (data) => ({ ...data, split: { part: 0, parts: [1, 1] } }),
    screen: (data) => ({ ...data, badRows: { skip: 3 } }),
    gather: (data) => ({ ...data, labels: { label: { column: 'label' } } }),
  };
  const places = {
    scan: ', bytes 0 to 1462, index pass',
    split: ', lines 1 to 64 (bytes 0 to 1462), split',
    screen: ', lines 1 to 64 (bytes 0 to 1462), looking for bad rows',
    gather: ', lines 1 to 64 (bytes 0 to 1462), gathering what has to be known',
  };
  const every = [
    ['scan', 'throw'],
    ['split', 'exit'],
    ['screen', 'spin'],
    ['gather', 'memory'],
  ] as const;

  test.each(every)('%s fails once, %s: done again, and counted', async (type, failure) => {
    const data = asked[type]!(dataOf(type, failure, 'once'));
    const loader = await openLoaderOn(withLittleMemory, data, limits(failure));
    const { count, problems } = loader.statistics.retried;
    expect(count).toBe(1);
    expect(problems[0]).toContain(`${data.source.file as string}${places[type]}: `);
    if (type !== 'split') expect(await idsOf(loader)).toEqual(allIds);
    await loader.close();
    await expectNoThreads(4);
  });

  test.each([every[0], every[3]])('%s fails twice, %s: the error names it', async (type, failure) => {
    const data = asked[type]!(dataOf(type, failure));
    await expect(openLoaderOn(withLittleMemory, data, limits(failure))).rejects.toMatchObject({
      code: 'WORKER_FAILED',
      message: expect.stringContaining(
        `${data.source.file as string}${places[type]}: a loader worker failed twice: `,
      ) as string,
    });
    await expectNoThreads(2);
  });
});

test('rows that cannot be sent are no failure of a worker', async () => {
  const rows = [{ id: 1, call: () => 1 }];
  const data = { ...dataOf('none'), source: { rows } };
  await expect(
    openLoader(data, options).then(async (loader) => consume(loader).finally(() => loader.close())),
  ).rejects.toMatchObject({ code: 'INVALID_DATA', message: expect.stringContaining('plain data') as string });
  await expectNoThreads(3);
  expect(threads).toHaveLength(3);
});

test('what an order cannot be made of leaves no thread behind', async () => {
  const given = openLoader(dataOf('none'), { ...options, distinct: 'id', shuffleWindow: 8 });
  await expect(given).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { path: 'shuffleWindow' } });
  await expectNoThreads(1);
});

test('an example that comes after its iteration was left is not made a batch of', async () => {
  let come: () => void = () => undefined;
  const more = new Promise<void>((resolve) => (come = resolve));
  async function* rows(): AsyncGenerator<Row> {
    yield { id: 1 };
    await more;
    yield { id: 2 };
  }
  const data = { ...dataOf('none'), source: { rows: () => rows() } };
  const loader = await openLoader(data, { batchSize: 1, workers: 1, prefetchBatches: 2 });
  for await (const { index } of loader.batches(0)) if (index === 0) break;
  come();
  await setTimeout(100);
  expect(loader.statistics).toMatchObject({ batches: 1, queue: { busyTasks: 0 } });
  expect(await idsOf(loader)).toEqual([0, 1]);
  await loader.close();
  await expectNoThreads(2);
});

describe('close', () => {
  test.each([0, 2])('ends an iteration and refuses others, twice (workers %i)', async (workers) => {
    const loader = await openLoader(dataOf('none'), { ...options, workers });
    const iterating = consume(loader, (index) => {
      if (index === 2) void loader.close();
    });
    await expect(iterating).rejects.toMatchObject({ code: 'CLOSED' });
    await loader.close();
    await expect(consume(loader)).rejects.toMatchObject({ code: 'CLOSED' });
    await expectNoThreads(workers);
  });

  test('does not wait for a worker that never ends', async () => {
    const loader = await openLoaderOn(faulty, dataOf('batches', 'spin'), options);
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
    await expect(
      openLoader(dataOf('none'), { ...options, workers, signal: AbortSignal.abort() }),
    ).rejects.toMatchObject(interruption);
    const stopping = new AbortController();
    const opening = openLoader(dataOf('none'), { ...options, workers, signal: stopping.signal });
    stopping.abort();
    await expect(opening).rejects.toMatchObject(interruption);
    await expectNoThreads(0);
  });

  test('stops a worker in the index pass that never ends', async () => {
    const stopping = new AbortController();
    const opening = openLoaderOn(faulty, dataOf('scan', 'spin'), { ...options, signal: stopping.signal });
    opening.catch(() => undefined);
    await setTimeout(200);
    stopping.abort();
    await expect(opening).rejects.toMatchObject(interruption);
    await expectNoThreads(1);
  });

  test('stops a worker that never ends', async () => {
    const stopping = new AbortController();
    const loader = await openLoaderOn(faulty, dataOf('batches', 'spin'), { ...options, signal: stopping.signal });
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
    const loader = await openLoader(dataOf('none'), { ...options, workers, signal: stopping.signal });
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
