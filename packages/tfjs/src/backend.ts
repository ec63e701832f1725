/**
 * Which TensorFlow.js backend computes: the best one installed, found by trying them in turn. A backend that the program has chosen itself stays.
 *
 * Nothing is printed. tfjs' advice to install its Node backend is silenced on the CPU backend where this file chose it, and libtensorflow's messages below errors are
 * while it loads, unless TF_CPP_MIN_LOG_LEVEL is set. (Not in a worker thread: what it sets there does not reach native code.)
 */
import { createRequire } from 'node:module';
import { FinetableError, checkOptionNames } from '@finetable/core';
import { tf } from './load.ts';
import { registerSegmentSum } from './segment-sum.ts';

const require = createRequire(import.meta.url);

// Here and not where the backend is chosen, since the program may choose it without us.
registerSegmentSum('wasm');

/** As `tf.getBackend()` names them: `tensorflow` is libtensorflow, of `@tensorflow/tfjs-node-gpu` or `@tensorflow/tfjs-node`. */
export type BackendName = 'tensorflow' | 'wasm' | 'cpu';

/** Best first; each with the packages that bring it, best first. */
const packagesOf: Readonly<Record<BackendName, readonly string[]>> = {
  tensorflow: ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'],
  wasm: ['@tensorflow/tfjs-backend-wasm'],
  cpu: ['@tensorflow/tfjs'],
};
export const backendNames = Object.keys(packagesOf) as readonly BackendName[];

/** Why a package does not serve. */
export interface BackendProblem {
  readonly package: string;
  /** `gpu-missing`: it computes, but not on a GPU. */
  readonly reason: 'not-installed' | 'binding-missing' | 'library-missing' | 'gpu-missing' | 'failed';
  /** For people, with a remedy where there is one. */
  readonly message: string;
}

/** Which backend of TensorFlow.js computes, where it comes from, and why not a better one. */
export interface BackendReport {
  /** What `tf.getBackend()` returns: one of {@link BackendName}, or another that the program registered. */
  readonly backend: string;
  /** The package that it comes from; null where that is not known. */
  readonly package: string | null;
  readonly version: string | null;
  /** The version of `@tensorflow/tfjs`. */
  readonly tfjs: string;
  /** Whether `tensorflow` computes on a GPU. */
  readonly gpu: boolean;
  /** True where the program had chosen it before. */
  readonly kept: boolean;
  /** What was tried before it, and why it was not that. */
  readonly problems: readonly BackendProblem[];
}

/**
 * Has TensorFlow.js compute on the best backend installed: `tensorflow`, then `wasm`, then `cpu`. Where the program has chosen one, that is kept.
 * @param options.prefer tried first, also in place of one that the program has chosen; where it is not to be had, `problems` says why
 * @throws INVALID_ARGUMENT for another name; UNSUPPORTED where no backend starts
 */
export async function useBestBackend(options: { readonly prefer?: BackendName } = {}): Promise<BackendReport> {
  checkOptionNames('useBestBackend', options, { prefer: true });
  const { prefer } = options;
  if (prefer !== undefined) checkName(prefer);
  const chosen = currentBackend();
  const problems: BackendProblem[] = [];
  if (prefer !== undefined && prefer !== chosen && (await start(prefer, problems))) return report(false, problems);
  if (chosen !== undefined) {
    await tf.setBackend(chosen); // what was preferred may have put itself in its place and then failed
    return report(true, problems);
  }
  for (const name of backendNames) {
    if (name !== prefer && (await start(name, problems))) return report(false, problems);
  }
  throw unavailable('no backend of TensorFlow.js starts', problems);
}

/**
 * Has TensorFlow.js compute on this backend, whichever it was on.
 * @throws INVALID_ARGUMENT for another name; UNSUPPORTED where it is not to be had, saying why, with the backend left as it was
 */
export async function useBackend(name: BackendName): Promise<BackendReport> {
  checkName(name);
  const before = currentBackend();
  const problems: BackendProblem[] = [];
  if (await start(name, problems)) return report(name === before, problems);
  if (before !== undefined) await tf.setBackend(before);
  throw unavailable(`the ${name} backend of TensorFlow.js is not to be had`, problems);
}

function currentBackend(): string | undefined {
  return tf.getBackend() as string | undefined; // undefined before the first is chosen, whatever the types say
}

function checkName(name: BackendName): void {
  if (!backendNames.includes(name)) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `found backend ${JSON.stringify(name)}; allowed: ${backendNames.join(', ')}`,
    );
  }
}

