// The fused lookup on two threads, on idle cores and on a busy one.
import { spawn } from 'node:child_process';
import { loadKernels } from '@finetable/kernels';
import { about, lookups, pooled, rounds, states, V } from './lookup.mjs';
import { takeTurns } from './measure.mjs';
import { makeAdapter, makeBatches, makeTable } from './tables.mjs';

export async function measureThreads(report) {
  const one = loadKernels({ threads: 1 });
  const two = loadKernels({ threads: 2 });
  const table = makeTable(one, V, 64);
  const batches = makeBatches(V, pooled);
  report.section('Fused LoRA lookup: threads', `f32, D = 64, ${about}`);
  for (const { name, touched } of states) {
    const adapter = makeAdapter(table, touched);
    const subjects = [lookups(one, table, batches, adapter), lookups(two, table, batches, adapter)];
    const [single, both] = await takeTurns(subjects, { rounds });
    report.speedRatio(`two threads, ${name}`, 'one thread', both, single, { atLeast: 1.7 });
    const busy = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' });
    try {
      const [beside, shared] = await takeTurns(subjects, { rounds: 200, warmUp: 50 });
      report.timeRatio(
        `two threads, ${name}, beside a process that keeps a core busy`,
        'one thread beside it',
        shared,
        beside,
        { atMost: 1.1 },
      );
    } finally {
      busy.kill('SIGKILL');
    }
    adapter.close();
  }
  table.close();
}
