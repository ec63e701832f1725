/** What `bin/finetable.js` imports: the command line over this process's streams and signals. */
import { run } from './program.ts';
import { exitStatus } from './failure.ts';

const interrupt = new AbortController();
let signals = 0;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The first asks for a checkpoint and an orderly end; whoever sends a second one does not want to wait for it.
    if (++signals > 1) process.exit(exitStatus.interrupted);
    interrupt.abort();
  });
}

// A reader that goes away (`finetable inspect x | head`) is no failure: what it did not want is dropped.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

// Not process.exit: it would cut off writes to a pipe that are still on their way.
process.exitCode = await run(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  signal: interrupt.signal,
});
