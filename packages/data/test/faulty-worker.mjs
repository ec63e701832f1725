// A loader worker that fails in the way that its data file is named after, at the task with example 37.
import { basename } from 'node:path';
import { workerData } from 'node:worker_threads';
import runTask from '../dist/worker.js';

const failures = {
  throw: () => {
    throw new Error('thrown on purpose');
  },
  exit: () => process.exit(3),
  reject: async () => {
    Promise.reject(new Error('rejected on purpose'));
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  },
  memory: () => {
    const kept = [];
    for (;;) kept.push(new Array(100_000).fill(kept.length));
  },
  spin: () => {
    for (;;);
  },
};

export default async function runFaultyTask(request) {
  // Named after the only table.
  const [name] = Object.keys((workerData ?? request).data?.tables ?? { [request.file]: 0 });
  const plain = basename(name, '.jsonl');
  const [when, failure] = plain.startsWith('index-') ? ['scan', plain.slice(6)] : ['batches', plain];
  if (request.type === when && (when === 'scan' || request.examples.rows.includes(37))) await failures[failure]();
  return runTask(request);
}
