/** Finished runs side by side: settings that differ, metrics, times and sizes. */
import { writeFileAtomic } from '@finetable/formats';
import { FinetableError } from '@finetable/core';
import { readFinishedRun, type FinishedRun } from './read.ts';
import { bytes, count, duration, number, settingsOf } from './sections.ts';

/** A run beside others. */
export interface ComparedRun {
  readonly label: string;
  readonly folder: string;
  /** The fields that are not the same in all runs, by path; null where a run does not have it. */
  readonly settings: Readonly<Record<string, string | null>>;
  /** Of the best evaluation, else of the last epoch of training. */
  readonly metrics: Readonly<Record<string, number>>;
  readonly steps: number;
  readonly seconds: number;
  readonly examplesPerSecond: number;
  /** Share of the time spent waiting for data. */
  readonly waiting: number;
  readonly peakMemoryBytes: number;
  readonly touchedRows: number;
  readonly adapterBytes: number;
  readonly optimizerBytes: number;
}

/**
 * Reads finished runs and compares them, in the order given.
 * @param html where to write the page; default: nowhere
 * @throws NOT_FOUND where a folder holds no finished run, INVALID_ARGUMENT for fewer than two, IO
 */
export async function compareRuns(folders: readonly string[], html?: string): Promise<ComparedRun[]> {
  if (folders.length < 2)
    throw new FinetableError('INVALID_ARGUMENT', `compare: ${folders.length} run; allowed: two run folders or more`);
  const runs = distinct(await Promise.all(folders.map(readFinishedRun)));
  const compared = compare(runs);
  if (html !== undefined) {
    // Charts take a while to load, and many a program needs none.
    const { renderComparison } = await import('./comparison.ts');
    await writeFileAtomic(html, renderComparison(runs, compared));
  }
  return compared;
}

/** Labels that tell the runs apart: the folder's name, or the whole path. */
function distinct(runs: readonly FinishedRun[]): FinishedRun[] {
  const labels = runs.map(({ label }) => label);
  return new Set(labels).size === labels.length ? [...runs] : runs.map((run) => ({ ...run, label: run.folder }));
}

function compare(runs: readonly FinishedRun[]): ComparedRun[] {
  const settings = runs.map(({ job }) => settingsOf({ ...job, name: undefined }));
  const fields = [...new Set(settings.flatMap((of) => [...of.keys()]))];
  const differing = fields.filter((field) => new Set(settings.map((of) => of.get(field))).size > 1);
  return runs.map(({ label, folder, result }, i) => {
    const adapters = Object.values(result.adapters);
    const sum = (of: (adapter: (typeof adapters)[number]) => number): number =>
      adapters.reduce((total, adapter) => total + of(adapter), 0);
    return {
      label,
      folder,
      settings: Object.fromEntries(differing.map((field) => [field, settings[i]!.get(field) ?? null])),
      metrics: result.validation ?? result.train,
      steps: result.steps,
      seconds: result.seconds,
      examplesPerSecond: result.examplesPerSecond,
      waiting: result.seconds > 0 ? result.waitSeconds / result.seconds : 0,
      peakMemoryBytes: result.peakMemoryBytes,
      touchedRows: sum((adapter) => adapter.touchedRows),
      adapterBytes: sum((adapter) => adapter.adapterBytes),
      optimizerBytes: sum((adapter) => adapter.optimizerBytes),
    };
  });
}

/** Rows of text, a column for each run: a heading, then what is compared. */
export function comparisonRows(runs: readonly ComparedRun[]): { readonly title: string; readonly rows: string[][] }[] {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))];
  // Those of slices after those of all examples.
  const metrics = [
    ...names.filter((name) => !name.includes('/')),
    ...names.filter((name) => name.includes('/')).sort(),
  ];
  const fields = Object.keys(runs[0]!.settings);
  const row = (name: string, of: (run: ComparedRun) => string): string[] => [name, ...runs.map(of)];
  return [
    { title: 'Settings that differ', rows: fields.map((field) => row(field, (run) => run.settings[field] ?? '–')) },
    { title: 'Metrics', rows: metrics.map((name) => row(name, (run) => number(run.metrics[name]))) },
    {
      title: 'Time and size',
      rows: [
        row('steps', (run) => count(run.steps)),
        row('time', (run) => duration(run.seconds)),
        row('examples/s', (run) => count(run.examplesPerSecond)),
        row('waiting for data', (run) => `${number(100 * run.waiting)} %`),
        row('rows touched', (run) => count(run.touchedRows)),
        row('adapter', (run) => bytes(run.adapterBytes)),
        row('optimiser', (run) => bytes(run.optimizerBytes)),
        row('memory of the process', (run) => bytes(run.peakMemoryBytes)),
      ],
    },
  ];
}
