// See src/worker-entry.cts.
const worker = import('./faulty-worker.mjs');
worker.catch(() => undefined);

module.exports = async (request) => (await worker).default(request);
