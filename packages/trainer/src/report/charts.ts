/** Charts as SVG text: lines over steps, and bars. Colours are CSS variables of the page, so that one SVG serves light and dark. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Which colour of the page; also its dashes, so that lines are told apart without colours. */
  readonly style: number;
  /** Marked at each point: of few points. */
  readonly dots?: boolean;
}

export interface Bars {
  /** `[from, to)` of each bar. */
  readonly edges: readonly number[];
  readonly counts: readonly number[];
  readonly xLabel: string;
  readonly yLabel: string;
}

/** Beyond these a curve of so many pixels shows no more. */
const mostPoints = 400;
const dashes = ['none', '6 3', '2 3', '8 3 2 3'] as const;
const seriesColors = 6;
export const colorOf = (style: number): string => `var(--series-${(style % seriesColors) + 1})`;

/** Small, as cards and phones are, so that letters stay as large as they are. */
const size = { width: 360, height: 210, marginLeft: 50, marginBottom: 36 };
const short = (value: number): string =>
  Math.abs(value) >= 10_000 ? `${Number((value / 1000).toPrecision(3)).toLocaleString('en-US')}k` : String(value);

export function lineChart(series: readonly Series[], xLabel: string): string {
  const kept = series.map((one) => ({ ...one, points: thinned(finite(one.points)) }));
  const rows = kept.flatMap(({ name, points }) => points.map(([x, y]) => ({ name, x, y })));
  return draw({
    ...size,
    x: { label: xLabel, tickFormat: short, ticks: 5 },
    y: { grid: true, label: null, ticks: 5, tickFormat: short, ...flat(rows.map(({ y }) => y)) },
    marks: kept.flatMap(({ name, style, dots }) => {
      const own = rows.filter((row) => row.name === name);
      const stroke = colorOf(style);
      return [
        Plot.lineY(own, {
          x: 'x',
          y: 'y',
          stroke,
          strokeWidth: 2,
          strokeDasharray: dashes[Math.floor(style / seriesColors) % dashes.length]!,
        }),
        ...(dots || own.length === 1 ? [Plot.dot(own, { x: 'x', y: 'y', fill: stroke, r: 2.5 })] : []),
      ];
    }),
  });
}

export function barChart({ edges, counts, xLabel, yLabel }: Bars): string {
  const rows = counts.map((count, i) => ({ from: edges[i]!, to: edges[i + 1]!, count }));
  return draw({
    ...size,
    x: { label: xLabel, tickFormat: short, ticks: 5 },
    y: { grid: true, label: yLabel, ticks: 5, tickFormat: short },
    marks: [Plot.rectY(rows, { x1: 'from', x2: 'to', y: 'count', fill: colorOf(0), inset: 0.5 }), Plot.ruleY([0])],
  });
}

function draw(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<html><body></body></html>');
  const svg = Plot.plot({ ...options, document, style: { background: 'none', fontSize: '12px', overflow: 'visible' } });
  // The figure names it; its hundreds of tick labels are not to be read out one by one.
  svg.setAttribute('aria-hidden', 'true');
  svg.removeAttribute('role');
  return svg.outerHTML;
}

const finite = (points: Series['points']): Series['points'] => points.filter(([, y]) => Number.isFinite(y));

/** Means of neighbours. */
function thinned(points: Series['points']): Series['points'] {
  const each = Math.ceil(points.length / mostPoints);
  if (each <= 1) return points;
  return Array.from({ length: Math.ceil(points.length / each) }, (_, i) => {
    const some = points.slice(i * each, (i + 1) * each);
    return [some.at(-1)![0], some.reduce((sum, [, y]) => sum + y, 0) / some.length] as const;
  });
}

/** A scale for values that are all the same, which else have none. */
function flat(values: readonly number[]): { domain?: [number, number] } {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (low !== high) return {};
  const room = Math.abs(low) * 0.1 || 1;
  return { domain: [low - room, low + room] };
}
