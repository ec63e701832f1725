/** The built program as a process: exit status, streams, signals, two at once. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hasWritten, start, type Child } from './testing/child.ts';
import { listTree, writeTinyJob } from './testing/tiny-job.ts';

/** Long enough to be met while it runs, short enough to be finished. */
const long = { epochs: 200, checkpointEverySteps: 50, logEverySteps: 10 };

async function jsonLines(child: Child): Promise<{ status: number | null; objects: Record<string, unknown>[] }> {
  const { status, stdout } = await child.ended;
  return {
    status,
    objects: stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>),
  };
}

test('train, evaluate and inspect: status 0, results on stdout, progress on stderr', async () => {
  const { folder, job, run } = await writeTinyJob();
  const trained = await start(['train', job]).ended;
  expect(trained.status).toBe(0);
  expect(trained.stderr).toMatch(/^160 examples, 2 epochs of 20 steps\n/);
  expect(trained.stderr).toContain('evaluation after step 40, epoch 2');
  expect(trained.stdout).toMatch(/^trained +40 steps, 2 epochs/);

  const evaluated = await jsonLines(start(['evaluate', run, '--data', join(folder, 'valid.jsonl'), '--json']));
  const result = JSON.parse(await readFile(join(run, 'result.json'), 'utf8')) as { validation: object };
  expect(evaluated.status).toBe(0);
  expect(evaluated.objects[0]!.metrics).toEqual(result.validation);

  const inspected = await start(['inspect', run]).ended;
  expect(inspected).toMatchObject({ status: 0, stderr: '' });
  expect(inspected.stdout).toContain('run "tiny", finished');
});

test('train --json: nothing on stdout but events, the result last', async () => {
  const { job, run } = await writeTinyJob();
  const { status, objects } = await jsonLines(start(['train', job, '--json']));
  expect(status).toBe(0);
  expect(objects[0]).toEqual({
    type: 'start',
    epochs: 2,
    stepsPerEpoch: 20,
    steps: 40,
    secondsLeft: null,
    examples: 160,
    step: 0,
  });
  const types = objects.map(({ type }) => type);
  expect(types.filter((type) => type === 'step')).toHaveLength(8);
  expect(types.filter((type) => type === 'checkpoint')).toHaveLength(6);
  expect(types.filter((type) => type === 'evaluation')).toHaveLength(2);
  expect(types.at(-1)).toBe('result');
  expect(objects.at(-1)).toMatchObject(JSON.parse(await readFile(join(run, 'result.json'), 'utf8')) as object);
});

test('bad input and usage: status 2; with --json the error is on stdout', async () => {
  const { job } = await writeTinyJob();
  const [badJob, usage] = await Promise.all([
    jsonLines(start(['train', job, '--json', '--set', 'optimizer.type=lion'])),
    start(['tarin', job]).ended,
  ]);
  expect(badJob.status).toBe(2);
  expect(badJob.objects).toMatchObject([{ error: { code: 'INVALID_JOB', details: { path: 'optimizer.type' } } }]);
  expect(usage).toMatchObject({ status: 2, stdout: '' });
  expect(usage.stderr).toContain('Did you mean train?');
});

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s: a checkpoint, status 130, nothing temporary; then --resume finishes',
  async (signal) => {
    const { job, run } = await writeTinyJob({ train: { epochs: 12, checkpointEverySteps: 10_000 } });
    const child = start(['train', job, '--json']);
    expect(await hasWritten(child, 'stdout', '"type":"step"')).toBe(true);
    child.process.kill(signal);
    const { status, stdout, stderr } = await child.ended;
    expect({ status, signal: child.process.signalCode }).toEqual({ status: 130, signal: null });
    expect(stderr).toMatch(/finetable: interrupted after step \d+/);
    expect(stderr).toContain('--resume');
    const error = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as {
      error: { code: string; details: { step: number } };
    };
    expect(error.error.code).toBe('INTERRUPTED');

    const { step } = error.error.details;
    const checkpoints = await readdir(join(run, 'checkpoints'));
    expect(checkpoints).toContain(`step-${String(step).padStart(8, '0')}`);
    expect((await listTree(run)).filter((name) => /\.finetable-|lock/.test(name))).toEqual([]);
    expect((await start(['inspect', run]).ended).stdout).toContain(`interrupted, last checkpoint after step ${step}`);

    const resumed = await jsonLines(start(['train', job, '--json', '--resume']));
    expect(resumed.status).toBe(0);
    expect(resumed.objects[0]).toMatchObject({ type: 'start', step });
    expect(resumed.objects.at(-1)).toMatchObject({ type: 'result', steps: 240 });
  },
);

test('a second signal ends the process at once, with status 130', async () => {
  const { job } = await writeTinyJob({ train: long });
  const child = start(['train', job]);
  expect(await hasWritten(child, 'stderr', 'step 10,')).toBe(true);
  // Stopped, so that both signals are there when it goes on.
  child.process.kill('SIGSTOP');
  child.process.kill('SIGINT');
  child.process.kill('SIGTERM');
  child.process.kill('SIGCONT');
  const { status, stderr } = await child.ended;
  expect(status).toBe(130);
  expect(stderr, 'nothing is waited for').not.toContain('interrupted after');
});

test('two runs in one folder: the second is refused by the name of the first, which goes on', async () => {
  const { job, run } = await writeTinyJob({ train: long });
  const first = start(['train', job]);
  expect(await hasWritten(first, 'stderr', 'step 10,')).toBe(true);
  expect((await start(['inspect', run]).ended).stdout).toContain(`running (process ${first.process.pid})`);
  for (const option of ['--overwrite', '--resume']) {
    const second = await start(['train', job, option]).ended;
    expect(second.status).toBe(2);
    expect(second.stderr).toContain(`process ${first.process.pid}`);
  }
  first.process.kill('SIGINT');
  expect((await first.ended).status).toBe(130);
});

test('a reader that goes away is no failure', async () => {
  const { job, run } = await writeTinyJob({ train: { logEverySteps: 1 } });
  const child = start(['train', job, '--json']);
  child.process.stdout!.once('data', () => child.process.stdout!.destroy());
  const { status, stderr } = await child.ended;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(await readdir(run)).toContain('result.json');
});
