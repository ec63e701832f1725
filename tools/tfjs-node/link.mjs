// Puts what setup.mjs prepared among the workspace's packages, as if it had been installed there. A link, since the lock file must not name a package whose
// install fails wherever libtensorflow cannot be downloaded; `npm ci` removes it, so every entry point puts it back.
import { existsSync, lstatSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Inside the workspace, so that what lies in it finds the workspace's @tensorflow/tfjs by looking upwards. */
export const folder = join(root, '.cache', 'tfjs-node');
export const tfjsNode = join(folder, 'node_modules', '@tensorflow', 'tfjs-node');
/** Written last. */
export const prepared = join(folder, 'prepared.json');

const link = join(root, 'node_modules', '@tensorflow', 'tfjs-node');

/** True where the workspace has the tensorflow backend afterwards. */
export function linkTfjsNode() {
  const there = lstatSync(link, { throwIfNoEntry: false });
  if (there && !there.isSymbolicLink()) return true; // installed by hand
  if (!existsSync(prepared)) {
    if (there) rmSync(link);
    return false;
  }
  if (!existsSync(dirname(link))) return false; // no packages yet
  // Relative, since it must not lead a copy of this folder to another workspace's tfjs.
  if (!there) symlinkSync(relative(dirname(link), tfjsNode), link, 'dir');
  return true;
}
