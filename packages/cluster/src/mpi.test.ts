/** Ranks of real MPI on this machine. */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { alone } from '@finetable/core';
import { describe, expect, test, type TestContext } from 'vitest';
import { clusterStatus, connect, isLaunched } from './index.ts';

const program = fileURLToPath(new URL('testing/ranks.mjs', import.meta.url));

function needMpi(context: TestContext): void {
  const { mpi, reason } = clusterStatus();
  if (mpi === null) context.skip(`no MPI: ${reason}`);
  if (spawnSync('mpirun', ['--version']).status !== 0) context.skip('no MPI: there is no mpirun');
}

interface Ended {
  readonly status: number | null;
  readonly lines: unknown[];
  readonly errors: string;
}

/** More ranks than cores, and as root in a container: Open MPI wants to be told that both are meant. */
function mpirun(ranks: number, ...args: string[]): Promise<Ended> {
  const open = clusterStatus().mpi!.startsWith('Open MPI');
  const allow = open ? ['--oversubscribe', '--allow-run-as-root'] : [];
  const child = spawn('mpirun', [...allow, '-n', String(ranks), process.execPath, program, ...args]);
  let [out, errors] = ['', ''];
  child.stdout.on('data', (text: Buffer) => (out += text.toString()));
  child.stderr.on('data', (text: Buffer) => (errors += text.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => {
      const lines = out.split('\n').filter((line) => line !== '');
      resolve({ status, lines: lines.map((line) => JSON.parse(line) as unknown), errors });
    });
  });
}

test('a process that nobody started as one of several is alone', () => {
  expect(isLaunched({})).toBe(false);
  expect(isLaunched({ OMPI_COMM_WORLD_SIZE: '1' })).toBe(true);
  expect(isLaunched({ PMI_RANK: '0' })).toBe(true);
  expect(connect()).toBe(alone);
  expect(() => connect({ timeoutSeconds: 0 })).toThrow('connect: timeoutSeconds: found 0; allowed: a number above 0');
});

describe('under mpirun', () => {
  test.for([1, 2, 3, 4])('%d ranks: sums, exchanges and what is gathered', async (size, context) => {
    needMpi(context);
    const { status, lines, errors } = await mpirun(size, 'everything');
    expect(errors).toBe('');
    expect(status).toBe(0);
    const found = lines as { rank: number; size: number; problems: string[]; sent: number }[];
    expect(found.map(({ rank }) => rank).sort()).toEqual(Array.from({ length: size }, (_, rank) => rank));
    for (const { problems, size: seen, sent } of found) {
      expect([problems, seen]).toEqual([[], size]);
      expect(sent > 0).toBe(size > 1);
    }
  });

  test('sums are the same bytes at every rank and every time', async (context) => {
    needMpi(context);
    const runs = await Promise.all([mpirun(3, 'sums'), mpirun(3, 'sums')]);
    expect(new Set(runs.flatMap(({ lines }) => lines)).size).toBe(1);
    expect(runs[0]!.lines).toHaveLength(3);
  });

  test.for([
    ['dies', [], (status: number | null) => status !== 0, /signal 9|KILLED|Killed/],
    [
      'hangs',
      ['2'],
      (status: number | null) => status === 70,
      /barrier took more than 2 s; another rank hangs or is gone/,
    ],
    ['aborts', [], (status: number | null) => status === 3, /rank 1 cannot go on/],
  ] as const)('a rank that %s ends them all', async ([name, args, wanted, says], context) => {
    needMpi(context);
    const { status, errors } = await mpirun(3, name, ...args);
    expect([status, wanted(status)]).toEqual([status, true]);
    expect(errors).toMatch(says);
  });
});
