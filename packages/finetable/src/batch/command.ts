/** `finetable batch`: many jobs to their run folders, and a table of what came of them. */
import { relative } from 'node:path';
import { FinetableError, type ErrorCode } from '@finetable/core';
import {
  batchRows,
  bestOfBaselines,
  readBatch,
  runJobs,
  writeBatchCsv,
  writeBatchHtml,
  type JobOutcome,
  type LoadedBatch,
} from '@finetable/trainer';
import { writeJson } from '../failure.ts';
import type { Io } from '../io.ts';
import type { BatchOptions } from '../program.ts';
import { batchBars, batchJson, batchLines, type BatchReporter } from './progress.ts';
import { describeRows } from './table.ts';

export async function batch(file: string, options: BatchOptions, io: Io): Promise<void> {
  const loaded = await readBatch(file);
  const reporter = chooseReporter(loaded, options, io);
  let outcomes: JobOutcome[];
  try {
    outcomes = await runJobs(
      loaded.jobs.map((job) => job.loaded),
      {
        concurrency: options.concurrency ?? loaded.concurrency,
        memory: options.memory ?? loaded.memory,
        threads: options.threads,
        halving: loaded.halving,
        stopOnFailure: options.stopOnFailure ?? loaded.stopOnFailure,
        existing: options.overwrite ? 'overwrite' : 'resume',
        signal: io.signal,
        onEvent: (event) => reporter.event(event),
      },
    );
  } finally {
    reporter.close();
  }
  const rows = batchRows(loaded, outcomes);
  const files = [await writeBatchCsv(loaded, rows), await writeBatchHtml(loaded, rows)];
  const written = files.filter((file) => file !== null).map((file) => relative('.', file));
  const best = bestOfBaselines(rows);
  if (options.json) {
    const chosen = best.length > 0 && { best: best.map(({ name }) => name) };
    writeJson(io, { type: 'results', metric: loaded.metric, written, rows, ...chosen });
  } else {
    const chosen = best.length > 0 ? `\n\nthe best of each:\n${describeRows(best, loaded.metric)}` : '';
    io.stdout.write(`${describeRows(rows, loaded.metric)}${chosen}\nwritten to ${written.join(', ')}\n`);
  }
  throwWhatFailed(outcomes, io);
}

/** The exit status is that of the first job that failed. */
function throwWhatFailed(outcomes: readonly JobOutcome[], io: Io): void {
  const failed = outcomes.filter(({ status }) => status === 'failed');
  if (io.signal.aborted) {
    const left = outcomes.filter(({ status }) => status === 'interrupted' || status === 'waiting').length;
    throw new FinetableError(
      'INTERRUPTED',
      `batch: stopped, ${left} of ${outcomes.length} jobs are not finished; the same command goes on`,
    );
  }
  if (failed.length === 0) return;
  const told = failed.map(({ name, error }) => `\n  ${name}: ${error!.message.replaceAll('\n', '\n  ')}`);
  // An error that is none of ours has no code.
  const code = (failed[0]!.error as { code?: ErrorCode }).code ?? 'WORKER_FAILED';
  throw new FinetableError(code, `batch: ${failed.length} of ${outcomes.length} jobs failed:${told.join('')}`, {
    failed: failed.map(({ name }) => name),
  });
}

function chooseReporter(loaded: LoadedBatch, { json }: BatchOptions, io: Io): BatchReporter {
  if (json) return batchJson((event) => writeJson(io, event));
  const { length } = loaded.jobs;
  return io.stderr.isTTY ? batchBars(io.stderr, length) : batchLines((line) => io.stderr.write(`${line}\n`), length);
}
