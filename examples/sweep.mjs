// Runs a batch of examples' variants at several learning rates, keeps of each variant the run that validation chose, and evaluates that, once, on
// the test data.
import { batchRows, evaluateRun, formatBytes, readBatch, runJobs, writeBatchCsv } from 'finetable';

/**
 * Prints a Markdown table, a row for each variant.
 *
 * @param {string} file the batch file
 * @param {object} options
 * @param {string} options.test the test data
 * @param {string[]} options.metrics of the test
 * @param {(settings: Record<string, any>) => string} options.label a variant's name, by what the batch sets
 * @param {{ from: string, to: string }} options.data `from`, the folder of the batch's data in `.cache`, lies in `to`
 * @param {boolean} options.small for a quick look: each job has two epochs, and each variant the first of its learning rates
 */
export async function sweep(file, { test, metrics, label, data, small }) {
  const whole = moved(await readBatch(file), data);
  const batch = small ? reduced(whole, label) : whole;
  const outcomes = await runJobs(
    batch.jobs.map(({ loaded }) => loaded),
    { existing: 'overwrite', concurrency: batch.concurrency, memory: batch.memory, onEvent: showEnd },
  );
  const failed = outcomes.find(({ error }) => error);
  if (failed) throw failed.error;
  const rows = batchRows(batch, outcomes);
  await writeBatchCsv(batch, rows);

  const variants = new Map(batch.jobs.map(({ settings }) => [label(settings), null]));
  for (const row of rows) if (variants.get(label(row.settings)) === null) variants.set(label(row.settings), row);
  const table = [['', 'learning rate', `validation ${batch.metric}`, ...metrics.map((name) => `test ${name}`), 'touched rows', 'adapter']]; // prettier-ignore
  for (const [name, row] of variants) {
    const found = await evaluateRun(row.folder, test);
    const { baseline } = row.settings;
    const number = (value) => (Number.isFinite(value) ? value.toFixed(3) : '-');
    table.push([
      name,
      baseline === 'frozen' ? '-' : String(row.settings['optimizer.learningRate']),
      number(row.metric),
      ...metrics.map((metric) => number(found[metric])),
      row.touchedRows > 0 ? row.touchedRows.toLocaleString('en') : '-',
      row.touchedRows > 0 ? formatBytes(row.adapterBytes) : '-',
    ]);
  }
  table.splice(
    1,
    0,
    table[0].map(() => '---'),
  );
  for (const cells of table) console.log(`| ${cells.join(' | ')} |`);
}

function showEnd(event) {
  if (event.type === 'end') process.stderr.write(`${event.name}: ${event.status}\n`);
}

function moved(batch, { from, to }) {
  return JSON.parse(JSON.stringify(batch).replaceAll(`../../.cache/${from}/`, `${to}/`).replaceAll(batch.folder, `${to}/sweep`)); // prettier-ignore
}

function reduced(batch, label) {
  const first = batch.jobs.filter(
    (job, i) => batch.jobs.findIndex((other) => label(other.settings) === label(job.settings)) === i,
  );
  for (const { loaded } of first) {
    loaded.job.train.epochs = 2;
    loaded.job.data.workers = 0;
  }
  return { ...batch, jobs: first };
}