function unavailable(what: string, problems: readonly BackendProblem[]): FinetableError {
  const why = problems.map((problem) => `${problem.package}: ${problem.message}`);
  return new FinetableError('UNSUPPORTED', `${what}: ${why.join('; ')}`, {
    packages: problems.map((problem) => problem.package),
    reasons: problems.map((problem) => problem.reason),
  });
}

/** True where TensorFlow.js is on this backend afterwards; else why not is in `problems`. */
async function start(name: BackendName, problems: BackendProblem[]): Promise<boolean> {
  if (tf.findBackendFactory(name) === null && !(await load(name, problems))) return false;
  try {
    await quietly(async () => {
      if (await tf.setBackend(name)) return;
      await tf.findBackendFactory(name)(); // what `setBackend` caught
      throw new Error('it does not start');
    });
  } catch (error) {
    problems.push({ package: packagesOf[name].at(-1)!, reason: 'failed', message: firstLine(error) });
    return false;
  }
  // Else the first tensor would print how to install what has just been looked for.
  if (name === 'cpu') (tf.backend() as unknown as { firstUse: boolean }).firstUse = false;
  const { gpuPackage, gpu } = nodeBackend();
  if (gpuPackage && !gpu) {
    const message =
      'it finds no GPU, or not the libraries of CUDA 11 and cuDNN 8 that it was built for, and computes on the CPU';
    problems.push({ package: packagesOf.tensorflow[0]!, reason: 'gpu-missing', message });
  }
  return true;
}

/** Imports the package that registers the backend. */
async function load(name: BackendName, problems: BackendProblem[]): Promise<boolean> {
  for (const from of packagesOf[name]) {
    try {
      require.resolve(from);
    } catch {
      problems.push({ package: from, reason: 'not-installed', message: `it is not installed: npm install ${from}` });
      continue;
    }
    try {
      await quietly(() => require(from) as unknown);
      if (tf.findBackendFactory(name) !== null) return true;
      problems.push({ package: from, reason: 'failed', message: `it registers no backend named ${name}` });
    } catch (error) {
      problems.push({ package: from, ...explain(from, error) });
    }
  }
  return false;
}

function explain(from: string, error: unknown): Pick<BackendProblem, 'reason' | 'message'> {
  const said = firstLine(error);
  if (said.includes('native addon module'))
    return {
      reason: 'binding-missing',
      message: `its native binding is missing, since its install could not download it or ran without scripts: npm rebuild ${from}`,
    };
  if ((error as { code?: unknown }).code === 'ERR_DLOPEN_FAILED')
    return { reason: 'library-missing', message: `its native binding does not load: ${said}` };
  return { reason: 'failed', message: said };
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n', 1)[0]!;
}

/** Runs `work` with the messages of tfjs off, and those of libtensorflow below errors, which reads the variable once, when it writes the first. */
async function quietly<T>(work: () => T | Promise<T>): Promise<T> {
  const flags = tf.env();
  const wasTest = flags.getBool('IS_TEST');
  const { TF_CPP_MIN_LOG_LEVEL: level } = process.env;
  flags.set('IS_TEST', true);
  process.env.TF_CPP_MIN_LOG_LEVEL = level ?? '2';
  try {
    return await work();
  } finally {
    flags.set('IS_TEST', wasTest);
    if (level === undefined) delete process.env.TF_CPP_MIN_LOG_LEVEL;
  }
}

/** What tfjs-node's backend says of itself. */
function nodeBackend(): { readonly gpuPackage: boolean; readonly gpu: boolean } {
  const { isGPUPackage = false, isUsingGpuDevice = false } = tf.backend() as {
    isGPUPackage?: boolean;
    isUsingGpuDevice?: boolean;
  };
  return { gpuPackage: isGPUPackage, gpu: isUsingGpuDevice };
}

function report(kept: boolean, problems: readonly BackendProblem[]): BackendReport {
  const backend = tf.getBackend();
  const { gpuPackage, gpu } = nodeBackend();
  const candidates = (packagesOf as Readonly<Record<string, readonly string[]>>)[backend];
  const from = candidates?.[backend === 'tensorflow' && !gpuPackage ? 1 : 0] ?? null;
  return {
    backend,
    package: from,
    version: from === null ? null : versionOf(from),
    tfjs: tf.version.tfjs,
    gpu,
    kept,
    problems,
  };
}

function versionOf(name: string): string | null {
  try {
    return (require(`${name}/package.json`) as { version: string }).version;
  } catch {
    return null; // the program has it from somewhere that we do not see
  }
}
