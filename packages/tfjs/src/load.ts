/**
 * TensorFlow.js as this package uses it: the instance that the program has, looked for once. Everything here takes `tf` from this file,
 * never from an import of its own, since two instances share neither tensors nor backends.
 */
import { createRequire } from 'node:module';
import { FinetableError } from '@finetable/core';

const require = createRequire(import.meta.url);

// Node >= 23 has lost what tfjs-node calls when it computes. It looks these up at each call, so it may have been imported before this package, but not
// have computed anything.
const util = require('node:util') as Record<string, unknown>;
util.isNullOrUndefined ??= (x: unknown) => x === null || x === undefined;
util.isArray ??= Array.isArray;

/** @throws UNSUPPORTED where TensorFlow.js is not installed */
export const tf: typeof import('@tensorflow/tfjs') = load();

function load(): typeof import('@tensorflow/tfjs') {
  try {
    // CommonJS: what Node gives to both `import` and `require` of tfjs, and tfjs-node too.
    return require('@tensorflow/tfjs') as typeof import('@tensorflow/tfjs');
  } catch (error) {
    throw new FinetableError(
      'UNSUPPORTED',
      '@finetable/tfjs needs TensorFlow.js: npm install @tensorflow/tfjs @tensorflow/tfjs-backend-wasm, or @tensorflow/tfjs-node',
      {},
      { cause: error },
    );
  }
}
