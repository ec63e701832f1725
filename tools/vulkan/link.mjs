// What setup.mjs prepared: npm's `webgpu` among the workspace's packages, as if it had been installed there, and where a program finds the software Vulkan driver.
// A link, since nobody who installs the workspace shall have to download 130 MB; `npm ci` removes it, so every entry point puts it back.
import { existsSync, lstatSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** npm's package. */
export const dawnFolder = join(root, '.cache', 'webgpu');
/** Mesa's software driver, unpacked as if this were `/`. */
export const mesaFolder = join(root, '.cache', 'vulkan');
/** Written last, in either folder. */
export const prepared = 'prepared.json';

const link = join(root, 'node_modules', 'webgpu');

/** True where the workspace has npm's `webgpu` afterwards. */
export function linkWebgpu() {
  const there = lstatSync(link, { throwIfNoEntry: false });
  if (there && !there.isSymbolicLink()) return true; // installed by hand
  if (!existsSync(join(dawnFolder, prepared))) {
    if (there) rmSync(link);
    return false;
  }
  if (!existsSync(dirname(link))) return false; // no packages yet
  if (!there) symlinkSync(relative(dirname(link), join(dawnFolder, 'node_modules', 'webgpu')), link, 'dir');
  return true;
}

/** Variables that let a program started with them find the driver; none where it was not prepared, or a driver was named already. */
export function vulkanEnvironment({ LD_LIBRARY_PATH, VK_DRIVER_FILES, VK_ICD_FILENAMES } = process.env) {
  if (!existsSync(join(mesaFolder, prepared)) || VK_DRIVER_FILES || VK_ICD_FILENAMES) return {};
  const libraries = join(mesaFolder, 'usr', 'lib');
  const own = readdirSync(libraries).map((name) => join(libraries, name)); // one, of this machine's architecture
  return {
    // Dawn opens libvulkan.so.1 by name, so it must be on the path when the process starts.
    LD_LIBRARY_PATH: [...own, ...(LD_LIBRARY_PATH ? [LD_LIBRARY_PATH] : [])].join(':'),
    VK_DRIVER_FILES: join(mesaFolder, 'usr', 'share', 'vulkan', 'icd.d', 'lvp_icd.json'),
  };
}
