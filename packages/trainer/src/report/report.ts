/** `report.html`: one run as a page. A pure function of the run's files. */
import type { RunResult } from '../run/run.ts';
import type { TableChanges } from './changes.ts';
import { barChart } from './charts.ts';
import { lineFigure } from './figures.ts';
import { figure, html, page, table, type Html } from './page.ts';
import type { FinishedRun } from './read.ts';
import { bytes, count, duration, facts, metricsOf, number, pointsOf, settingsOf } from './sections.ts';

export function renderReport(run: FinishedRun): string {
  const { job, result } = run;
  const changes = Object.entries(result.changes ?? {});
  const sections = [
    { id: 'results', title: 'Results', body: results(run) },
    { id: 'curves', title: 'Curves', body: curves(run) },
    ...(changes.length > 0
      ? [{ id: 'rows', title: 'Touched rows', body: html`${changes.map(([name, of]) => rowsOf(name, of, result))}` }]
      : []),
    ...changes.flatMap(([name, { probes }]) =>
      probes.length > 0
        ? [{ id: `near-${name}`, title: `Nearest rows in ${name}, before and after`, body: nearest(probes) }]
        : [],
    ),
    { id: 'cost', title: 'Time and memory', body: cost(result) },
    {
      id: 'settings',
      title: 'Settings',
      body: table('Every field of the job, defaults written out', ['field', 'value'], [...settingsOf(job)]),
    },
  ];
  return page(result.name, lead(run), sections);
}

function lead({ job, result }: FinishedRun): Html {
  const metrics = result.validation ?? result.train;
  const chosen = [...new Set([job.train.metric, ...Object.keys(metrics).filter((name) => !name.includes('/'))])];
  const shown = chosen.filter((name) => name in metrics).slice(0, 4);
  const adapters = Object.values(result.adapters);
  return html`<p class="soft">
      ${count(result.steps)} steps, ${result.epochs}
      ${result.epochs === 1 ? 'epoch' : 'epochs'}${result.stoppedEarly ? ' (stopped early)' : ''},
      ${duration(result.seconds)};
      ${result.validation ? `the best evaluation by ${job.train.metric}` : 'means of the last epoch of training: there was no validation data'}.
    </p>
    ${facts([
      ...shown.map((name) => [name, number(metrics[name])] as const),
      ['examples/s', count(result.examplesPerSecond)],
      ...(adapters.length > 0
        ? [['adapter', bytes(adapters.reduce((sum, a) => sum + a.adapterBytes, 0))] as const]
        : []),
    ])}`;
}

function results({ result }: FinishedRun): Html {
  const { train, validation } = result;
  const whole = [...new Set([...Object.keys(train), ...Object.keys(validation ?? {})])].filter(
    (name) => !name.includes('/'),
  );
  const main = table(
    'Metrics',
    ['metric', ...(validation ? ['validation'] : []), 'training, last epoch'],
    whole.map((name) => [name, ...(validation ? [number(validation[name])] : []), number(train[name])]),
  );
  return html`${main}${slices(validation ?? {})}`;
}

/** Metrics `name/label=value` as a table of values by names. */
function slices(metrics: Readonly<Record<string, number>>): Html | null {
  const found = Object.entries(metrics).flatMap(([name, value]) => {
    const cut = name.indexOf('/');
    return cut < 0 ? [] : [{ metric: name.slice(0, cut), slice: name.slice(cut + 1), value }];
  });
  if (found.length === 0) return null;
  const names = [...new Set(found.map(({ metric }) => metric))];
  const bySlice = new Map(found.map(({ slice }) => [slice, found.filter((other) => other.slice === slice)]));
  return table(
    'By slice of the validation examples',
    ['slice', ...names],
    [...bySlice]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([slice, values]) => [
        slice,
        ...names.map((name) => number(values.find(({ metric }) => metric === name)?.value)),
      ]),
  );
}

