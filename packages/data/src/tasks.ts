/** The work itself, the same on a worker thread and on the caller's. */
import { setImmediate } from 'node:timers/promises';
import { FinetableError, toPlainError } from '@finetable/core';
import { BatchAssembler, batchBuffers } from './assemble.ts';
import type { Batch } from './batch.ts';
import { MemorySource } from './memory.ts';
import { ExampleCache } from './cache.ts';
import { isBadValue, onlyCounting, throwIfStopped } from './errors.ts';
import { hashIds } from './distinct.ts';
import { columnsOf, ExampleExtractor, requiredColumnsOf, type Extracted } from './extract.ts';
import { compileFeature, type FeatureExtractor } from './feature/feature.ts';
import { columnsOfHistories, InteractionCollector } from './histories/collect.ts';
import { givenRecords, HistoryColumns, HistoryReader } from './histories/columns.ts';
import type {
  BadExamples,
  BatchesReply,
  BatchesRequest,
  CheckReply,
  CheckRequest,
  CollectReply,
  CollectRequest,
  GatherReply,
  GatherRequest,
  KeysReply,
  KeysRequest,
  PreparedData,
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
import { recordsOf, type GivenRows } from './source/rows.ts';
import {
  scanFile,
  sliceRecords,
  SourceReader,
  type FileIndex,
  type Records,
  type SourceIndex,
} from './source/source.ts';
import { inSplit, splitColumns, type RowSplit } from './split.ts';
import { gatherersOf, type Gatherer } from './survey.ts';

/** Examples held at a time while they are only looked at: a small batch, since some columns may be long. */
const groupSize = 128;

/** Of a task, and of a loader: enough to see what is wrong. */
export const notedProblems = 10;

/** Keeps what is costly between tasks: open files, vocabularies, patterns, scratch memory. */
export class TaskRunner {
  readonly #setup: WorkerSetup | null;
  readonly #signal: AbortSignal | undefined;
  #maker: BatchMaker | null = null;
  /** Of the data that is being prepared: a thread prepares one. */
  #gatherers: ReadonlyMap<string, Gatherer> | null = null;
  #keyFeature: FeatureExtractor | null = null;
  #screener: ExampleExtractor | null = null;
  #reader: SourceReader | HistoryReader | null = null;
  #histories: HistoryColumns | null = null;
  readonly #memory = new MemorySource();
  /** Of batches. */
  #columns: readonly string[] | null = null;

  /** @param signal for the caller's own thread; a worker is stopped from outside */
  constructor(setup: WorkerSetup | null, signal?: AbortSignal) {
    this.#setup = setup;
    this.#signal = signal;
  }

  /** Never throws. @param spare memory for batches */
  async run(request: TaskRequest, spare: readonly ArrayBuffer[] = []): Promise<TaskReply> {
    this.#memory.add(spare);
    try {
      switch (request.type) {
        case 'scan':
          return { type: 'scan', index: await this.#scan(request) };
        case 'collect':
          return await this.#collect(request);
        case 'gather':
          return await this.#gather(request);
        case 'keys':
          return await this.#keys(request);
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
    await this.#each(index, data, columns, examples, (records) => {
      checkColumns(records, required);
      for (const { gatherer, state } of gatherers) gatherer.add(state, records);
    });
    return { type: 'gather', states: Object.fromEntries(gatherers.map(({ name, state }) => [name, state])) };
  }

  async #keys({ data, index, examples, feature }: KeysRequest): Promise<KeysReply> {
    this.#keyFeature ??= compileFeature(
      data.features[feature]!,
      data.tables[data.features[feature]!.table]!.rows,
      feature,
    );
    const { extract } = this.#keyFeature;
    const hashes: number[] = [];
    await this.#each(index, data, columnsOf(data), examples, (records) => {
      const { values, offsets } = extract(records);
      for (let i = 0; i + 1 < offsets.length; i++) hashes.push(hashIds(values.subarray(offsets[i], offsets[i + 1])));
    });
    return { type: 'keys', hashes: Float64Array.from(hashes) };
  }

  async #split({ data, index, first, examples }: SplitRequest): Promise<SplitReply> {
    const split = data.split as RowSplit;
    const excluded: number[] = [];
    let number = first;
    await this.#each(index, data, splitColumns(split), examples, (records) => {
      for (const inside of inSplit(split, number, records)) {
        if (!inside) excluded.push(number);
        number++;
      }
    });
    return { type: 'split', excluded: Uint32Array.from(excluded) };
  }

  async #screen({ data: given, index, examples }: ScreenRequest): Promise<ScreenReply> {
    const data = given ?? this.#setup!.data;
    this.#screener ??= new ExampleExtractor(data);
    const screener = this.#screener;
    const bad = await this.#eachGood(index, data, columnsOf(data), examples, (records) => screener.extract(records));
    return { type: 'screen', ...bad };
  }

  async #collect({ data, index, examples }: CollectRequest): Promise<CollectReply> {
    const spec = data.histories!;
    const collector = new InteractionCollector(spec);
    const columns = columnsOfHistories(spec);
    if (typeof data.badRows !== 'object') {
      await this.#groups(index, data, columns, examples, async (numbers, read) =>
        collector.add(await read(numbers), numbers),
      );
      return { type: 'collect', found: collector.collected(), bad: { excluded: new Uint32Array(), problems: [] } };
    }
    const bad = await this.#eachGood(index, data, columns, examples, (records, numbers) =>
      collector.add(records, numbers),
    );
    return { type: 'collect', found: collector.collected(), bad };
  }

  /** Where one of a group is bad, its halves are visited; they are read again only where it was reading that failed. */
  async #eachGood(
    index: SourceIndex | null,
    data: PreparedData,
    columns: readonly string[],
    examples: TaskExamples,
    visit: (records: Records, numbers: Uint32Array) => void,
  ): Promise<BadExamples> {
    const excluded: number[] = [];
    const problems: string[] = [];
    /** What is wrong is said of the first bad ones alone. */
    const tried = <T>(work: () => T): T => (problems.length < notedProblems ? work() : onlyCounting(work));
    const noteOne = (error: unknown, number: number): void => {
      if (!isBadValue(error)) throw error;
      excluded.push(number);
      if (problems.length < notedProblems) problems.push(error.message);
    };
    const visitHalves = (records: Records, numbers: Uint32Array): void => {
      try {
        tried(() => visit(records, numbers));
      } catch (error) {
        if (numbers.length === 1 || !isBadValue(error)) return noteOne(error, numbers[0]!);
        const middle = numbers.length >> 1;
        visitHalves(sliceRecords(records, 0, middle), numbers.subarray(0, middle));
        visitHalves(sliceRecords(records, middle, numbers.length), numbers.subarray(middle));
      }
    };
    const readHalves = async (
      numbers: Uint32Array,
      read: (numbers: Uint32Array) => Records | Promise<Records>,
    ): Promise<void> => {
      let records: Records;
      try {
        records = await tried(() => read(numbers));
      } catch (error) {
        if (numbers.length === 1 || !isBadValue(error)) return noteOne(error, numbers[0]!);
        const middle = numbers.length >> 1;
        await readHalves(numbers.subarray(0, middle), read);
        return readHalves(numbers.subarray(middle), read);
      }
      visitHalves(records, numbers);
    };
    await this.#groups(index, data, columns, examples, readHalves);
    return { excluded: Uint32Array.from(excluded), problems };
  }

  async #each(
    index: SourceIndex | null,
    data: PreparedData,
    columns: readonly string[],
    examples: TaskExamples,
    visit: (records: Records) => void,
  ): Promise<void> {
    await this.#groups(index, data, columns, examples, async (numbers, read) => visit(await read(numbers)));
  }

  /** Examples in small groups, giving way to other work after each. */
  async #groups(
    index: SourceIndex | null,
    data: PreparedData,
    columns: readonly string[],
    { rows, given }: TaskExamples,
    visit: (numbers: Uint32Array, read: (numbers: Uint32Array) => Records | Promise<Records>) => Promise<void>,
  ): Promise<void> {
    if (given) {
      const places = new Map(Array.from(given.numbers, (number, i) => [number, i]));
      const read = (numbers: Uint32Array): Records => {
        const rows = Array.from(numbers, (number) => given.rows[places.get(number)!]);
        return this.#given({ name: given.name, rows, numbers }, data, columns);
      };
      await visit(given.numbers, read);
      return;
    }
    const reader = this.#open(index!, data, columns);
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

  #open(
    index: SourceIndex,
    data: PreparedData,
    columns: readonly string[],
    keep = false,
  ): SourceReader | HistoryReader {
    const own = this.#historyColumns(data);
    return own ? new HistoryReader(own, index, columns) : new SourceReader(index, columns, keep);
  }

  #given(given: GivenRows, data: PreparedData, columns: readonly string[]): Records {
    const own = this.#historyColumns(data);
    return own ? givenRecords(own, given, columns) : recordsOf(given, columns);
  }

  #historyColumns({ grouped }: PreparedData): HistoryColumns | null {
    return grouped ? (this.#histories ??= new HistoryColumns(grouped)) : null;
  }

  async #batches({ epoch, first, batchSize, window, examples }: BatchesRequest): Promise<BatchesReply> {
    if (!this.#setup) throw new FinetableError('INVALID_ARGUMENT', 'batches were asked for before they were prepared');
    const began = performance.now();
    const batches: Batch[] = [];
    let [sizeBytes, readSeconds, planSeconds] = [0, 0, 0];
    let error = null;
    try {
      const { extractor, cache, assembler } = (this.#maker ??= makerOf(this.#setup));
      const numbers = examples.rows ?? examples.given.numbers;
      // A shard of a small batch may have no example; it is a batch all the same, so that all processes have as many.
      for (let begin = 0; begin === 0 || begin < numbers.length; begin += batchSize) {
        const of = numbers.subarray(begin, begin + batchSize);
        const extract = async (places: Uint32Array | null): Promise<Extracted> => {
          const reading = performance.now();
          const records = await this.#read(this.#setup!, examples, window, begin, of.length, places);
          readSeconds += (performance.now() - reading) / 1000;
          sizeBytes += records.sizeBytes;
          return extractor.extract(records);
        };
        const extracted = cache && of.length > 0 ? await cache.read(of, extract) : await extract(null);
        const memory = this.#memory.next();
        const made = assembler.make(epoch, first + batches.length, extracted, of, memory);
        this.#memory.took(memory);
        batches.push(made.batch);
        planSeconds += made.planSeconds;
      }
      if (cache?.complete) this.close();
    } catch (thrown) {
      error = toPlainError(thrown);
    }
    const batchBytes = batches.map(bytesOf);
    const done = performance.now();
    const times = {
      workSeconds: (done - began) / 1000,
      readSeconds,
      planSeconds,
      doneMs: performance.timeOrigin + done,
    };
    return { type: 'batches', batches, batchBytes, error, sizeBytes, ...times };
  }

  /** @param places of those of `count` examples that are wanted, counted from `begin`; null: all */
  #read(
    { data, index }: WorkerSetup,
    { rows, given }: TaskExamples,
    window: number | null,
    begin: number,
    count: number,
    places: Uint32Array | null,
  ): Records | Promise<Records> {
    const columns = (this.#columns ??= columnsOf(data));
    const chosen = (numbers: Uint32Array): Uint32Array => {
      const all = numbers.subarray(begin, begin + count);
      return places ? places.map((place) => all[place]!) : all;
    };
    if (!given) {
      const reader = (this.#reader ??= this.#open(index!, data, columns, true));
      return reader.read(chosen(rows), window);
    }
    const { name, numbers } = given;
    const own = given.rows.slice(begin, begin + count);
    const chosenRows = places ? Array.from(places, (place) => own[place]) : own;
    return this.#given({ name, rows: chosenRows, numbers: chosen(numbers) }, data, columns);
  }
}

/** What makes batches out of examples. */
interface BatchMaker {
  readonly extractor: ExampleExtractor;
  readonly cache: ExampleCache | null;
  readonly assembler: BatchAssembler;
}

function makerOf({ data, cache }: WorkerSetup): BatchMaker {
  const extractor = new ExampleExtractor(data);
  return {
    extractor,
    cache: cache && new ExampleCache(cache, extractor.shapes),
    assembler: new BatchAssembler(data),
  };
}

function bytesOf(batch: Batch): number {
  let bytes = 0;
  for (const { byteLength } of batchBuffers(batch)) bytes += byteLength;
  return bytes;
}

function check({ data, index }: CheckRequest): CheckReply {
  new ExampleExtractor(data);
  const columns = columnsOf(data);
  const ofRows = data.grouped ? new HistoryColumns(data.grouped).ofRows(columns) : columns;
  if (index) new SourceReader(index, ofRows).close();
  return { type: 'check' };
}
