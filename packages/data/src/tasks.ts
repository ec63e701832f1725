/** The work itself, the same on a worker thread and on the caller's. */
import { setImmediate } from 'node:timers/promises';
import { FinetableError, toPlainError } from '@finetable/core';
import { BatchAssembler, columnsOf } from './assemble.ts';
import type { Batch } from './batch.ts';
import { throwIfStopped } from './errors.ts';
import { classIndices, collectClasses, labelIndices, sortClasses } from './label.ts';
import type { BatchesReply, BatchesRequest, IndexReply, TaskReply, TaskRequest, WorkerSetup } from './protocol.ts';
import { indexSource, openSource, type SourceIndex } from './source.ts';
import type { DataSpec } from './spec.ts';

/** Examples held at a time while labels are read: a small batch, since the other columns may be long. */
const groupSize = 128;

/** Keeps what is costly between tasks: the open file, vocabularies, patterns, scratch memory. */
export class TaskRunner {
  readonly #setup: WorkerSetup;
  readonly #signal: AbortSignal | undefined;
  #assembler: BatchAssembler | null = null;

  /** @param signal for the caller's own thread; a worker is stopped from outside */
  constructor(setup: WorkerSetup, signal?: AbortSignal) {
    this.#setup = setup;
    this.#signal = signal;
  }

  /** Never throws. */
  async run(request: TaskRequest): Promise<TaskReply> {
    try {
      switch (request.type) {
        case 'index':
          return await this.#index();
        case 'batches':
          return this.#batches(request);
        default:
          return request satisfies never;
      }
    } catch (error) {
      return { type: 'failure', error: toPlainError(error) };
    }
  }

  close(): void {
    this.#assembler?.close();
    this.#assembler = null;
  }

  async #index(): Promise<IndexReply> {
    const { data } = this.#setup;
    const index = await indexSource(data.source, this.#signal);
    const classes = await this.#readLabels(index);
    // What is wrong with a vocabulary or the header should be known when the loader opens, not at the first batch.
    new BatchAssembler(withClasses(data, classes), index).close();
    return { type: 'index', index, classes };
  }

  /**
   * The classes of every label: found, or given and then checked, so that a label which training did not have is known
   * before the first step rather than after an epoch. Since every record is parsed for it, with all columns that batches
   * need, so are broken records and missing columns. Without labels no record is read.
   */
  async #readLabels(index: SourceIndex): Promise<Record<string, readonly string[]>> {
    const { data } = this.#setup;
    const labels = Object.entries(data.labels).map(([name, { column, classes }]) => ({
      name,
      column,
      found: new Set<string>(),
      known: classes && { classes, indices: classIndices(classes) },
    }));
    if (labels.length === 0) return {};
    const reader = openSource(data.source, index, columnsOf(data));
    try {
      for (let first = 0; first < index.examples; first += groupSize) {
        const size = Math.min(groupSize, index.examples - first);
        const records = reader.read(Uint32Array.from({ length: size }, (_, i) => first + i));
        for (const { column, found, known } of labels) {
          if (known) labelIndices(records, column, known.indices);
          else collectClasses(records, column, found);
        }
        await setImmediate();
        throwIfStopped(this.#signal, data.source.file);
      }
    } finally {
      reader.close();
    }
    return Object.fromEntries(
      labels.map(({ name, found, known }) => [name, known ? known.classes : sortClasses(found)]),
    );
  }

  #batches({ epoch, first, batchSize, rows }: BatchesRequest): BatchesReply {
    const { data, index } = this.#setup;
    if (!index) throw new FinetableError('INVALID_ARGUMENT', 'batches were asked for before the index was made');
    const began = performance.now();
    const batches: Batch[] = [];
    let sizeBytes = 0;
    let error = null;
    try {
      this.#assembler ??= new BatchAssembler(data, index);
      for (let begin = 0; begin < rows.length; begin += batchSize) {
        const made = this.#assembler.make(epoch, first + batches.length, rows.subarray(begin, begin + batchSize));
        batches.push(made.batch);
        sizeBytes += made.sizeBytes;
      }
    } catch (thrown) {
      error = toPlainError(thrown);
    }
    return { type: 'batches', batches, error, sizeBytes, workSeconds: (performance.now() - began) / 1000 };
  }
}

export function withClasses(data: DataSpec, classes: Readonly<Record<string, readonly string[]>>): DataSpec {
  const labels = Object.entries(data.labels).map(([name, label]) => [name, { ...label, classes: classes[name]! }]);
  return { ...data, labels: Object.fromEntries(labels) };
}
