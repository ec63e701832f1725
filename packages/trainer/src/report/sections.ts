/** How reports and comparisons name numbers, metrics and settings. Without charts, which take a while to load. */
import { formatBytes } from '@finetable/core';
import type { Series } from './charts.ts';
import { html, type Html } from './page.ts';
import type { FinishedRun } from './read.ts';

/** Three significant digits. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return size >= 100 ? count(value) : String(Number(value.toPrecision(3)));
}

export const count = (value: number): string => Math.round(value).toLocaleString('en-US');

export const bytes = formatBytes;

export function duration(seconds: number): string {
  if (seconds < 60) return `${number(seconds)} s`;
  const [minutes, rest] = [Math.floor(seconds / 60), Math.round(seconds % 60)];
  return minutes < 60 ? `${minutes} min ${rest} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Metrics that are no slice's: those of training first. */
export function metricsOf(runs: readonly FinishedRun[]): string[] {
  const names = runs.flatMap(({ steps, evaluations }) =>
    [...steps.slice(0, 1), ...evaluations.slice(0, 1)].flatMap(({ metrics }) => Object.keys(metrics)),
  );
  return [...new Set(names)].filter((name) => !name.includes('/'));
}

export function pointsOf(
  logged: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[],
  metric: string,
): Series['points'] {
  // What was no number is null in JSON.
  return logged.flatMap(({ step, metrics }) =>
    typeof metrics[metric] === 'number' ? [[step, metrics[metric]] as const] : [],
  );
}

/** A job's fields by path, lists as text. */
export function settingsOf(job: object): Map<string, string> {
  const settings = new Map<string, string>();
  const walk = (value: unknown, path: string): void => {
    if (value === undefined) return;
    if (typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0) {
      for (const [key, inner] of Object.entries(value)) walk(inner, path ? `${path}.${key}` : key);
    } else settings.set(path, typeof value === 'string' ? value : JSON.stringify(value));
  };
  walk(job, '');
  return settings;
}

export const facts = (entries: readonly (readonly [name: string, value: string])[]): Html =>
  html`<dl class="facts">
    ${entries.map(
      ([name, value]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`;
