// Printed into the test cache key: a cached pass must not stand in for a run on other hardware.
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';

const addon = existsSync(new URL('../packages/kernels/build/finetable.node', import.meta.url));
console.log([process.version, process.platform, process.arch, cpus()[0]?.model, addon ? 'native' : 'portable'].join(' '));
