/** Three ways to show a training's events: a bar on a terminal, lines elsewhere, JSON for programs. */
import type { TrainingEvent } from '@finetable/trainer';
import { formatBytes } from '@finetable/core';
import { MultiBar } from 'cli-progress';
import { formatCount, formatDuration, formatMetrics } from '../format.ts';
import type { Output } from '../io.ts';
import { detailLine, ProgressState, progressLine } from './progress-line.ts';

export interface Reporter {
  event(event: TrainingEvent): void;
  /** Takes the bar off the terminal. Safe to call twice. */
  close(): void;
}

/** One object per event; ticks, which come with every step, are left out. */
export function jsonReporter(write: (event: TrainingEvent) => void): Reporter {
  return {
    event: (event) => {
      if (event.type !== 'tick') write(event);
    },
    close: () => undefined,
  };
}

export function lineReporter(write: (line: string) => void): Reporter {
  return {
    event: (event) => {
      const line = describeEvent(event);
      if (line !== null) write(line);
    },
    close: () => undefined,
  };
}

/** Two lines at the bottom of the terminal, with evaluations above them. */
export function barReporter(stream: Output): Reporter {
  const state = new ProgressState();
  const bars = new MultiBar({
    stream,
    format: (_options, _values, { line }: { line: 'progress' | 'details' }) => {
      const columns = stream.columns ?? 80;
      if (line === 'details') return detailLine(state, process.memoryUsage.rss(), columns);
      return progressLine(state, performance.now(), columns);
    },
    clearOnComplete: true,
    // A terminal whose settings were changed would stay so after a second signal, which ends the process at once.
    hideCursor: false,
    linewrap: true,
    fps: 5,
    // Signals are ours.
    gracefulExit: false,
  });
  let open = false;
  return {
    event: (event) => {
      state.update(event, performance.now());
      if (event.type === 'start') {
        bars.create(1, 0, { line: 'progress' });
        bars.create(1, 0, { line: 'details' });
        open = true;
      }
      if (event.type === 'start' || event.type === 'evaluation') bars.log(`${describeEvent(event)!}\n`);
    },
    close: () => {
      if (!open) return;
      open = false;
      bars.update(); // what was logged since the last redraw
      bars.stop();
    },
  };
}

/** An event as one line; null for ticks. */
export function describeEvent(event: TrainingEvent): string | null {
  switch (event.type) {
    case 'start': {
      const { epochs, stepsPerEpoch, steps, secondsLeft, examples, step } = event;
      const most = [
        ...(steps !== null && steps < epochs * (stepsPerEpoch ?? Infinity) ? [`${formatCount(steps)} steps`] : []),
        ...(secondsLeft === null ? [] : [formatDuration(secondsLeft)]),
      ];
      const from = `${most.length > 0 ? `, at most ${most.join(' and ')}` : ''}${step > 0 ? `, going on after step ${formatCount(step)}` : ''}`;
      if (examples === null || stepsPerEpoch === null) return `${epochs} epochs of examples as they come${from}`;
      return `${formatCount(examples)} examples, ${epochs} epochs of ${formatCount(stepsPerEpoch)} steps${from}`;
    }
    case 'step': {
      const { step, epoch, metrics, examplesPerSecond, waitSeconds, touchedRows, memoryBytes } = event;
      const figures = [
        `${formatCount(examplesPerSecond)} examples/s`,
        ...(waitSeconds >= 0.05 ? [`${formatDuration(waitSeconds)} waiting for data`] : []),
        `${formatCount(touchedRows)} rows touched`,
        formatBytes(memoryBytes),
      ];
      return `step ${step}, epoch ${epoch + 1}: ${formatMetrics(metrics)}; ${figures.join(', ')}`;
    }
    case 'evaluation': {
      const { step, epoch, metrics, best } = event;
      return `evaluation after step ${step}, epoch ${epoch + 1}: ${formatMetrics(metrics)}${best ? ' (best so far)' : ''}`;
    }
    case 'checkpoint':
      return `checkpoint after step ${event.step}: ${event.folder}`;
    case 'tick':
      return null;
  }
}
