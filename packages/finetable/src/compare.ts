/** `finetable compare`: finished runs side by side. */
import { compareRuns, comparisonRows } from '@finetable/trainer';
import { writeJson } from './failure.ts';
import { alignRows } from './format.ts';
import type { Io } from './io.ts';
import type { CompareOptions } from './program.ts';

export async function compare(folders: readonly string[], { output, json }: CompareOptions, io: Io): Promise<void> {
  const runs = await compareRuns(folders, output);
  if (json) {
    writeJson(io, { written: output, runs });
    return;
  }
  const header = ['', ...runs.map(({ label }) => label)];
  const sections = comparisonRows(runs).filter(({ rows }) => rows.length > 0);
  // One alignment for all, so that a run is one column from top to bottom.
  io.stdout.write(
    alignRows([header, ...sections.flatMap(({ title, rows }) => [[''], [title], ...rows])]).replaceAll(/ +$/gm, ''),
  );
  io.stdout.write(`\nwritten to ${output}\n`);
}
