/** Several runs as a page: tables side by side, and their curves. */
import { comparisonRows, type ComparedRun } from './compare.ts';
import { lineFigure } from './figures.ts';
import { html, page, table } from './page.ts';
import type { FinishedRun } from './read.ts';
import { metricsOf, pointsOf } from './sections.ts';

export function renderComparison(runs: readonly FinishedRun[], compared: readonly ComparedRun[]): string {
  const header = ['', ...compared.map(({ label }) => label)];
  const series = (of: (run: FinishedRun) => readonly (readonly [number, number])[]) =>
    runs.map((run, style) => ({ name: run.label, style, points: of(run) }));
  const figures = [
    ...metricsOf(runs).flatMap((metric) => [
      lineFigure(
        `${metric}, validation`,
        series(({ evaluations }) => pointsOf(evaluations, metric)),
      ),
      lineFigure(
        `${metric}, training`,
        series(({ steps }) => pointsOf(steps, metric)),
      ),
    ]),
    lineFigure(
      'examples per second',
      series(({ steps }) => steps.map(({ step, examplesPerSecond }) => [step, examplesPerSecond])),
    ),
    lineFigure(
      'rows touched',
      series(({ steps }) => steps.map(({ step, touchedRows }) => [step, touchedRows])),
    ),
  ];
  const tables = comparisonRows(compared).filter(({ rows }) => rows.length > 0);
  return page(
    `${runs.length} runs compared`,
    html`<p class="soft">${compared.map(({ label }) => label).join(', ')}</p>`,
    [
      {
        id: 'tables',
        title: 'Side by side',
        body: html`${tables.map(({ title, rows }) => table(title, header, rows))}`,
      },
      { id: 'curves', title: 'Curves', body: html`<div class="figures">${figures}</div>` },
    ],
  );
}
