/** The work itself, the same on a worker thread and on the caller's. */
import { setImmediate } from 'node:timers/promises';
import { FinetableError, toPlainError } from '@finetable/core';
import { BatchAssembler, columnsOf, requiredColumnsOf } from './assemble.ts';
import type { Batch } from './batch.ts';
import { isBadValue, throwIfStopped } from './errors.ts';
import type {
  BatchesReply,
  BatchesRequest,
  CheckReply,
  CheckRequest,
  GatherReply,
  GatherRequest,
  ScanRequest,
  ScreenReply,
  ScreenRequest,
  SplitReply,
  SplitRequest,
  TaskExamples,
  TaskReply,
  TaskRequest,
  WorkerSetup,
} from './protocol.ts';
import { checkColumns } from './source/missing.ts';
import { recordsOf } from './source/rows.ts';
import { scanFile, SourceReader, type FileIndex, type Records, type SourceIndex } from './source/source.ts';
import { inSplit } from './split.ts';
import { gatherersOf, type Gatherer } from './survey.ts';

/** Examples held at a time while they are only looked at: a small batch, since some columns may be long. */
const groupSize = 128;

/** Of a task, and of a loader: enough to see what is wrong. */
export const notedProblems = 10;

/** Keeps what is costly between tasks: open files, vocabularies, patterns, scratch memory. */
export class TaskRunner {
  readonly #setup: WorkerSetup | null;
  readonly #signal: AbortSignal | undefined;
  #assembler: BatchAssembler | null = null;
  /** Of the data that is being prepared: a thread prepares one. */
  #gatherers: ReadonlyMap<string, Gatherer> | null = null;
  #screener: BatchAssembler | null = null;
  #reader: SourceReader | null = null;

  /** @param signal for the caller's own thread; a worker is stopped from outside */
  constructor(setup: WorkerSetup | null, signal?: AbortSignal) {
    this.#setup = setup;
    this.#signal = signal;
  }

  /** Never throws. */
  async run(request: TaskRequest): Promise<TaskReply> {
    try {
      switch (request.type) {
        case 'scan':
          return { type: 'scan', index: await this.#scan(request) };
        case 'gather':
          return await this.#gather(request);
        case 'split':
          return await this.#split(request);
        case 'screen':
          return await this.#screen(request);
        case 'check':
          return check(request);
        case 'batches':
          return await this.#batches(request);
        default:
          return request satisfies never;
      }
    } catch (error) {
      return { type: 'failure', error: toPlainError(error) };
    }
  }

  close(): void {
    this.#reader?.close();
    this.#reader = null;
  }

  #scan({ file, path, source }: ScanRequest): Promise<FileIndex> {
    return scanFile(file, source, { path, signal: this.#signal });
  }

  /** With the columns of batches too, so that broken records and missing columns are known as well. */
  async #gather({ data, index, examples }: GatherRequest): Promise<GatherReply> {
    this.#gatherers ??= gatherersOf(data);
    const gatherers = [...this.#gatherers].map(([name, gatherer]) => ({ name, gatherer, state: gatherer.start() }));
    const columns = [...new Set([...columnsOf(data), ...gatherers.flatMap(({ gatherer }) => gatherer.columns)])];
    const required = requiredColumnsOf(data);
    await this.#each(index, columns, examples, (records) => {
      checkColumns(records, required);
      for (const { gatherer, state } of gatherers) gatherer.add(state, records);
    });
    return { type: 'gather', states: Object.fromEntries(gatherers.map(({ name, state }) => [name, state])) };
  }

