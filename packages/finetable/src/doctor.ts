/** `finetable doctor`: what this machine offers and what is in use. */
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { formatBytes } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
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
  readonly kernels: { readonly name: string; readonly description: string; readonly threads: number };
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
  const { name, description, threads } = loadKernels();
  const hugePages = await readHugePages();
  const advice: string[] = [];
  if (hugePages === 'never') {
    advice.push('huge pages are off, which makes tables in RAM slower to look up: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled');
  }
  return {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    freeMemoryBytes: freemem(),
    kernels: { name, description, threads },
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
  const { node, platform, processor, cores, memoryBytes, freeMemoryBytes, kernels, hugePages, advice } = report;
  return alignRows([
    ['Node.js', `${node}, ${platform}`],
    ['processor', `${processor}, ${cores} cores for this process`],
    ['memory', `${formatBytes(memoryBytes)}, ${formatBytes(freeMemoryBytes)} free`],
    ['kernels', kernels.description],
    ...(hugePages === null ? [] : [['huge pages', hugePages]]),
    ...advice.map((text) => ['advice', text]),
  ]);
}
