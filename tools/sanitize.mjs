// `npm run sanitize`: the kernels' tests on builds of the addon that watch memory, and a short run under valgrind.
//
//   node tools/sanitize.mjs [address] [thread] [valgrind]      all by default; a tool that is not there is reported
//
// AddressSanitizer and UndefinedBehaviorSanitizer are one build; ThreadSanitizer another, which sees only what the addon
// does (Node.js itself is not instrumented). Leaks are not looked for: Node.js ends without freeing what it holds.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CannotBuild, compile, compilerOf } from '../packages/kernels/compile.mjs';
import { ensureInstalled, nx, root } from './ensure.mjs';

const folder = join(root, '.cache', 'sanitize');
// Debug information, and frames that the reports can walk.
const watched = ['-O1', '-g', '-fno-omit-frame-pointer'];

class Unavailable extends Error {}

async function build(name, more) {
  const addon = join(folder, `${name}.node`);
  const began = performance.now();
  await compile(compilerOf(), addon, [...watched, ...more]);
  console.log(`built for ${name} in ${Math.round((performance.now() - began) / 1000)} s`);
  return addon;
}

/** The run-time library, which must be loaded before Node.js, whose binary is not linked with it. */
function library(name) {
  const { command, given } = compilerOf();
  const path = spawnSync(command, [...given, `-print-file-name=${name}`], { encoding: 'utf8' }).stdout.trim();
  if (!existsSync(path)) throw new Unavailable(`the compiler has no ${name}`);
  return path;
}

function suite(env) {
  const args = [`${root}node_modules/.bin/vitest`, 'run', '--config', '../../vitest.config.ts', '--root', '.'];
  const { status } = spawnSync(process.execPath, [...args, '--testTimeout', '600000'], {
    cwd: join(root, 'packages', 'kernels'),
    env: { ...process.env, FINETABLE_KERNELS: 'native', ...env },
    timeout: 30 * 60_000, // a report can end the process that the tests wait for
    stdio: 'inherit',
  });
  if (status !== 0) throw new Error('the tests failed; a report of the sanitizer stands above');
}

const checks = {
  async address() {
    const preloaded = library('libasan.so');
    const addon = await build('address', ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined']);
    suite({
      FINETABLE_ADDON: addon,
      LD_PRELOAD: preloaded,
      ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1',
    });
  },

  async thread() {
    const preloaded = library('libtsan.so');
    const addon = await build('thread', ['-fsanitize=thread']);
    const script = join(root, 'tools', 'sanitize', 'exercise.mjs');
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
      env: { ...process.env, FINETABLE_ADDON: addon, LD_PRELOAD: preloaded, TSAN_OPTIONS: 'report_bugs=1:exitcode=0' },
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    if (status !== 0) throw new Unavailable(`Node.js does not run under it here: ${stderr.trim().split('\n')[0]}`);
    const ours = stderr.split('==================').filter((report) => report.includes('finetable'));
    if (ours.length > 0) throw new Error(`${ours.length} reports, the first:\n${ours[0]}`);
    process.stdout.write(stdout);
  },

  async valgrind() {
    if (spawnSync('valgrind', ['--version']).status !== 0) throw new Unavailable('there is no valgrind');
    const addon = await build('valgrind', []);
    const log = join(folder, 'valgrind.log');
    rmSync(log, { force: true });
    const script = join(root, 'tools', 'sanitize', 'exercise.mjs');
    const options = ['--error-limit=no', '--num-callers=30', '--smc-check=all-non-file', `--log-file=${log}`];
    const { status, stdout, stderr } = spawnSync('valgrind', [...options, process.execPath, script, '--short'], {
      env: { ...process.env, FINETABLE_ADDON: addon },
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`the run failed under valgrind: ${stderr}`);
    // Node.js has findings of its own; ours have a frame in the addon.
    const ours = readFileSync(log, 'utf8')
      .split(/\n==\d+== \n/)
      .filter((block) => block.includes('finetable'));
    if (ours.length > 0) throw new Error(`${ours.length} findings in the addon, the first:\n${ours[0]}`);
    process.stdout.write(stdout);
  },
};

ensureInstalled();
nx(['build'], { quiet: true });
mkdirSync(folder, { recursive: true });
const asked = process.argv.slice(2);
const unknown = asked.find((name) => !Object.hasOwn(checks, name));
if (unknown) {
  console.error(`no check "${unknown}"; allowed: ${Object.keys(checks).join(', ')}`);
  process.exit(2);
}
const results = [];
for (const name of asked.length > 0 ? asked : Object.keys(checks)) {
  try {
    await checks[name]();
    results.push(`${name}: clean`);
  } catch (error) {
    const unavailable = error instanceof Unavailable || error instanceof CannotBuild;
    results.push(`${name}: ${unavailable ? 'not run, ' : 'FAILED, '}${error.message}`);
    if (!unavailable) process.exitCode = 1;
  }
}
console.log(`\n${results.join('\n')}`);
