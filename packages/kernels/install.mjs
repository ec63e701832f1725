/**
 * Builds the native kernels: a C++ compiler, no other tool. Runs when the package is installed, and never
 * fails that: where it cannot build, the portable kernels serve, and `build/status.json` says why.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CannotBuild, compile, compilerOf, flags, sourceFiles, sources } from './compile.mjs';

const build = join(import.meta.dirname, 'build');
const addon = join(build, 'finetable.node');
const statusFile = join(build, 'status.json');

function hashOf(files, parts) {
  const hash = createHash('sha256').update(JSON.stringify(parts));
  for (const file of files) hash.update(`\n${file}\n`).update(readFileSync(join(sources, file)));
  return hash.digest('hex');
}

function previous() {
  try {
    statSync(addon);
    return JSON.parse(readFileSync(statusFile, 'utf8'));
  } catch {
    return {};
  }
}

async function install(compiler) {
  const temporary = join(build, `finetable.${process.pid}.node`);
  try {
    await compile(compiler, temporary);
    // A library for another architecture, say, must not replace what works.
    const loaded = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', temporary], { encoding: 'utf8' });
    if (loaded.status !== 0)
      throw new CannotBuild(`what the compiler made does not load: ${loaded.stderr.match(/Error: .*/)?.[0]}`);
    renameSync(temporary, addon);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function writeStatus(status) {
  const temporary = `${statusFile}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(status, null, 2)}\n`);
  renameSync(temporary, statusFile);
}

try {
  mkdirSync(build, { recursive: true });
  try {
    if (process.platform === 'win32') throw new CannotBuild('they are not made for Windows yet');
    const compiler = compilerOf();
    const hash = hashOf(sourceFiles(), [compiler, flags, process.platform, process.arch]);
    if (previous().hash !== hash) {
      const began = performance.now();
      await install(compiler);
      const seconds = Math.round((performance.now() - began) / 100) / 10;
      writeStatus({ built: true, hash, compiler: compiler.version, seconds });
    }
  } catch (error) {
    rmSync(addon, { force: true }); // one made from other sources may not fit this TypeScript
    writeStatus({ built: false, reason: error.message });
    throw error;
  }
} catch (error) {
  console.log(
    `@finetable/kernels: no native kernels, because ${error.message}. The portable ones serve, several times slower. ` +
      'With a C++ compiler: npm rebuild @finetable/kernels',
  );
}
