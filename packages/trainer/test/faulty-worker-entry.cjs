// See src/batch/worker-entry.cts.
Object.defineProperty(exports, '__esModule', { value: true });
exports.default = import('./faulty-worker.mjs').then((worker) => worker.default);
