/**
 * Builds the native kernels: a C++ compiler, no other tool. Runs when the package is installed, and never
 * fails that: where it cannot build, the portable kernels serve, and `build/status.json` says why.
 */
import { buildAddon, compilerOf } from './compile.mjs';

try {
  await buildAddon({ folder: import.meta.dirname, name: 'finetable', compiler: () => compilerOf() });
} catch (error) {
  console.log(
    `@finetable/kernels: no native kernels, because ${error.message}. The portable ones serve, several times slower. ` +
      'With a C++ compiler: npm rebuild @finetable/kernels',
  );
}
