// Printed into the test cache's key: a cached pass must not stand in for a run on other hardware or beside other peers.
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';

const has = (path) => existsSync(new URL(`../${path}`, import.meta.url));
console.log(
  [
    process.version,
    process.platform,
    process.arch,
    cpus()[0]?.model,
    has('packages/kernels/build/finetable.node') ? 'native' : 'portable',
    has('node_modules/@tensorflow/tfjs-node/lib') ? 'with tfjs-node' : 'without tfjs-node',
    has('node_modules/webgpu/package.json') ? 'with webgpu' : 'without webgpu',
    has('.cache/vulkan/prepared.json') ? 'with software Vulkan' : 'without software Vulkan',
    has('packages/cluster/build/finetable_mpi.node') ? 'with MPI' : 'without MPI',
    has('.cache/venv') ? 'with Python peers' : 'without Python peers',
  ].join(', '),
);
