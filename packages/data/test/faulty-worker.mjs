// A loader worker that fails as the only table is named: `<task>-<failure>-<always or once>`, at the tasks of that type with example 37.
import { writeFileSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import runTask from '../dist/worker.js';

const failures = {
  throw: () => {
    throw new Error('thrown on purpose');
  },
  // As a mistake in the work itself comes out of it.
  mistake: () => ({ type: 'failure', error: { code: null, message: 'mistaken on purpose', details: {}, stack: '' } }),
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
  idle: () => {
    setTimeout(() => process.exit(4), 20);
    return null;
  },
};

/** `once`: the marker outlives the thread. */
function isDue(when, marker) {
  if (when === 'always') return true;
  try {
    writeFileSync(marker, '', { flag: 'wx' });
    return true;
  } catch {
    return false;
  }
}

export default async function runFaultyTask(task) {
  const { request } = task;
  const name = request.source ? request.source.name : Object.keys((workerData ?? request).data.tables)[0];
  const [type, failure, when, marker] = name.split(' ');
  const { rows, given } = request.examples ?? {};
  const there = request.type === 'scan' || (rows ?? given?.numbers)?.includes(37);
  if (request.type === type && there && isDue(when, marker)) {
    Atomics.store(task.running, 0, 1);
    const reply = await failures[failure]();
    if (reply) return reply;
  }
  return runTask(task);
}
