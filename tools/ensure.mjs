// What every entry point needs first: dependencies as the lock file has them, the native addon where it can be built, and `dist`.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { linkTfjsNode } from './tfjs-node/link.mjs';
import { linkWebgpu } from './vulkan/link.mjs';

export const root = fileURLToPath(new URL('..', import.meta.url));
const wanted = [20, 19];

/** Runs a command in the repository's root and ends this process with its code where it fails. */
export function run(command, args, options = {}) {
  // npm is a .cmd on Windows, which needs a shell.
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
    ...options,
  });
  if (error) throw error;
  if (status === 0) return;
  if (stdout) process.stdout.write(stdout);
  if (stderr) process.stderr.write(stderr);
  process.exit(status ?? 1);
}

export function ensureInstalled() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < wanted[0] || (major === wanted[0] && minor < wanted[1])) {
    console.error(`Finetable needs Node.js ${wanted.join('.')} or newer; this is ${process.version}.`);
    process.exit(1);
  }
  const lock = createHash('sha256')
    .update(readFileSync(`${root}package-lock.json`))
    .digest('hex');
  const stamp = `${root}node_modules/.finetable-lock`;
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
    run('npm', ['ci', '--no-audit', '--no-fund']);
    writeFileSync(stamp, lock);
  }
  linkTfjsNode();
  linkWebgpu();
  // Done by the install as well, unless that ran without scripts or before there was a compiler; quick when up to date.
  for (const name of ['kernels', 'cluster']) run(process.execPath, [`packages/${name}/install.mjs`]);
}

/**
 * Runs Nx targets over packages.
 * @param options.packages folders of `packages`, default all
 * @param options.quiet what they print is shown only when one fails
 */
export function nx(targets, { packages, quiet = false } = {}) {
  const named = packages ? [`--projects=${packages.map((name) => `packages/${name}`).join(',')}`] : [];
  run(`${root}node_modules/.bin/nx`, ['run-many', '-t', ...targets, ...named, '--output-style=static'], {
    env: { ...process.env, NX_TUI: 'false' },
    stdio: quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit',
  });
}
