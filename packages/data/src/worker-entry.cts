/**
 * What piscina loads. CommonJS, because piscina tries `require` first, and on Node 20 a thread that is ended in the middle of
 * requiring an ES module takes the whole process with it; an `import()` that is cut short does not. Piscina awaits an export
 * that is a promise before it calls the thread ready, so a first task finds files and vocabularies open.
 */
exports.default = import('./worker.js').then((worker) => worker.default);
