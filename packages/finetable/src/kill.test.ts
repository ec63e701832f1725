/**
 * A run that is killed again and again, at any moment of its life, and resumed each time, ends with the same bytes as one
 * that was left alone; and after every kill, everything on the disk that has its final name is complete.
 */
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
const checkpointEverySteps = 13;
const steps = epochs * stepsPerEpoch;

const phases = ['start', 'steps', 'checkpoint', 'evaluation', 'final'] as const;
type Phase = (typeof phases)[number];

/** Each list is the kills of one run, and what each aims at; after the last it may finish. */
const runs: readonly (readonly Phase[])[] = [
  ['steps', 'start', 'checkpoint', 'steps', 'evaluation', 'steps', 'start', 'final'],
  ['start', 'evaluation', 'steps', 'checkpoint', 'steps', 'steps', 'final', 'final'],
  ['checkpoint', 'steps', 'start', 'steps', 'steps', 'evaluation', 'steps', 'final'],
];

/** Waits for a random moment of a phase, in a process that goes on after step `reached`. */
async function moment(
  phase: Phase,
  child: Child,
  reached: number,
  startMs: number,
  random: () => number,
): Promise<void> {
  // Half, because a start among cold caches, as the first was, takes longer.
  if (phase === 'start') return setTimeout((random() * startMs) / 2);
  const next = {
    steps: reached + 1 + Math.floor((random() * (steps - reached)) / 2),
    checkpoint: checkpointEverySteps * Math.ceil((reached + 1) / checkpointEverySteps),
    evaluation: stepsPerEpoch * Math.ceil((reached + 1) / stepsPerEpoch),
    final: steps,
  }[phase];
  const event = phase === 'final' && reached < steps ? 'checkpoint' : reached < steps ? 'step' : 'start';
  await hasWritten(
    child,
    'stdout',
    event === 'start' ? `"${event}"` : `"type":"${event}","step":${Math.min(next, steps)},`,
  );
  await setTimeout(random() * (phase === 'steps' ? 25 : 8));
}

/** What a killed process was doing, from the last thing it said: with a `step` event after every step that is exact. */
function phaseOf(child: Child): Phase {
  const last = child.output().stdout.split('\n').at(-2);
  if (last === undefined) return 'start';
  const { type, step } = JSON.parse(last) as { type: string; step: number };
  if (step === steps && (type === 'checkpoint' || type === 'start')) return 'final';
  if (type === 'evaluation') return 'checkpoint';
  if (type === 'step' && step % stepsPerEpoch === 0) return 'evaluation';
  return type === 'step' && step % checkpointEverySteps === 0 ? 'checkpoint' : 'steps';
}

test('killed at random moments and resumed, a run ends with the same bytes', { timeout: 300_000 }, async (context) => {
  if (process.platform === 'win32') return context.skip('Windows has no SIGKILL');
  const { folder, job } = await writeTinyJob({
    examples: 8 * stepsPerEpoch,
    validationExamples: 4000, // an evaluation long enough to be hit
    train: { epochs, checkpointEverySteps, logEverySteps: 1 },
  });
  const command = (run: string): Child => start(['train', job, '--run', run, '--resume', '--json']);

  const whole = join(folder, 'whole');
  const begun = performance.now();
  const alone = command(whole);
  expect(await hasWritten(alone, 'stdout', '"type":"start"')).toBe(true);
  const startMs = performance.now() - begun;
  expect((await alone.ended).status).toBe(0);
  const expected = await resultBytes(whole);
  expect(Object.keys(expected)).toEqual([
    'adapter/adapter_config.json',
    'adapter/adapter_model.safetensors',
    'objective.safetensors',
  ]);

  const numbers = new RandomStream(11, 'kills');
  let drawn = 0;
  const random = (): number => numbers.below(drawn++, 10_000) / 10_000;
  const kills: Record<Phase, number> = { start: 0, steps: 0, checkpoint: 0, evaluation: 0, final: 0 };
  let afterCheckpoint = 0;
  const killed = (): number => phases.reduce((sum, phase) => sum + kills[phase], 0);
  // On some machines a phase passes before the signal comes: then there are more runs.
  const enough = (): boolean => killed() >= 20 && afterCheckpoint >= 10 && phases.every((phase) => kills[phase] > 0);
  for (let r = 0; r < runs.length || (!enough() && r < 5 * runs.length); r++) {
    const aims = runs[r % runs.length]!;
    const run = join(folder, `killed-${r}`);
    let reached = 0;
    for (const aim of aims) {
      const child = command(run);
      await moment(aim, child, reached, startMs, random);
      child.process.kill('SIGKILL');
      const { signal, status, stderr } = await child.ended;
      if (signal === 'SIGKILL') {
        kills[phaseOf(child)]++;
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
  expect(enough(), summary).toBe(true);
  await context.annotate(summary);
});
