/** The progress lines: where a training is, as two lines that fit the terminal. */
import { formatBytes } from '@finetable/core';
import type { TrainingEvent } from '@finetable/trainer';
import { formatCount, formatDuration, formatNumber } from '../format.ts';

const narrowestBar = 8;
/** Weight of the past in the smoothed loss: an average over about the last 50 steps. */
const smoothing = 0.98;

/** What the lines are made of, kept up to date by events. */
export class ProgressState {
  epochs = 0;
  /** Of the whole training, at most; Infinity where nobody knows. */
  steps = Infinity;
  examplesPerStep = 0;
  step = 0;
  epoch = 0;
  touchedRows = 0;
  /** Of the latest evaluation; before there is one, of the latest step event. */
  metrics: Readonly<Record<string, number>> = {};
  /** The share of the time in which data was waited for; NaN before the first step event. */
  waitShare = NaN;
  #weighted = 0;
  #weight = 0;
  #startStep = 0;
  #startTime = 0;
  #secondsLeft = Infinity;
  #waitSeconds = 0;
  #evaluated = false;

  /** @param now in ms */
  update(event: TrainingEvent, now: number): void {
    if (event.type === 'start') {
      const { examples, stepsPerEpoch, steps, secondsLeft } = event;
      this.epochs = event.epochs;
      this.steps = steps ?? Infinity;
      this.examplesPerStep = (examples ?? 0) / (stepsPerEpoch ?? 1);
      this.step = this.#startStep = event.step;
      this.epoch = stepsPerEpoch === null ? 0 : Math.floor(event.step / stepsPerEpoch);
      this.#startTime = now;
      this.#secondsLeft = secondsLeft ?? Infinity;
    } else if (event.type === 'tick') {
      this.step = event.step;
      this.epoch = event.epoch;
      this.#weighted = smoothing * this.#weighted + (1 - smoothing) * event.loss;
      this.#weight = smoothing * this.#weight + (1 - smoothing);
    } else if (event.type === 'evaluation' || (event.type === 'step' && !this.#evaluated)) {
      this.#evaluated = event.type === 'evaluation';
      this.metrics = event.metrics;
    }
    if (event.type === 'step') {
      this.touchedRows = event.touchedRows;
      this.#waitSeconds += event.waitSeconds;
      this.waitShare = (1000 * this.#waitSeconds) / (now - this.#startTime);
    }
  }

  /** NaN before the first step. The weights are divided out, so that the first steps are not drawn to 0. */
  get loss(): number {
    return this.#weighted / this.#weight;
  }

  /** Since the start, evaluations and checkpoints included; 0 before the first step. */
  stepsPerSecond(now: number): number {
    return this.step === this.#startStep ? 0 : ((this.step - this.#startStep) * 1000) / (now - this.#startTime);
  }

  /** Until steps or time are used up, whichever is first; Infinity where nobody knows. */
  secondsLeft(now: number): number {
    const speed = this.stepsPerSecond(now);
    const bySteps = speed === 0 ? Infinity : (this.steps - this.step) / speed;
    return Math.min(bySteps, Math.max(0, this.#secondsLeft - (now - this.#startTime) / 1000));
  }

  /** How much is done, from 0 to 1; null where nobody knows. */
  share(now: number): number | null {
    const ofSteps = this.step / this.steps;
    const ofTime = (now - this.#startTime) / 1000 / this.#secondsLeft;
    const known = Number.isFinite(this.steps) || Number.isFinite(this.#secondsLeft);
    return known ? Math.min(1, Math.max(ofSteps, ofTime)) : null;
  }
}

/**
 * `epoch 2/6 ━━━━━━──────  31% loss 1.23 accuracy 0.712 12,345 examples/s 1:23 left`, at most `columns - 1` wide: what does not
 * fit is left out, metrics first.
 */
export function progressLine(state: ProgressState, now: number, columns: number): string {
  const share = state.share(now);
  const speed = state.stepsPerSecond(now) * state.examplesPerStep;
  const left = state.secondsLeft(now);
  const epoch = `epoch ${Math.min(state.epoch + 1, state.epochs)}/${state.epochs}`;
  const percent = share === null ? [] : [`${String(Math.floor(share * 100)).padStart(3)}%`];
  const loss = Number.isNaN(state.loss) ? [] : [`loss ${formatNumber(state.loss)}`];
  const metrics = Object.entries(state.metrics)
    .filter(([name]) => name !== 'loss')
    .map(([name, value]) => `${name} ${formatNumber(value)}`);
  const rates = [
    ...(speed > 0 ? [`${formatCount(speed)} examples/s`] : []),
    ...(Number.isFinite(left) ? [`${formatDuration(left)} left`] : []),
  ];

  const width = columns - 1; // a character in the last column would wrap on some terminals
  const room = (parts: readonly string[]): number => width - epoch.length - parts.join(' ').length - 2;
  const fullestFirst = [
    [...percent, ...loss, ...metrics, ...rates],
    [...percent, ...loss, ...rates],
    [...percent, ...loss],
    percent,
  ];
  const parts = fullestFirst.find((some) => room(some) >= narrowestBar) ?? percent;
  const length = share === null ? 0 : Math.min(24, Math.max(0, room(parts)));
  const filled = Math.round((share ?? 0) * length);
  const bar = '━'.repeat(filled) + '─'.repeat(length - filled);
  return [epoch, ...(share === null ? [] : [bar]), ...parts].join(' ').slice(0, Math.max(0, width));
}

/** `step 150/300, waiting for data 0.4 %, memory 312 MiB, 4,012 rows touched`, at most `columns - 1` wide. */
export function detailLine(state: ProgressState, memoryBytes: number, columns: number): string {
  const parts = [
    `step ${formatCount(state.step)}${Number.isFinite(state.steps) ? `/${formatCount(state.steps)}` : ''}`,
    ...(Number.isNaN(state.waitShare) ? [] : [`waiting for data ${(100 * state.waitShare).toFixed(1)} %`]),
    `memory ${formatBytes(memoryBytes)}`,
    ...(state.touchedRows > 0 ? [`${formatCount(state.touchedRows)} rows touched`] : []),
  ];
  return parts.join(', ').slice(0, Math.max(0, columns - 1));
}
