// Eight jobs over one table: as a batch, beside each alone; and what memory they take.
import { execFile } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { formatBytes, RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';

const [V, D, rank, count] = [1_000_000, 128, 8, 8];
const [batchSize, batches, idsPerExample] = [1024, 100, 12];
/** Cores of the comparison: threads of a job alone, and of all jobs of the batch together. */
const threads = 2;
const rounds = 3;

async function writeInputs(folder) {
  const rows = 2 ** 14;
  const chunks = async function* () {
    for (let first = 0; first < V; first += rows) {
      const data = new Float32Array(Math.min(rows, V - first) * D);
      new RandomStream(1, `rows/${first}`).fillNormal(data);
      yield new Uint8Array(data.buffer);
    }
  };
  await writeSafetensors(join(folder, 'table.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data: chunks() }]); // prettier-ignore
  const random = new RandomStream(1, 'ids');
  const file = openSync(join(folder, 'train.jsonl'), 'w');
  for (let i = 0, at = 0; i < batches; i++) {
    let lines = '';
    for (let j = 0; j < batchSize; j++) {
      const ids = Array.from({ length: idsPerExample }, () => random.below(at++, V));
      lines += `${JSON.stringify({ ids, label: `class ${(i + j) % 20}` })}\n`;
    }
    writeSync(file, lines);
  }
  closeSync(file);
  const job = {
    name: 'bench',
    tables: { items: { file: 'table.safetensors' } },
    data: { train: { file: 'train.jsonl' }, batchSize, workers: 1 },
    features: { ids: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'ids', label: 'label' },
    adapters: { items: { rank } },
    optimizer: { type: 'adamw', learningRate: 0.001, mode: 'lazy' },
    train: { epochs: 1 },
  };
  writeFileSync(join(folder, 'job.json'), JSON.stringify(job));
}

export async function measureBatch(report) {
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  try {
    await writeInputs(folder);
    report.section(
      'Batches of jobs',
      `${count} classifications that differ in their seeds, over one table of ${V / 1e6}M rows of ${D} f32 (${formatBytes(4 * V * D)}), r = ${rank}, ${batches} steps of ${batchSize} examples of ${idsPerExample} ids; each measured in a process of its own, opening and writing included, ${rounds} rounds in turns.`,
    );
    const run = promisify(execFile);
    const script = fileURLToPath(new URL('./batch-run.mjs', import.meta.url));
    let made = 0;
    const measure = async (seeds, concurrency) => {
      const file = join(folder, 'job.json');
      const jobs = seeds.map((seed) => ({
        file,
        set: [`train.seed=${seed}`, ...(concurrency === 0 ? [`train.threads=${threads}`] : [])],
      }));
      const runs = join(folder, `runs-${made++}`);
      const { stdout } = await run(process.execPath, [script, JSON.stringify({ jobs, concurrency, threads, runs })]);
      rmSync(runs, { recursive: true });
      return JSON.parse(stdout);
    };
    const seeds = Array.from({ length: count }, (_, i) => i);
    const [times, memories] = [[], []];
    let [one, batch] = [null, null];
    for (let round = 0; round < rounds; round++) {
      // The batch between the halves of those alone: a slow moment meets both.
      const alone = [];
      for (const seed of seeds.slice(0, count / 2)) alone.push(await measure([seed], 0));
      batch = await measure(seeds, threads);
      for (const seed of seeds.slice(count / 2)) alone.push(await measure([seed], 0));
      const sum = (of) => alone.reduce((total, result) => total + of(result), 0);
      times.push(batch.seconds / sum(({ seconds }) => seconds));
      memories.push(batch.residentBytes / sum(({ residentBytes }) => residentBytes));
      one = alone[0];
    }
    const jobs = `each of ${count} jobs alone, summed`;
    report.value(`a batch of ${count}, ${threads} at a time: time`, `${jobs}, ${threads} threads`, times, 'x', { atMost: 1.1 }, `${batch.seconds.toFixed(1)} s`); // prettier-ignore
    report.value(`the same: resident memory at most`, jobs, memories, 'x', { atMost: 0.25 }, `${formatBytes(batch.residentBytes)}, alone ${formatBytes(one.residentBytes)}`); // prettier-ignore
    const single = await measure([0], 1);
    const all = await measure(seeds, count);
    const each = (all.residentBytes - single.residentBytes) / (count - 1);
    report.value(`what each job beside another adds, ${count} at a time: memory`, 'the table, which is there once', [each / (4 * V * D)], 'x', { atMost: 0.5 }, `${formatBytes(single.residentBytes)} with one, ${formatBytes(all.residentBytes)} with ${count}`); // prettier-ignore
    report.remark(
      `Of the ${formatBytes(each)} that a job adds, ${formatBytes(single.addedBytes)} are its adapter with optimiser state; the rest are its thread, its loader's thread and batches.`,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}
