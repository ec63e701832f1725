/**
 * What piscina loads. CommonJS, because piscina tries `require` first, and on Node 20 a thread that is ended in the middle of
 * requiring an ES module takes the whole process with it; an `import()` that is cut short does not.
 */
import type { TaskRequest } from './protocol.ts' with { 'resolution-mode': 'import' };

// At once, so that a thread's first task finds files and vocabularies open. A failure is the first task's to report.
const worker = import('./worker.js');
worker.catch(() => undefined);

module.exports = async (request: TaskRequest): Promise<unknown> => (await worker).default(request);
