import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lockFolder } from './lock.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lock-'));
  path = join(folder, 'lock');
});
afterEach(() => rm(folder, { recursive: true }));

test('one holder at a time; given back, it can be taken again', async () => {
  const unlock = await lockFolder(path);
  await expect(lockFolder(path)).rejects.toMatchObject({ code: 'LOCKED', details: { pid: process.pid } });
  await unlock();
  expect(await readdir(folder)).toEqual([]);
  await (
    await lockFolder(path)
  )();
});

test('the lock of a process that was killed is taken over', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const started =
    (await readFile(`/proc/${child.pid}/stat`, 'utf8').catch(() => '')).split(') ')[1]?.split(' ')[19] ?? null;
  await writeFile(path, JSON.stringify({ pid: child.pid, host: hostname(), started }));
  await expect(lockFolder(path)).rejects.toThrow(new RegExp(`process ${child.pid} on .* is working in this folder`));
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
  await (
    await lockFolder(path)
  )();
  expect(await readdir(folder)).toEqual([]);
});

test('a lock with the pid of a living process that is not its maker is taken over', async (context) => {
  if (process.platform !== 'linux') context.skip('only Linux tells when a process started');
  await writeFile(path, JSON.stringify({ pid: process.pid, host: hostname(), started: '1' }));
  await (
    await lockFolder(path)
  )();
});

test('an empty lock file, left by a kill in the moment of its making, is taken over', async () => {
  await writeFile(path, '');
  await (
    await lockFolder(path)
  )();
});

test('a lock from another host is respected', async () => {
  await writeFile(path, JSON.stringify({ pid: 1, host: 'elsewhere', started: null }));
  await expect(lockFolder(path)).rejects.toThrow(/process 1 on elsewhere/);
});
