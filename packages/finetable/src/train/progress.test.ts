import type { TrainingEvent } from '@finetable/trainer';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Captured } from '../testing/capture.ts';
import { detailLine, progressLine, ProgressState } from './progress-line.ts';
import { barReporter, describeEvent, jsonReporter, lineReporter } from './progress.ts';

const start: TrainingEvent = {
  type: 'start',
  epochs: 3,
  stepsPerEpoch: 100,
  steps: 300,
  secondsLeft: null,
  examples: 25_600,
  step: 0,
};
const tick = (step: number, loss: number): TrainingEvent => ({
  type: 'tick',
  step,
  epoch: Math.floor((step - 1) / 100),
  loss,
});
const step: TrainingEvent = {
  type: 'step',
  step: 50,
  epoch: 0,
  metrics: { loss: 2, accuracy: 0.25 },
  examplesPerSecond: 12345.6,
  waitSeconds: 0,
  touchedRows: 4012,
  memoryBytes: 312 * 2 ** 20,
};
const evaluation: TrainingEvent = {
  type: 'evaluation',
  step: 100,
  epoch: 0,
  metrics: { loss: 1.5, accuracy: 0.71234 },
  best: true,
};
const checkpoint: TrainingEvent = { type: 'checkpoint', step: 100, folder: 'runs/x/checkpoints/step-00000100' };

/** 150 steps in 1.5 seconds. */
function halfWay(): ProgressState {
  const state = new ProgressState();
  state.update(start, 1000);
  for (let i = 1; i <= 150; i++) state.update(tick(i, 1), 1000 + 10 * i);
  state.update(step, 2500);
  state.update(evaluation, 2500);
  return state;
}

test('at 80 columns the line tells epoch, share, loss, metric, speed and time left', () => {
  const line = progressLine(halfWay(), 2500, 80);
  expect(line).toBe('epoch 2/3 ━━━━━━━──────  50% loss 1 accuracy 0.712 25,600 examples/s 1.5 s left');
});

test('any width is kept to, down to nothing', () => {
  const state = halfWay();
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 300 }), (columns) => {
      expect(progressLine(state, 2500, columns).length).toBeLessThanOrEqual(Math.max(0, columns - 1));
    }),
  );
  expect(progressLine(state, 2500, 60)).toContain('25,600 examples/s');
  expect(progressLine(state, 2500, 60)).not.toContain('accuracy');
  expect(progressLine(state, 2500, 30)).toContain('50%');
});

test('the second line tells step, waiting, memory and rows, in any width', () => {
  const state = halfWay();
  state.update({ ...step, waitSeconds: 0.03 }, 4000);
  const line = detailLine(state, 312 * 2 ** 20, 80);
  expect(line).toBe('step 150/300, waiting for data 1.0 %, memory 312 MiB, 4,012 rows touched');
  expect(detailLine(state, 312 * 2 ** 20, 20)).toBe(line.slice(0, 19));
  expect(detailLine(new ProgressState(), 2 ** 20, 80)).toBe('step 0, memory 1 MiB');
});

test('a budget of time or steps bounds what is left; where nobody knows the end, none is told', () => {
  const timed = new ProgressState();
  timed.update({ ...start, secondsLeft: 10 }, 0);
  timed.update(tick(1, 2), 4000);
  expect(timed.share(4000)).toBe(0.4);
  expect(progressLine(timed, 4000, 80)).toContain(' 40% loss 2 64 examples/s 6.0 s left');
  const endless = new ProgressState();
  endless.update({ ...start, stepsPerEpoch: null, steps: null, examples: null }, 0);
  endless.update(tick(1, 2), 4000);
  expect(progressLine(endless, 4000, 80)).toBe('epoch 1/3 loss 2');
  expect(describeEvent({ ...start, steps: 120, secondsLeft: 90 })).toBe(
    '25,600 examples, 3 epochs of 100 steps, at most 120 steps and 1:30',
  );
});

test('before the first step there is neither loss nor speed', () => {
  const state = new ProgressState();
  state.update(start, 0);
  expect(progressLine(state, 500, 80)).toBe(`epoch 1/3 ${'─'.repeat(24)}   0%`);
});

test('the loss is smoothed without a pull to 0', () => {
  const state = new ProgressState();
  state.update(start, 0);
  state.update(tick(1, 4), 1);
  expect(state.loss).toBeCloseTo(4, 10);
  for (let i = 2; i < 300; i++) state.update(tick(i, 2), i);
  expect(state.loss).toBeGreaterThan(2);
  expect(state.loss).toBeLessThan(2.05);
});

test('a resumed run counts its speed from where it went on', () => {
  const state = new ProgressState();
  state.update({ ...start, step: 200 }, 0);
  expect(state.epoch).toBe(2);
  state.update(tick(210, 1), 1000);
  expect(state.stepsPerSecond(1000)).toBe(10);
  expect(progressLine(state, 1000, 80)).toContain('9.0 s left');
});

test('lines: one per event, none per tick', () => {
  const lines: string[] = [];
  const reporter = lineReporter((line) => lines.push(line));
  for (const event of [start, tick(1, 2), step, evaluation, checkpoint]) reporter.event(event);
  reporter.close();
  expect(lines).toEqual([
    '25,600 examples, 3 epochs of 100 steps',
    'step 50, epoch 1: loss 2, accuracy 0.25; 12,346 examples/s, 4,012 rows touched, 312 MiB',
    'evaluation after step 100, epoch 1: loss 1.5, accuracy 0.712 (best so far)',
    'checkpoint after step 100: runs/x/checkpoints/step-00000100',
  ]);
  expect(describeEvent({ ...start, step: 1200 })).toContain('going on after step 1,200');
});

test('json: the events as they are, without ticks', () => {
  const events: TrainingEvent[] = [];
  const reporter = jsonReporter((event) => events.push(event));
  for (const event of [start, tick(1, 2), step, evaluation, checkpoint]) reporter.event(event);
  expect(events).toEqual([start, step, evaluation, checkpoint]);
});

test('the bar draws, keeps evaluations above it, is taken away at the end, and leaves no timer', async () => {
  const terminal = new Captured(80);
  const reporter = barReporter(terminal);
  reporter.event(start);
  reporter.event(tick(1, 2));
  reporter.event(evaluation);
  await expect.poll(() => terminal.text).toMatch(/epoch 1\/3[^]*step 1\/300, memory /);
  reporter.close();
  reporter.close();
  const { text } = terminal;
  expect(text).toContain('25,600 examples, 3 epochs of 100 steps\n');
  expect(text).toContain('accuracy 0.712 (best so far)\n');
  expect(text.endsWith('\u001b[0J'), 'what is below the log is cleared').toBe(true);
  expect(text, 'no setting of the terminal is changed').not.toContain('\u001b[?');
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(terminal.text).toBe(text);
});
