/** A disk that fills while a run writes its checkpoints, on a small file system of its own: Linux, and root to mount it. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Captured, runHere } from './testing/capture.ts';
import { expectComplete, resultBytes } from './testing/run-folder.ts';
import { listTree, writeTinyJob } from './testing/tiny-job.ts';

/** @returns why not, or null where it is mounted */
function mountTmpfs(folder: string, size: string): string | null {
  if (process.platform !== 'linux') return 'only Linux has tmpfs';
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], { stdio: 'pipe' });
  } catch (error) {
    return `mounting a tmpfs needs root: ${(error as Error).message.split('\n')[0]}`;
  }
  onTestFinished(() => void execFileSync('umount', [folder]));
  return null;
}

/** Takes all the space that is left. */
function fill(path: string): void {
  const file = openSync(path, 'w');
  try {
    for (;;) writeSync(file, Buffer.alloc(4096));
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  } finally {
    closeSync(file);
  }
}

/** A stdout that calls `then` as soon as `text` is written. */
class Watched extends Captured {
  readonly #text: string;
  #then: (() => void) | null;

  constructor(text: string, then: () => void) {
    super();
    this.#text = text;
    this.#then = then;
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: () => void): void {
    super._write(chunk, encoding, done);
    if (!this.#then || !this.text.includes(this.#text)) return;
    this.#then();
    this.#then = null;
  }
}

// Logging writes less than a page in the run, so that with 1000 it is the checkpoint that meets the full disk.
test.for([
  ['a checkpoint', 1000],
  ['the log', 1],
] as const)(
  '%s meets a full disk: status 1, what is complete stays, and resuming ends with the same bytes',
  async ([, logEverySteps], context) => {
    const { folder, job } = await writeTinyJob({ train: { epochs: 4, logEverySteps } });
    const disk = join(folder, 'disk');
    await mkdir(disk);
    const unable = mountTmpfs(disk, '1m');
    if (unable !== null) return context.skip(unable);
    const run = join(disk, 'run');
    const ballast = join(disk, 'ballast');
    const stdout = new Watched('"type":"checkpoint","step":24,', () => fill(ballast));
    const failed = await runHere(['train', job, '--run', run, '--json'], { stdout });

    expect(failed.status).toBe(1);
    expect(failed.stderr).toMatch(/^finetable: .*writing failed \(ENOSPC\): no space is left on the disk; free some/);
    const last = JSON.parse(failed.stdout.trimEnd().split('\n').at(-1)!) as object;
    expect(last).toMatchObject({ error: { code: 'IO', details: { errno: 'ENOSPC' } } });
    expect(
      (await listTree(run)).filter((name) => /\.finetable-|lock/.test(name)),
      'nothing temporary',
    ).toEqual([]);
    expect((await expectComplete(run)).at(-1), 'the last good checkpoint').toBe(24);

    rmSync(ballast);
    const resumed = await runHere(['train', job, '--run', run, '--resume', '--json']);
    expect(resumed.status).toBe(0);
    expect(resumed.stdout).toContain(
      '{"type":"start","epochs":4,"stepsPerEpoch":20,"steps":80,"secondsLeft":null,"examples":160,"step":24}',
    );
    expect((await runHere(['train', job])).status).toBe(0);
    expect(await resultBytes(run)).toEqual(await resultBytes(join(folder, 'runs', 'tiny')));
  },
);