  async #split({ data, index, first, examples }: SplitRequest): Promise<SplitReply> {
    const split = data.split!;
    const excluded: number[] = [];
    let number = first;
    await this.#each(index, split.key === undefined ? [] : [split.key], examples, (records) => {
      for (const inside of inSplit(split, number, records)) {
        if (!inside) excluded.push(number);
        number++;
      }
    });
    return { type: 'split', excluded: Uint32Array.from(excluded) };
  }

  /** Where one of a group is bad, each is read by itself. */
  async #screen({ data: given, index, examples }: ScreenRequest): Promise<ScreenReply> {
    const data = given ?? this.#setup!.data;
    this.#screener ??= new BatchAssembler(data);
    const screener = this.#screener;
    const excluded: number[] = [];
    const problems: string[] = [];
    const note = (error: unknown, number: number): void => {
      if (!isBadValue(error)) throw error;
      excluded.push(number);
      if (problems.length < notedProblems) problems.push(error.message);
    };
    await this.#groups(index, columnsOf(data), examples, async (numbers, read) => {
      try {
        screener.check(await read(numbers));
      } catch (error) {
        if (!isBadValue(error)) throw error;
        for (let i = 0; i < numbers.length; i++) {
          try {
            screener.check(await read(numbers.subarray(i, i + 1)));
          } catch (error) {
            note(error, numbers[i]!);
          }
        }
      }
    });
    return { type: 'screen', excluded: Uint32Array.from(excluded), problems };
  }

  async #each(
    index: SourceIndex | null,
    columns: readonly string[],
    examples: TaskExamples,
    visit: (records: Records) => void,
  ): Promise<void> {
    await this.#groups(index, columns, examples, async (numbers, read) => visit(await read(numbers)));
  }

  /** Examples in small groups, giving way to other work after each. */
  async #groups(
    index: SourceIndex | null,
    columns: readonly string[],
    { rows, given }: TaskExamples,
    visit: (numbers: Uint32Array, read: (numbers: Uint32Array) => Records | Promise<Records>) => Promise<void>,
  ): Promise<void> {
    if (given) {
      const places = new Map(Array.from(given.numbers, (number, i) => [number, i]));
      const read = (numbers: Uint32Array): Records => {
        const rows = Array.from(numbers, (number) => given.rows[places.get(number)!]);
        return recordsOf({ name: given.name, rows, numbers }, columns);
      };
      await visit(given.numbers, read);
      return;
    }
    const reader = new SourceReader(index!, columns);
    try {
      for (let begin = 0; begin < rows.length; begin += groupSize) {
        await visit(rows.subarray(begin, begin + groupSize), (numbers) => reader.read(numbers));
        await setImmediate();
        throwIfStopped(this.#signal, index!.files[0]!.file);
      }
    } finally {
      reader.close();
    }
  }

  async #batches({ epoch, first, batchSize, window, examples }: BatchesRequest): Promise<BatchesReply> {
    if (!this.#setup) throw new FinetableError('INVALID_ARGUMENT', 'batches were asked for before they were prepared');
    const { data } = this.#setup;
    const began = performance.now();
    const batches: Batch[] = [];
    let [sizeBytes, readSeconds, planSeconds] = [0, 0, 0];
    let error = null;
    try {
      this.#assembler ??= new BatchAssembler(data);
      const count = (examples.rows ?? examples.given.rows).length;
      // A shard of a small batch may have no example; it is a batch all the same, so that all processes have as many.
      for (let begin = 0; begin === 0 || begin < count; begin += batchSize) {
        const reading = performance.now();
        const records = await this.#read(this.#setup, examples, window, begin, begin + batchSize);
        readSeconds += (performance.now() - reading) / 1000;
        const made = this.#assembler.make(epoch, first + batches.length, records);
        batches.push(made.batch);
        planSeconds += made.planSeconds;
        sizeBytes += records.sizeBytes;
      }
    } catch (thrown) {
      error = toPlainError(thrown);
    }
    const workSeconds = (performance.now() - began) / 1000;
    return { type: 'batches', batches, error, sizeBytes, workSeconds, readSeconds, planSeconds };
  }

  #read(
    { data, index }: WorkerSetup,
    { rows, given }: TaskExamples,
    window: number | null,
    begin: number,
    end: number,
  ): Records | Promise<Records> {
    const columns = columnsOf(data);
    if (!given)
      return (this.#reader ??= new SourceReader(index!, columns, true)).read(rows.subarray(begin, end), window);
    const { name, numbers } = given;
    return recordsOf({ name, rows: given.rows.slice(begin, end), numbers: numbers.subarray(begin, end) }, columns);
  }
}

function check({ data, index }: CheckRequest): CheckReply {
  new BatchAssembler(data);
  if (index) new SourceReader(index, columnsOf(data)).close();
  return { type: 'check' };
}
