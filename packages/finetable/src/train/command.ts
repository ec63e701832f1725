/** `finetable train`: a job file to a run folder, with its progress shown. */
import { relative, resolve } from 'node:path';
import { FinetableError, isFinetableError } from '@finetable/core';
import { readJob, runFolder, runJob } from '@finetable/trainer';
import { writeJson } from '../failure.ts';
import type { Io } from '../io.ts';
import type { TrainOptions } from '../program.ts';
import { barReporter, jsonReporter, lineReporter, type Reporter } from './progress.ts';
import { summarize } from './summary.ts';

export async function train(jobFile: string, options: TrainOptions, io: Io): Promise<void> {
  const threads = options.threads === undefined ? [] : [`train.threads=${options.threads}`];
  const loaded = await readJob(jobFile, [...options.set, ...threads]);
  const folder = options.run ?? relative('.', runFolder(loaded));
  if (options.overwrite && resolve(folder) === loaded.folder) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `--run ${folder}: is the job file's own folder, which --overwrite would empty; choose another folder`,
    );
  }
  const reporter = chooseReporter(options, io);
  try {
    const result = await runJob(loaded, {
      folder,
      existing: options.resume ? 'resume' : options.overwrite ? 'overwrite' : 'refuse',
      signal: io.signal,
      onEvent: (event) => reporter.event(event),
      onNote: (note) => io.stderr.write(`finetable: ${note}\n`),
    });
    reporter.close();
    if (options.json) writeJson(io, { type: 'result', folder, ...result });
    else io.stdout.write(summarize(result, folder));
  } catch (error) {
    // Before the message: a bar on the terminal would be drawn over it.
    reporter.close();
    if (isFinetableError(error) && error.code === 'INTERRUPTED') {
      io.stderr.write(`finetable: stopped; the same command with --resume goes on\n`);
    }
    throw error;
  }
}

function chooseReporter({ json }: TrainOptions, io: Io): Reporter {
  if (json) return jsonReporter((event) => writeJson(io, event));
  return io.stderr.isTTY ? barReporter(io.stderr) : lineReporter((line) => io.stderr.write(`${line}\n`));
}
