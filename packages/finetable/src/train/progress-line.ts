/** The progress line: where a training is, as one line that fits the terminal. */
import type { TrainingEvent } from '@finetable/trainer';
import { formatCount, formatDuration, formatNumber } from '../format.ts';

const narrowestBar = 8;
/** Weight of the past in the smoothed loss: an average over about the last 50 steps. */
const smoothing = 0.98;

/** What the line is made of, kept up to date by events. */
export class ProgressState {
  epochs = 0;
  stepsPerEpoch = 0;
  examplesPerStep = 0;
  step = 0;
  epoch = 0;
  /** Of the latest evaluation; before there is one, of the latest step event. */
  metrics: Readonly<Record<string, number>> = {};
  #weighted = 0;
  #weight = 0;
  #startStep = 0;
  #startTime = 0;
  #evaluated = false;

  /** @param now in ms */
  update(event: TrainingEvent, now: number): void {
    if (event.type === 'start') {
      this.epochs = event.epochs;
      const { examples, stepsPerEpoch } = event;
      this.stepsPerEpoch = stepsPerEpoch ?? 0;
      this.examplesPerStep = (examples ?? 0) / (stepsPerEpoch ?? 1);
      this.step = this.#startStep = event.step;
      this.epoch = stepsPerEpoch === null ? 0 : Math.floor(event.step / stepsPerEpoch);
      this.#startTime = now;
    } else if (event.type === 'tick') {
      this.step = event.step;
      this.epoch = event.epoch;
      this.#weighted = smoothing * this.#weighted + (1 - smoothing) * event.loss;
      this.#weight = smoothing * this.#weight + (1 - smoothing);
    } else if (event.type === 'evaluation' || (event.type === 'step' && !this.#evaluated)) {
      this.#evaluated = event.type === 'evaluation';
      this.metrics = event.metrics;
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
}

/**
 * `2/6 ━━━━━━────── 31% loss 1.23 accuracy 0.712 12,345 examples/s 1:23 left`, at most `columns - 1` wide: what does not
 * fit is left out, metrics first.
 */
export function progressLine(state: ProgressState, now: number, columns: number): string {
  const total = state.epochs * state.stepsPerEpoch;
  const share = total === 0 ? 0 : state.step / total;
  const speed = state.stepsPerSecond(now);
  const epoch = `epoch ${Math.min(state.epoch + 1, state.epochs)}/${state.epochs}`;
  const percent = `${String(Math.floor(share * 100)).padStart(3)}%`;
  const loss = Number.isNaN(state.loss) ? [] : [`loss ${formatNumber(state.loss)}`];
  const metrics = Object.entries(state.metrics)
    .filter(([name]) => name !== 'loss')
    .map(([name, value]) => `${name} ${formatNumber(value)}`);
  const rates =
    speed === 0
      ? []
      : [
          `${formatCount(speed * state.examplesPerStep)} examples/s`,
          `${formatDuration((total - state.step) / speed)} left`,
        ];

  const width = columns - 1; // a character in the last column would wrap on some terminals
  const room = (parts: readonly string[]): number => width - epoch.length - parts.join(' ').length - 2;
  const fullestFirst = [
    [percent, ...loss, ...metrics, ...rates],
    [percent, ...loss, ...rates],
    [percent, ...loss],
    [percent],
  ];
  const parts = fullestFirst.find((some) => room(some) >= narrowestBar) ?? [percent];
  const length = Math.min(24, Math.max(0, room(parts)));
  const filled = Math.round(share * length);
  return `${epoch} ${'━'.repeat(filled)}${'─'.repeat(length - filled)} ${parts.join(' ')}`.slice(0, Math.max(0, width));
}
