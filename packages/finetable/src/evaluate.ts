/** `finetable evaluate`: metrics of a finished run on its job's data, or on a file. */
import { evaluateRun } from '@finetable/trainer';
import { writeJson } from './failure.ts';
import { alignRows, formatNumber } from './format.ts';
import type { Io } from './io.ts';
import type { EvaluateOptions } from './program.ts';

export async function evaluate(folder: string, { data, json }: EvaluateOptions, io: Io): Promise<void> {
  const metrics = await evaluateRun(folder, data, io.signal);
  if (json) writeJson(io, { folder, ...(data !== undefined && { data }), metrics });
  else io.stdout.write(alignRows(Object.entries(metrics).map(([name, value]) => [name, formatNumber(value)])));
}
