import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemMemory } from './system-memory.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cgroup-'));
});
afterEach(() => rm(root, { recursive: true }));

async function files(contents: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(contents)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
}

const machine = { totalBytes: 16_000, freeBytes: 9000 };
const found = (): unknown => systemMemory(root, machine);

test('without control groups: the machine', () => {
  expect(found()).toEqual({ ...machine, limit: 'machine' });
});

test('version 2: the smallest limit on the way up, less what is in use and no file cache', async () => {
  await files({
    'proc/self/cgroup': '0::/batch/job\n',
    'sys/fs/cgroup/batch/job/memory.max': 'max\n',
    'sys/fs/cgroup/batch/memory.max': '4000\n',
    'sys/fs/cgroup/batch/memory.current': '3000\n',
    'sys/fs/cgroup/batch/memory.stat': 'anon 900\nfile 2100\ninactive_file 2000\n',
  });
  expect(found()).toEqual({ totalBytes: 4000, freeBytes: 3000, limit: 'control group' });
});

test('version 2 in a container, where only the root of the mount is there', async () => {
  await files({
    'proc/self/cgroup': '0::/\n',
    'sys/fs/cgroup/memory.max': '12000\n',
    'sys/fs/cgroup/memory.current': '500\n',
  });
  expect(found(), 'the machine has less free than the group').toEqual({
    totalBytes: 12_000,
    freeBytes: 9000,
    limit: 'control group',
  });
});

test('version 1: its own files, and no limit is a huge number', async () => {
  await files({
    'proc/self/cgroup': '9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n',
    'sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes': '9223372036854771712\n',
    'sys/fs/cgroup/memory/memory.limit_in_bytes': '8000\n',
    'sys/fs/cgroup/memory/memory.usage_in_bytes': '2500\n',
    'sys/fs/cgroup/memory/memory.stat': 'inactive_file 7\ntotal_inactive_file 500\n',
  });
  expect(found()).toEqual({ totalBytes: 8000, freeBytes: 6000, limit: 'control group' });
});

test('what makes no sense is no limit', async () => {
  await files({
    'proc/self/cgroup': 'nonsense\n0::relative\n0::/a\n',
    'sys/fs/cgroup/a/memory.max': '-5\n',
    'sys/fs/cgroup/memory.max': 'lots\n',
  });
  expect(found()).toEqual({ ...machine, limit: 'machine' });
});

test('this machine', () => {
  const { totalBytes, freeBytes } = systemMemory();
  expect(totalBytes).toBeGreaterThan(0);
  expect(freeBytes).toBeLessThanOrEqual(totalBytes);
});
