// What memory gives to loops that do nothing else: the scale on which lookups are read.
import { loadLimits, readerOf } from './limits.mjs';
import { pooled, V } from './lookup.mjs';
import { hugeShare } from './machine.mjs';
import { medianOf, takeTurns } from './measure.mjs';
import { makeBatches } from './tables.mjs';

const rowBytes = 256;
const sizeBytes = V * rowBytes;
const windowBytes = 2 ** 26;
const windows = sizeBytes / windowBytes;

export async function measurePhysical(report) {
  report.section('Physical limits', 'Bytes a second of loops that do nothing else, in memory of 1 GiB.');
  const limits = await loadLimits();
  if (limits.missing) {
    report.missing('streaming reads, random reads, memcpy', '-', limits.missing);
    return;
  }
  const batches = makeBatches(V, pooled);
  const rows = limits.allocate(sizeBytes);
  const random = await readerOf(limits, { rows }, rowBytes, batches, null);
  const loops = [
    {
      name: 'streaming reads',
      bytes: windowBytes,
      run: (round, threads) => limits.readInOrder(rows, (round % windows) * windowBytes, windowBytes, threads),
    },
    { name: 'random reads of 256 bytes', bytes: batches[0].ids.length * rowBytes, run: random.read },
    {
      name: 'memcpy, bytes read and written',
      bytes: 2 * windowBytes,
      run: (round, threads) => {
        const from = (2 * round) % windows;
        limits.copy(rows, from * windowBytes, (from + 1) * windowBytes, windowBytes, threads);
      },
    },
  ];
  const subjects = loops.flatMap((loop) => [1, 2].map((threads) => ({ ...loop, threads })));
  const times = await takeTurns(
    subjects.map(
      ({ run, threads }) =>
        (round) =>
          run(round, threads),
    ),
    { rounds: 60 },
  );
  const perByte = times.map((series, i) => series.map((time) => time / subjects[i].bytes));
  subjects.forEach(({ name, threads }, i) => {
    const what = `${name}, ${threads === 1 ? 'one thread' : 'two threads'}`;
    const speeds = perByte[i].map((time, round) => perByte[0][round] / time);
    const note = `${(1e-6 / medianOf(perByte[i])).toFixed(1)} GB/s`;
    report.value(what, 'streaming reads on one thread, bytes a second', speeds, 'x', undefined, note);
  });
  const share = hugeShare();
  if (share !== null) report.value('memory in huge pages', 'all of the process', [share * 100], ' %');
  limits.release(rows);
}
