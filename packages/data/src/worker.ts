/** What a worker thread runs: tasks in, replies out, every buffer of a batch moved and none copied. */
import { workerData } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { batchBuffers } from './assemble.ts';
import type { SentTask, WorkerSetup } from './protocol.ts';
import { TaskRunner } from './tasks.ts';

const runner = new TaskRunner(workerData as WorkerSetup | null);

/** Of the task before: one waits here while another runs, and begins as soon as that ends. */
let before: Promise<unknown> = Promise.resolve();

export default function runTask(task: SentTask): Promise<unknown> {
  const result = before.then(() => run(task));
  before = result.catch(() => undefined);
  return result;
}

async function run({ request, spare, running }: SentTask): Promise<unknown> {
  Atomics.store(running, 0, 1);
  const reply = await runner.run(request, spare);
  Atomics.store(running, 0, 0);
  if (reply.type !== 'batches') return reply;
  return move({
    [transferableSymbol]: reply.batches.flatMap((batch) => [...batchBuffers(batch)]),
    [valueSymbol]: reply,
  });
}
