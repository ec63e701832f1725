/** Three ways to show a batch: a line for each running job on a terminal, a line for each ended one elsewhere, JSON for programs. */
import { toPlainError } from '@finetable/core';
import { rungName, type BatchEvent } from '@finetable/trainer';
import { MultiBar, type SingleBar } from 'cli-progress';
import { formatDuration, formatMetrics } from '../format.ts';
import type { Output } from '../io.ts';
import { progressLine, ProgressState } from '../train/progress-line.ts';

export interface BatchReporter {
  event(event: BatchEvent): void;
  /** Takes the bars off the terminal. Safe to call twice. */
  close(): void;
}

/** One object per event; ticks are left out. */
export function batchJson(write: (event: object) => void): BatchReporter {
  return {
    event: (event) => {
      if (event.type === 'end') write({ ...event, error: event.error && withoutStack(event.error) });
      else if (event.type !== 'training' || event.event.type !== 'tick') write(event);
    },
    close: () => undefined,
  };
}

function withoutStack(error: Error): object {
  const { code, message, details } = toPlainError(error);
  return { code: code ?? 'UNEXPECTED', message, details };
}

/** @param jobs of the batch */
export function batchLines(write: (line: string) => void, jobs: number): BatchReporter {
  let ended = 0;
  return {
    event: (event) => {
      if (event.type === 'end') write(describeEnd(event, ++ended, jobs));
      if (event.type === 'note') write(`${event.name}: ${event.note}`);
    },
    close: () => undefined,
  };
}

/** A line for every running job, named, with what has ended above them. */
export function batchBars(stream: Output, jobs: number): BatchReporter {
  const states = new Map<number, { readonly name: string; readonly state: ProgressState; readonly bar: SingleBar }>();
  const line = (job: number): string => {
    const columns = stream.columns ?? 80;
    const { name, state } = states.get(job)!;
    // A third of the line at most, and its end: that is where names of a batch differ.
    const room = Math.max(8, Math.floor(columns / 3));
    const label = name.length > room ? `…${name.slice(1 - room)}` : name;
    return `${label} ${state.epochs === 0 ? 'opens its tables' : progressLine(state, performance.now(), columns - label.length - 1)}`.slice(
      0,
      Math.max(0, columns - 1),
    );
  };
  const bars = new MultiBar({
    stream,
    format: (_options, _params, { job }: { job: number }) => line(job),
    clearOnComplete: true,
    hideCursor: false,
    linewrap: true,
    fps: 5,
    gracefulExit: false,
  });
  let ended = 0;
  let open = false;
  return {
    event: (event) => {
      switch (event.type) {
        case 'begin': {
          open = true;
          const entry = { name: event.name, state: new ProgressState() };
          states.set(event.job, { ...entry, bar: null as never });
          states.set(event.job, { ...states.get(event.job)!, bar: bars.create(1, 0, { job: event.job }) });
          break;
        }
        case 'training':
          states.get(event.job)!.state.update(event.event, performance.now());
          break;
        case 'note':
          bars.log(`${event.name}: ${event.note}\n`);
          break;
        case 'rung': {
          const state = states.get(event.job);
          if (state) bars.remove(state.bar);
          states.delete(event.job);
          break;
        }
        case 'end': {
          const text = `${describeEnd(event, ++ended, jobs)}\n`;
          const state = states.get(event.job);
          if (state) bars.remove(state.bar);
          if (open) bars.log(text);
          else stream.write(text);
        }
      }
    },
    close: () => {
      if (!open) return;
      open = false;
      bars.update(); // what was logged since the last redraw
      bars.stop();
    },
  };
}

function describeEnd(event: Extract<BatchEvent, { type: 'end' }>, ended: number, jobs: number): string {
  const { name, status, result, error, stopped } = event;
  const what = {
    finished: () => `${formatMetrics(result!.validation ?? result!.train)}; ${formatDuration(result!.seconds)}`,
    kept: () => 'finished before',
    failed: () => `failed: ${error!.message.split('\n')[0]!}`,
    interrupted: () => 'interrupted, with a checkpoint where it had begun to train',
    stopped: () => `stopped after ${rungName(stopped!.after)}: ${formatMetrics(stopped!.metrics)}`,
    waiting: () => 'not begun',
  }[status]();
  return `${ended}/${jobs} ${name}: ${what}`;
}
