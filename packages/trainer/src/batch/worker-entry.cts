/** What piscina loads: see the file of this name in @finetable/data for why it is CommonJS. */
exports.default = import('./worker.js').then((worker) => worker.default);
