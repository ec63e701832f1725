/** `finetable doctor`: what this machine offers and what is in use. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, tmpdir, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { formatBytes, isFinetableError, type PlainError } from '@finetable/core';
import { kernelsStatus, type KernelsStatus } from '@finetable/kernels';
import type { WebgpuReport } from '@finetable/webgpu';
import { writeJson } from './failure.ts';
import { alignRows } from './format.ts';
import type { Io } from './io.ts';

/** What `@finetable/tfjs` would compute on. */
export interface TensorFlowReport {
  /** The version of `@tensorflow/tfjs`. */
  readonly version: string;
  /** `tensorflow`, `wasm` or `cpu`. */
  readonly backend: string;
  /** The package that the backend comes from. */
  readonly package: string | null;
  readonly packageVersion: string | null;
  readonly gpu: boolean;
  /** What was tried before this backend, and why it was not that. */
  readonly problems: readonly { readonly package: string; readonly reason: string; readonly message: string }[];
}

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
  /** Null where TensorFlow.js is not installed. */
  readonly tensorflow: TensorFlowReport | null;
  /** What `@finetable/webgpu` could compute on; null where npm's `webgpu` is not installed, or a driver ended the process that asked. */
  readonly webgpu: WebgpuReport | null;
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
  const tensorflow = await examineTensorFlow();
  if (tensorflow) advice.push(...adviseTensorFlow(tensorflow));
  const { report: webgpu, problem } = await examineWebgpu();
  if (problem ?? webgpu?.advice) advice.push((problem ?? webgpu?.advice)!);
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
    tensorflow,
    webgpu,
    advice,
  };
}

async function examineTensorFlow(): Promise<TensorFlowReport | null> {
  try {
    // Here and nowhere else in this package: TensorFlow.js is optional, and loading it takes a second.
    const { useBestBackend } = await import('@finetable/tfjs');
    const { tfjs, backend, version, gpu, problems, ...report } = await useBestBackend();
    return { version: tfjs, backend, package: report.package, packageVersion: version, gpu, problems };
  } catch (error) {
    if (isFinetableError(error) && error.code === 'UNSUPPORTED') return null;
    throw error;
  }
}

/** What does not work, and where there is no libtensorflow, how to have it. */
function adviseTensorFlow({ backend, problems }: TensorFlowReport): string[] {
  const broken = problems.filter(({ reason }) => reason !== 'not-installed');
  const advice = broken.map((problem) => `${problem.package}: ${problem.message}`);
  if (backend === 'cpu' && problems.some((problem) => problem.package.endsWith('-wasm') && !broken.includes(problem)))
    advice.push(
      'TensorFlow.js computes in plain JavaScript, about 50 times slower than in WebAssembly: npm install @tensorflow/tfjs-backend-wasm',
    );
  if (backend !== 'tensorflow' && broken.every((problem) => !problem.package.includes('tfjs-node')))
    advice.push('TensorFlow.js computes without libtensorflow, which is faster: npm install @tensorflow/tfjs-node');
  return advice;
}

const examineProgram = new URL(
  import.meta.url.endsWith('.ts') ? '../dist/examine-webgpu.js' : './examine-webgpu.js',
  import.meta.url,
);

async function examineWebgpu(): Promise<{ readonly report: WebgpuReport | null; readonly problem: string | null }> {
  const answer = await new Promise<string | Error>((resolve) => {
    execFile(process.execPath, [fileURLToPath(examineProgram)], { timeout: 60_000 }, (error, stdout) =>
      resolve(error ?? stdout),
    );
  });
  if (answer instanceof Error) {
    const how = 'signal' in answer && answer.signal ? `by ${String(answer.signal)}` : 'with an error';
    return { report: null, problem: `looking for WebGPU's adapters ended ${how}: a driver of the GPU may be broken` };
  }
  const found = JSON.parse(answer) as WebgpuReport | PlainError;
  if ('adapters' in found) return { report: found, problem: null };
  return { report: null, problem: found.details.missing === true ? null : found.message };
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
    ['TensorFlow.js', describeTensorFlow(report.tensorflow)],
    ['WebGPU', describeWebgpu(report.webgpu)],
    ['temporary', report.temporaryFolder],
    ...(hugePages === null ? [] : [['huge pages', hugePages]]),
    ...advice.map((text) => ['advice', text]),
  ]);
}

function describeKernels({ kind, instructionSet, threads }: KernelsStatus): string {
  if (kind === null) return 'none: see the advice';
  return `${kind}${kind === 'native' ? ` (${instructionSet})` : ''}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
}

function describeTensorFlow(report: TensorFlowReport | null): string {
  if (report === null) return 'not installed';
  const { version, backend, packageVersion, gpu } = report;
  const from = report.package === null ? '' : ` of ${report.package} ${packageVersion ?? ''}`.trimEnd();
  return `${version}, the ${backend} backend${from}${gpu ? ', on a GPU' : ''}`;
}

function describeWebgpu(report: WebgpuReport | null): string {
  if (report === null) return 'not installed';
  const adapters = report.adapters.map(({ name, software, maxBindingBytes, maxBufferBytes }) => {
    const limits = `${formatBytes(maxBindingBytes)} a binding, ${formatBytes(maxBufferBytes)} a buffer`;
    return `${name} (${software ? 'software, used only when asked for, ' : ''}${limits})`;
  });
  return `${report.version}, ${adapters.join('; ') || 'no adapter'}`;
}
