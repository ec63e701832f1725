/**
 * A run that is killed again and again, at any moment of its life, and resumed each time, ends with the same bytes as one
 * that was left alone; and after every kill, everything on the disk that has its final name is complete.
 */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { RandomStream } from '@finetable/core';
import { expect, test } from 'vitest';
import { hasWritten, start, type Child } from './testing/child.ts';
import { expectComplete, loggedLines, resultBytes } from './testing/run-folder.ts';
import { writeTinyJob } from './testing/tiny-job.ts';

const epochs = 4;
const stepsPerEpoch = 60;
const steps = epochs * stepsPerEpoch;
/** Each list is the kills of one run; after the last it may finish. */
const runs = [
  ['steps', 'steps', 'start', 'steps', 'steps', 'start', 'steps', 'end'],
  ['start', 'steps', 'steps', 'steps', 'steps', 'start', 'end', 'end'],
  ['start', 'steps', 'steps', 'start', 'steps', 'steps', 'steps', 'end'],
] as const;

/**
 * Waits for the moment of a kill, which is random: within the time that starting takes, in the 25 ms after a step (10 of 13
 * steps are followed by the next, the others by a checkpoint or an evaluation), or in the 25 ms after the last evaluation.
 */
async function moment(kind: 'start' | 'steps' | 'end', child: Child, reached: number, startMs: number, random: () => number): Promise<void> {
  if (kind === 'start') return setTimeout(random() * startMs);
  const next = Math.min(steps, reached + 1 + Math.floor((random() * (steps - reached)) / 2));
  const event = kind === 'steps' ? `"type":"step","step":${next},` : `"type":"evaluation","step":${steps},`;
  await hasWritten(child, 'stdout', event);
  return setTimeout(random() * 25);
}

type Phase = 'start' | 'steps' | 'checkpoint' | 'end';

/** What a killed process was doing, from its events and what it left half done. */
async function phaseOf(child: Child, run: string): Promise<Phase> {
  const { stdout } = child.output();
  const checkpoints = join(run, 'checkpoints');
  if (!stdout.includes('"type":"start"')) return 'start';
  if (existsSync(checkpoints) && (await readdir(checkpoints)).some((name) => name.startsWith('.finetable-'))) return 'checkpoint';
  return stdout.includes(`"type":"checkpoint","step":${steps},`) ? 'end' : 'steps';
}

test('killed at random moments and resumed, a run ends with the same bytes', { timeout: 180_000 }, async (context) => {
  if (process.platform === 'win32') return context.skip('Windows has no SIGKILL');
  const { folder, job } = await writeTinyJob({
    examples: 8 * stepsPerEpoch,
    train: { epochs, checkpointEverySteps: 13, logEverySteps: 1 },
  });
  const command = (run: string): Child => start(['train', job, '--run', run, '--resume', '--json']);

  const whole = join(folder, 'whole');
  const begun = performance.now();
  const alone = command(whole);
  expect(await hasWritten(alone, 'stdout', '"type":"start"')).toBe(true);
  const startMs = performance.now() - begun;
  expect((await alone.ended).status).toBe(0);
  const expected = await resultBytes(whole);
  expect(Object.keys(expected)).toEqual(['adapter/adapter_config.json', 'adapter/adapter_model.safetensors', 'objective.safetensors']);

  const numbers = new RandomStream(11, 'kills');
  let drawn = 0;
  const random = (): number => numbers.below(drawn++, 10_000) / 10_000;
  const kills: Record<Phase, number> = { start: 0, steps: 0, checkpoint: 0, end: 0 };
  let afterCheckpoint = 0;
  for (const [r, moments] of runs.entries()) {
    const run = join(folder, `killed-${r}`);
    let reached = 0;
    for (const kind of moments) {
      const child = command(run);
      await moment(kind, child, reached, startMs, random);
      child.process.kill('SIGKILL');
      const { signal, status, stderr } = await child.ended;
      if (signal === 'SIGKILL') {
        kills[await phaseOf(child, run)]++;
        if (reached > 0) afterCheckpoint++;
      } else {
        expect({ status, stderr }, 'it had finished').toEqual({ status: 0, stderr: '' });
      }
      const saved = (await expectComplete(run)).at(-1) ?? 0;
      expect(saved, 'nothing that was saved is lost').toBeGreaterThanOrEqual(reached);
      reached = saved;
    }
    expect((await command(run).ended).status).toBe(0);
    await expectComplete(run);
    expect((await readdir(run, { recursive: true })).filter((name) => /\.finetable-|lock/.test(name))).toEqual([]);
    expect(await resultBytes(run)).toEqual(expected);
    expect(await loggedLines(run)).toEqual(await loggedLines(whole));
  }

  const summary = JSON.stringify({ ...kills, afterCheckpoint });
  expect(kills.start + kills.steps + kills.checkpoint + kills.end, summary).toBeGreaterThanOrEqual(20);
  expect(afterCheckpoint, summary).toBeGreaterThanOrEqual(10);
  expect(kills.start, summary).toBeGreaterThanOrEqual(3);
  expect(kills.steps + kills.checkpoint, summary).toBeGreaterThanOrEqual(6);
  await context.annotate(summary);
});
