/** What a worker thread runs: tasks in, replies out, every buffer of a batch moved and none copied. */
import { workerData } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { batchBuffers } from './assemble.ts';
import type { TaskRequest, WorkerSetup } from './protocol.ts';
import { TaskRunner } from './tasks.ts';

const runner = new TaskRunner(workerData as WorkerSetup | null);

export default async function runTask(request: TaskRequest): Promise<unknown> {
  const reply = await runner.run(request);
  if (reply.type !== 'batches') return reply;
  return move({
    [transferableSymbol]: reply.batches.flatMap((batch) => [...batchBuffers(batch)]),
    [valueSymbol]: reply,
  });
}
