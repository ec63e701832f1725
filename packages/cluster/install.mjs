/**
 * Builds the binding of MPI with the compiler that MPI brings, where there is one. Runs when the package is installed, and never fails that, nor says
 * anything: few need MPI. `build/status.json` has why there is none, and who asks is told.
 */
import { buildAddon, CannotBuild, compilerOf } from '@finetable/kernels/compile.mjs';

const command = process.env.MPICXX || 'mpicxx';

function compiler() {
  try {
    return compilerOf(command);
  } catch {
    throw new CannotBuild(`there is no MPI compiler called "${command}"`);
  }
}

await buildAddon({
  folder: import.meta.dirname,
  name: 'finetable_mpi',
  compiler,
  more: ['-DNODE_GYP_MODULE_NAME=finetable_mpi'],
}).catch(() => undefined);