function curves(run: FinishedRun): Html {
  const { steps, evaluations } = run;
  const training = { name: 'training', style: 0 };
  const validation = { name: 'validation', style: 1, dots: true };
  const figures = [
    ...metricsOf([run]).map((metric) =>
      lineFigure(metric, [
        { ...training, points: pointsOf(steps, metric) },
        { ...validation, points: pointsOf(evaluations, metric) },
      ]),
    ),
    lineFigure('examples per second', [
      { ...training, points: steps.map(({ step, examplesPerSecond }) => [step, examplesPerSecond]) },
    ]),
    lineFigure('rows touched', [{ ...training, points: steps.map(({ step, touchedRows }) => [step, touchedRows]) }]),
  ];
  return html`<div class="figures">${figures}</div>`;
}

function rowsOf(name: string, { positions, sampledRows, moved }: TableChanges, result: RunResult): Html {
  const { rows } = result.tables[name]!;
  const { touchedRows } = result.adapters[name]!;
  const edges = positions.map((_, i) => Math.round((i * rows) / positions.length));
  const share = number((100 * touchedRows) / rows);
  const sampled = sampledRows < touchedRows ? `${count(sampledRows)} of them, evenly chosen` : 'them';
  const bars = (title: string, edges: readonly number[], counts: readonly number[], xLabel: string): Html =>
    figure(
      title,
      barChart({ edges, counts, xLabel, yLabel: 'rows' }),
      [],
      table(
        title,
        ['from', 'to', 'rows'],
        counts.map((n, i) => [number(edges[i]), number(edges[i + 1]), count(n)]),
      ),
    );
  return html`<p>
      ${name}: training touched ${count(touchedRows)} of ${count(rows)} rows (${share} %). Half of ${sampled} moved by
      ${number(100 * moved.median)} % of their length or more.
    </p>
    <div class="figures">
      ${bars('Where they lie in the table', [...edges, rows], positions, 'row')}${bars('How far they moved, as a share of their length', moved.edges, moved.counts, '|change| / |row|')}
    </div>`;
}

function nearest(probes: TableChanges['probes']): Html {
  const list = (neighbours: TableChanges['probes'][number]['before']): Html =>
    html`${neighbours.map(({ word, score }, i) => html`${i > 0 ? ', ' : ''}${word} <span class="soft">${score.toFixed(2)}</span>`)}`;
  return table(
    'By cosine, with the score',
    ['row', 'moved by', 'before', 'after'],
    probes.map(({ word, moved, before, after }) => [word, number(moved), list(before), list(after)]),
  );
}

function cost(result: RunResult): Html {
  const waiting = result.seconds > 0 ? (100 * result.waitSeconds) / result.seconds : 0;
  const adapters = Object.entries(result.adapters).map(
    ([name, { groups, touchedRows, adapterBytes, optimizerBytes }]) => {
      const of = result.tables[name];
      return [
        name,
        groups
          .map(
            ({ name, kind, rank }) =>
              `${name === 'rest' ? '' : `${name}: `}${kind === 'dense' ? 'dense' : `rank ${rank}`}`,
          )
          .join(', '),
        count(touchedRows),
        bytes(adapterBytes),
        bytes(optimizerBytes),
        of ? bytes(of.bytes) : '–',
        of ? `${number((100 * adapterBytes) / of.bytes)} %` : '–',
      ];
    },
  );
  return html`${facts([
      ['training', duration(result.seconds)],
      ['step', `${number(result.stepMilliseconds)} ms`],
      ['waiting for data', `${number(waiting)} %`],
      ['memory of the process', bytes(result.peakMemoryBytes)],
    ])}${adapters.length > 0 ? table('Adapters', ['table', 'factors', 'rows touched', 'adapter', 'optimiser', 'table itself', 'adapter / table'], adapters) : null}
    <p class="soft">Kernels: ${result.kernels}.</p>`;
}
