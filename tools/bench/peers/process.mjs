// A peer in a process of its own, which runs batches when it is told to and measures them by itself.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

// Thread pools of peers spin a moment after their work, which would take a core from ours.
const calmMs = 20;
const quiet = { TF_CPP_MIN_LOG_LEVEL: '3', PYTHONDONTWRITEBYTECODE: '' };

/** Huge pages for a peer's arrays. PyTorch documents its variable; for TensorFlow it is the C library that can be told. */
export const hugePages = {
  torch: { THP_MEM_ALLOC_ENABLE: '1' },
  tensorflow: { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' },
};

/** A peer that cannot be had, or that ended; the message is the last it said. */
export class PeerFailed extends Error {}

/** Starts a script with these environment variables and waits until it is warm. @throws PeerFailed */
export async function startPeer(python, script, config, environment) {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(python, [path, JSON.stringify(config)], {
    env: { ...process.env, ...quiet, ...environment, OMP_NUM_THREADS: String(config.threads) },
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (said = (said + text).slice(-20_000)));
  child.on('error', (error) => (said = error.message));
  child.stdin.on('error', () => {}); // one that ended shows as a reply that does not come
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const reply = async () => {
    const { value, done } = await lines.next();
    if (done) throw new PeerFailed(said.trim().split('\n').at(-1) || `${script} ended without a word`);
    return JSON.parse(value);
  };
  const hello = await reply();
  return {
    ...hello,
    /** Milliseconds that these batches took there. */
    run: async (first, count = 1) => {
      child.stdin.write(`${first} ${count}\n`);
      const time = await reply();
      await sleep(calmMs);
      return time;
    },
    /** Its memory is free when this is done. */
    end: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill();
      await once(child, 'exit');
    },
  };
}
