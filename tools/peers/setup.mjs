// Prepares the Python environment in which the peers run: .cache/venv with PyTorch on the CPU, PEFT,
// sentence-transformers and model2vec for the checks, as pinned in
// requirements.txt, or with --bench .cache/venv-bench with every peer of the benchmarks, as pinned in requirements-bench.txt.
//
//   node tools/peers/setup.mjs [--bench] [--json]      --json prints {available, python, versions, reason}
//
// Exits 0 with the reason when Python, a compiler or the package index is not to be had, so that checks against peers can be left out with that
// reason; exits 1 when everything installs and still does not import, which is a fault in the pins.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const bench = process.argv.includes('--bench');
const requirements = path(bench ? 'requirements-bench.txt' : 'requirements.txt');
const stubs = path('cuda_stubs.py');
const venv = path(bench ? '../../.cache/venv-bench' : '../../.cache/venv');
const python = process.platform === 'win32' ? join(venv, 'Scripts', 'python.exe') : join(venv, 'bin', 'python');
// Written last: a folder without it is an install that was cut short.
const stampFile = join(venv, 'peers.json');

const OLDEST_PYTHON = [3, 11]; // numpy 2.4's own limit
const INSTALL_LIMIT_MS = 10 * 60_000;
// Of the benchmarks' peers, each of which may be left out, only the one that the stand-ins are for.
const VERSIONS = `
import json, logging, platform
logging.disable(logging.WARNING)
${bench ? 'import numpy, torch' : 'import model2vec, numpy, peft, safetensors, sentence_transformers, torch; from peft import PeftModel'}
modules = ${bench ? '(torch, numpy)' : '(torch, peft, sentence_transformers, numpy, safetensors)'}
print(json.dumps({"python": platform.python_version(), **{m.__name__: m.__version__ for m in modules}}))
`;

class Unavailable extends Error {}

/** Standard output, or undefined with the last line of what was said in `problem`. */
function run(command, args) {
  // Bytecode is wanted even where the shell turns it off: importing PEFT takes three times as long without.
  const env = { ...process.env, PYTHONDONTWRITEBYTECODE: '' };
  const done = spawnSync(command, args, { encoding: 'utf8', env, timeout: INSTALL_LIMIT_MS, maxBuffer: 1 << 26 });
  if (done.status === 0) return { output: done.stdout };
  const lines = `${done.stdout ?? ''}\n${done.stderr ?? ''}`.trim().split('\n');
  return {
    problem:
      done.error?.message ??
      lines.findLast((line) => /error/i.test(line)) ??
      lines.at(-1) ??
      `exit status ${done.status}`,
  };
}

function findPython() {
  for (const command of ['python3', 'python']) {
    const { output } = run(command, ['-c', 'import ensurepip, sys, venv; print(*sys.version_info[:2])']);
    const [major, minor] = (output ?? '').trim().split(' ').map(Number);
    if (major === OLDEST_PYTHON[0] && minor >= OLDEST_PYTHON[1]) return command;
  }
  throw new Unavailable(`no Python ${OLDEST_PYTHON.join('.')} or newer with venv and ensurepip on the path`);
}

function install() {
  const created = run(findPython(), ['-m', 'venv', '--clear', venv]);
  if (created.problem) throw new Unavailable(`no virtual environment: ${created.problem}`);
  const quick = ['--quiet', '--disable-pip-version-check', '--no-compile', '--retries', '2', '--timeout', '60'];
  const pip = (...what) => run(python, ['-m', 'pip', 'install', ...quick, '--no-deps', ...what]);
  const installed = pip('-r', requirements);
  if (installed.problem) {
    const pins = readFileSync(requirements, 'utf8').match(/^\w.*/gm);
    const needed = pins.find((pin) => pin.startsWith('torch=='));
    if (!bench || pip(needed).problem) throw new Unavailable(`no packages: ${installed.problem}`);
    // A peer without a wheel for this system must not cost the others; its script then says what it lacks.
    for (const pin of pins) pip(pin);
  }

  let imported = run(python, ['-c', VERSIONS]);
  if (imported.problem && process.platform === 'linux') {
    const stubbed = run(python, [stubs]);
    if (stubbed.problem)
      throw new Unavailable(
        `no stand-ins for the CUDA libraries (are cc, nm and readelf installed?): ${stubbed.problem}`,
      );
    imported = run(python, ['-c', VERSIONS]);
  }
  if (imported.problem) throw new Error(imported.problem);
  return JSON.parse(imported.output);
}

/** The versions in the environment, which is made anew when the pins have changed. */
function prepare() {
  const pins = createHash('sha256').update(readFileSync(requirements)).update(readFileSync(stubs)).digest('hex');
  if (existsSync(stampFile) && existsSync(python)) {
    const stamp = JSON.parse(readFileSync(stampFile, 'utf8'));
    if (stamp.pins === pins) return stamp.versions;
  }
  try {
    const versions = install();
    writeFileSync(stampFile, JSON.stringify({ pins, versions }));
    return versions;
  } catch (error) {
    rmSync(venv, { recursive: true, force: true });
    throw error;
  }
}

const result = { available: true, python, versions: {}, reason: '' };
try {
  result.versions = prepare();
} catch (error) {
  Object.assign(result, { available: false, python: '', reason: error.message });
  if (!(error instanceof Unavailable)) process.exitCode = 1;
}
if (process.argv.includes('--json')) console.log(JSON.stringify(result));
else if (result.available)
  console.log(
    `${python}: ${Object.entries(result.versions)
      .map((pair) => pair.join(' '))
      .join(', ')}`,
  );
else console.log(`no peers: ${result.reason}`);
