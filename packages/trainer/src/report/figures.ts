/** Charts with their titles, legends and values. */
import { colorOf, lineChart, type Series } from './charts.ts';
import { figure, table, type Html } from './page.ts';
import { count, number } from './sections.ts';

/** Several curves under one title, their values beneath. */
export function lineFigure(title: string, series: readonly Series[]): Html | null {
  const drawn = series.filter(({ points }) => points.some(([, y]) => Number.isFinite(y)));
  if (drawn.length === 0) return null;
  const legend = drawn.map(({ name, style }) => ({ name, color: colorOf(style) }));
  return figure(title, lineChart(drawn, 'step'), legend, valuesOf(title, drawn));
}

/** At most so many rows: a curve's outline. */
const mostValues = 24;

function valuesOf(title: string, series: readonly Series[]): Html {
  const steps = [...new Set(series.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  const each = Math.ceil(steps.length / mostValues);
  const kept = steps.filter((_, i) => (steps.length - 1 - i) % each === 0);
  const byStep = series.map(({ points }) => new Map(points));
  return table(
    title,
    ['step', ...series.map(({ name }) => name)],
    kept.map((step) => [count(step), ...byStep.map((points) => number(points.get(step)))]),
  );
}
