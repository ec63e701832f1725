// A peer in a process of its own, which runs batches when it is told to and measures them by itself.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

// Thread pools of peers spin a moment after their work, which would take a core from ours.
const calmMs = 20;
const environment = {
  THP_MEM_ALLOC_ENABLE: '1', // PyTorch: huge pages for tensors
  TF_CPP_MIN_LOG_LEVEL: '3',
  PYTHONDONTWRITEBYTECODE: '',
};

/** Starts a script and waits until it is warm. @throws where it ends before, with the last it said */
export async function startPeer(python, script, config) {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(python, [path, JSON.stringify(config)], {
    env: { ...process.env, ...environment, OMP_NUM_THREADS: String(config.threads) },
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (said = (said + text).slice(-20_000)));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const reply = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(said.trim().split('\n').at(-1) || `${script} ended without a word`);
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
    end: () => {
      child.stdin.end();
      child.kill();
    },
  };
}
