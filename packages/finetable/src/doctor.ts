/** `finetable doctor`: what this machine offers and what is in use. */
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, tmpdir, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { formatBytes } from '@finetable/core';
import { kernelsStatus, type KernelsStatus } from '@finetable/kernels';
import { writeJson } from './failure.ts';
import { alignRows } from './format.ts';
import type { Io } from './io.ts';

export interface DoctorReport {
  readonly node: string;
  readonly platform: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly freeMemoryBytes: number;
  readonly kernels: KernelsStatus;
  /** Where the native kernels are built. */
  readonly kernelsFolder: string;
  /** Where training without a run folder keeps its best state. */
  readonly temporaryFolder: string;
  /** `always`, `madvise` or `never` on Linux; null elsewhere. */
  readonly hugePages: string | null;
  /** What could be better, each with what to do. */
  readonly advice: readonly string[];
}

export async function doctor({ json }: { json?: boolean }, io: Io): Promise<void> {
  const report = await examine();
  if (json) writeJson(io, report);
  else io.stdout.write(describe(report));
}

async function examine(): Promise<DoctorReport> {
  const kernels = kernelsStatus();
  const hugePages = await readHugePages();
  const advice: string[] = [];
  if (!kernels.native)
    advice.push(`there are no native kernels (${kernels.reason}); with a C++ compiler: npm rebuild @finetable/kernels`);
  else if (kernels.reason !== null) advice.push(kernels.reason);
  else if (kernels.kind === 'portable') advice.push('native kernels are built but not used: unset FINETABLE_KERNELS');
  if (hugePages === 'never') {
    advice.push(
      'huge pages are off, which makes tables in RAM slower to look up: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled',
    );
  }
  return {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    freeMemoryBytes: freemem(),
    kernels,
    kernelsFolder: fileURLToPath(new URL('../build', import.meta.resolve('@finetable/kernels'))),
    temporaryFolder: tmpdir(),
    hugePages,
    advice,
  };
}

async function readHugePages(): Promise<string | null> {
  try {
    const text = await readFile('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8');
    return /\[(\w+)\]/.exec(text)?.[1] ?? null;
  } catch {
    return null; // not Linux, or hidden in a container
  }
}

function describe(report: DoctorReport): string {
  const { node, platform, processor, cores, memoryBytes, freeMemoryBytes, hugePages, advice } = report;
  return alignRows([
    ['Node.js', `${node}, ${platform}`],
    ['processor', `${processor}, ${cores} cores for this process`],
    ['memory', `${formatBytes(memoryBytes)}, ${formatBytes(freeMemoryBytes)} free`],
    ['kernels', describeKernels(report.kernels)],
    ['built in', report.kernelsFolder],
    ['temporary', report.temporaryFolder],
    ...(hugePages === null ? [] : [['huge pages', hugePages]]),
    ...advice.map((text) => ['advice', text]),
  ]);
}

function describeKernels({ kind, instructionSet, threads }: KernelsStatus): string {
  if (kind === null) return 'none: see the advice';
  return `${kind}${kind === 'native' ? ` (${instructionSet})` : ''}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
}
