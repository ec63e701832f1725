// What every rank of a test does: `mpirun -n 3 node ranks.mjs NAME`. Each prints what it found as one line of JSON.
import { connect } from '../../dist/index.js';

/** Numbers that a rank and a place determine; of sizes so different that a sum depends on its order. */
const numberOf = (rank, i) => Math.fround(Math.sin(rank * 1000 + i) * 10 ** ((rank * 7 + i) % 9));
const bytesFrom = (rank, to, length) => Uint8Array.from({ length }, (_, i) => (rank * 31 + to * 7 + i) % 251);
const hash = (bytes) => bytes.reduce((h, byte) => (Math.imul(h, 31) + byte) | 0, bytes.length);
const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

const programs = {
  async everything(ranks) {
    const { rank, size } = ranks;
    const problems = [];
    for (const length of [0, 1, 3, 4096, 4097, 100_003]) {
      for (const Type of [Float32Array, Float64Array]) {
        const values = Type.from({ length }, (_, i) => numberOf(rank, i));
        await ranks.allReduce(values);
        const wrong = values.findIndex((value, i) => {
          let sum = 0;
          for (let r = 0; r < size; r++) sum += numberOf(r, i);
          return value !== new Type([sum])[0];
        });
        if (wrong >= 0) problems.push(`allReduce of ${length} ${Type.name}: ${values[wrong]} at ${wrong}`);
      }
    }
    // Begun together, they end in order.
    const lengthOf = (from, to) => (from === to ? 0 : 10 * from + to + 100_000 * (from % 2));
    const parts = Array.from({ length: size }, (_, to) => bytesFrom(rank, to, lengthOf(rank, to)));
    const [received, gathered] = await Promise.all([
      ranks.allToAll(parts),
      ranks.allGather(bytesFrom(rank, 99, 5 * rank)),
      ranks.barrier(),
    ]);
    for (const part of parts) part.fill(0);
    received.forEach((part, from) => {
      if (hash(part) !== hash(bytesFrom(from, rank, lengthOf(from, rank)))) problems.push(`allToAll from ${from}`);
    });
    gathered.forEach((part, from) => {
      if (hash(part) !== hash(bytesFrom(from, 99, 5 * from))) problems.push(`allGather from ${from}`);
    });
    return { rank, size, problems, sent: ranks.sentBytes };
  },

  async sums(ranks) {
    const values = Float32Array.from({ length: 10_000 }, (_, i) => numberOf(ranks.rank, i));
    await ranks.allReduce(values);
    return hash(bytesOf(values));
  },

  async dies(ranks) {
    await ranks.barrier();
    if (ranks.rank === 1) process.kill(process.pid, 'SIGKILL');
    await ranks.allGather(Uint8Array.of(1));
  },

  async hangs(ranks) {
    await ranks.barrier();
    if (ranks.rank === 1) await new Promise((resolve) => setTimeout(resolve, 60_000));
    await ranks.barrier();
  },

  async aborts(ranks) {
    if (ranks.rank === 1) {
      process.stderr.write('rank 1 cannot go on\n');
      ranks.abort(3);
    }
    await ranks.barrier();
  },
};

const [, , name, timeoutSeconds] = process.argv;
const ranks = connect(timeoutSeconds ? { timeoutSeconds: Number(timeoutSeconds) } : {});
const found = await programs[name](ranks);
process.stdout.write(`${JSON.stringify(found)}\n`);
await ranks.close();
