import { availableParallelism } from 'node:os';
import { kernelsStatus } from '@finetable/kernels';
import { afterEach, expect, test, vi } from 'vitest';
import type { DoctorReport } from './doctor.ts';
import { runHere } from './testing/capture.ts';

afterEach(() => vi.unstubAllEnvs());

test('doctor tells Node, cores and the kernels in use', async () => {
  const { status, stdout, stderr } = await runHere(['doctor', '--json']);
  const report = JSON.parse(stdout) as DoctorReport;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(report).toMatchObject({ node: process.version, cores: availableParallelism(), kernels: kernelsStatus() });
  expect(report.memoryBytes).toBeGreaterThan(report.freeMemoryBytes);
  const text = await runHere(['doctor']);
  expect(text.stdout).toContain(process.version);
  expect(text.stdout).toMatch(/^kernels +(native \(\w+\)|portable), \d+ threads?$/m);
});

test('a wrong setting is advice, not a crash', async () => {
  vi.stubEnv('FINETABLE_KERNELS', 'fastest');
  const { status, stdout } = await runHere(['doctor']);
  expect(status).toBe(0);
  expect(stdout).toContain('FINETABLE_KERNELS is "fastest"; allowed: native, portable');
});

test('portable kernels come with how to get native ones', async () => {
  vi.stubEnv('FINETABLE_KERNELS', 'portable');
  const { stdout } = await runHere(['doctor']);
  expect(stdout).toMatch(/^kernels +portable/m);
  expect(stdout).toMatch(kernelsStatus().native ? /unset FINETABLE_KERNELS/ : /npm rebuild @finetable\/kernels/);
});
