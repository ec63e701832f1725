/**
 * A run that is killed again and again, at any moment of its life, and resumed each time, ends with the same bytes as one
 * that was left alone; and after every kill, everything on the disk that has its final name is complete.
 */
import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { RandomStream } from '@finetable/core';
import { expect, test } from 'vitest';
import { start, type Child } from './testing/child.ts';
import { expectComplete, loggedLines, resultBytes } from './testing/run-folder.ts';
import { writeTinyJob } from './testing/tiny-job.ts';

const epochs = 4;
const stepsPerEpoch = 60;
const steps = epochs * stepsPerEpoch;
/** Kills of one run before it may finish; then it starts anew. */
const killsPerRun = 8;
const runs = 3;

/** Events seen so far. */
function eventsOf(child: Child): { type: string; step: number }[] {
  const whole = child.output().stdout.split('\n').slice(0, -1);
  return whole.map((line) => JSON.parse(line) as { type: string; step: number });
}

async function whenEvent(child: Child, type: string, step: number): Promise<void> {
  const seen = (): boolean => eventsOf(child).some((event) => event.type === type && event.step >= step);
  while (!seen() && child.process.exitCode === null) await setTimeout(1);
}

test('killed at random moments and resumed, a run ends with the same bytes', { timeout: 180_000 }, async (context) => {
  if (process.platform === 'win32') return context.skip('Windows has no SIGKILL');
  const { folder, job } = await writeTinyJob({
    examples: 8 * stepsPerEpoch,
    train: { epochs, checkpointEverySteps: 13, logEverySteps: 10 },
  });
  const command = (run: string): Child => start(['train', job, '--run', run, '--resume', '--json']);

  const whole = join(folder, 'whole');
  const begun = performance.now();
  const alone = command(whole);
  await whenEvent(alone, 'start', 0);
  const startMs = performance.now() - begun;
  expect((await alone.ended).status).toBe(0);
  const stepMs = (performance.now() - begun - startMs) / steps;
  const expected = await resultBytes(whole);
  expect(Object.keys(expected)).toEqual(['adapter/adapter_config.json', 'adapter/adapter_model.safetensors', 'objective.safetensors']);

  const random = new RandomStream(11, 'kills');
  const killed = { atStart: 0, amongSteps: 0, whileWritingCheckpoint: 0, afterLastStep: 0 };
  let missed = 0;
  let afterCheckpoint = 0;
  for (let r = 0; r < runs; r++) {
    const run = join(folder, `killed-${r}`);
    let reached = 0;
    for (let k = 0; k < killsPerRun; k++) {
      const child = command(run);
      if (k === killsPerRun - 1) {
        // The last one aims at the end: the last evaluation, the best checkpoint put back, the result's files.
        await whenEvent(child, r === 0 ? 'step' : r === 1 ? 'evaluation' : 'checkpoint', steps);
        await setTimeout(random.below(100 + r, 20));
      } else {
        // In each run one kill in each seventh of the time that the process is expected to live, in a mixed order.
        const share = (((3 * k + r) % (killsPerRun - 1)) + random.below(r * killsPerRun + k, 1000) / 1000) / (killsPerRun - 1);
        await Promise.race([setTimeout(share * (startMs + (steps - reached) * stepMs)), child.ended]);
      }
      child.process.kill('SIGKILL');
      const { signal, status, stderr } = await child.ended;
      if (signal !== 'SIGKILL') {
        expect({ status, stderr }, 'it had finished').toEqual({ status: 0, stderr: '' });
        missed++;
      } else {
        const events = eventsOf(child);
        const checkpoints = join(run, 'checkpoints');
        const unfinished = existsSync(checkpoints) && (await readdir(checkpoints)).some((name) => name.startsWith('.finetable-'));
        if (events.length === 0) killed.atStart++;
        else if (unfinished) killed.whileWritingCheckpoint++;
        else if (events.some(({ type, step }) => type === 'step' && step === steps)) killed.afterLastStep++;
        else killed.amongSteps++;
      }
      const saved = await expectComplete(run);
      expect(saved.at(-1) ?? 0, 'nothing that was saved is lost').toBeGreaterThanOrEqual(reached);
      reached = saved.at(-1) ?? 0;
      if (signal === 'SIGKILL' && reached > 0) afterCheckpoint++;
    }
    expect((await command(run).ended).status).toBe(0);
    await expectComplete(run);
    expect((await readdir(run, { recursive: true })).filter((name) => /\.finetable-|lock/.test(name))).toEqual([]);
    expect(await resultBytes(run)).toEqual(expected);
    expect(await loggedLines(run)).toEqual(await loggedLines(whole));
    await rm(run, { recursive: true });
  }

  const landed = runs * killsPerRun - missed;
  const summary = JSON.stringify({ ...killed, missed, afterCheckpoint });
  expect(landed, summary).toBeGreaterThanOrEqual(20);
  expect(afterCheckpoint, summary).toBeGreaterThanOrEqual(10);
  expect(killed.atStart, summary).toBeGreaterThan(0);
  expect(killed.amongSteps + killed.whileWritingCheckpoint, summary).toBeGreaterThan(3);
  context.annotate(summary);
});
