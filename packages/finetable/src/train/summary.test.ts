import type { RunResult } from '@finetable/trainer';
import { expect, test } from 'vitest';
import { summarize } from './summary.ts';

const result: RunResult = {
  name: 'intents',
  steps: 4680,
  epochs: 6,
  stoppedEarly: false,
  train: { loss: 0.51234, accuracy: 0.9 },
  validation: { loss: 0.6, accuracy: 0.85 },
  seconds: 83,
  waitSeconds: 0.83,
  examplesPerSecond: 12345,
  stepMilliseconds: 17.735,
  peakMemoryBytes: 300 * 2 ** 20,
  tables: { words: { rows: 400_000, dim: 300, dtype: 'f16', bytes: 240_000_000 } },
  adapters: {
    words: {
      groups: [{ name: 'rest', kind: 'lora', rank: 8, touchedRows: 4012 }],
      touchedRows: 4012,
      adapterBytes: 137_984,
      optimizerBytes: 320_000,
    },
  },
  kernels: 'native: AVX2, 2 threads',
  classes: { intent: ['a', 'b'] },
  checksums: {},
};

test('the summary tells metrics, speed, memory, adapter against table, and files', () => {
  expect(summarize(result, 'runs/intents')).toBe(
    [
      'trained     4,680 steps, 6 epochs, 1:23',
      'training    loss 0.512, accuracy 0.9',
      'validation  loss 0.6, accuracy 0.85',
      'speed       17.7 ms/step, 12,345 examples/s, 1.0 % waiting for data',
      'memory      300 MiB at most; kernels: native: AVX2, 2 threads',
      "adapter     words: rank 8, 4,012 of 400,000 rows touched, 135 KiB (0.0575 % of the table's 229 MiB), optimiser 313 KiB",
      'files       runs/intents/adapter, runs/intents/report.html, runs/intents/result.json',
      '',
    ].join('\n'),
  );
});

test('many adapters have one line', () => {
  const names = ['a', 'b', 'c', 'd', 'e'];
  const table = { rows: 1000, dim: 8, dtype: 'f32', bytes: 32_000 };
  const group = { name: 'rest', kind: 'lora' as const, touchedRows: 10 };
  const text = summarize(
    {
      ...result,
      tables: Object.fromEntries(names.map((name) => [name, table])),
      adapters: Object.fromEntries(
        names.map((name, i) => [
          name,
          {
            groups: [{ ...group, rank: i < 4 ? 2 : 4 }],
            touchedRows: 10,
            adapterBytes: 160,
            optimizerBytes: 1024,
          },
        ]),
      ),
    },
    'r',
  );
  expect(text.match(/^adapter.*$/gm)).toEqual([
    "adapters    5: rank 2; rank 4, 50 of 5,000 rows touched, 800 B (0.5 % of the tables' 156 KiB), optimiser 5 KiB; report.html has each",
  ]);
});

test('without validation or adapters their lines are absent', () => {
  const text = summarize({ ...result, validation: null, adapters: {}, stoppedEarly: true }, 'r');
  expect(text).not.toContain('validation');
  expect(text).not.toContain('adapter');
  expect(text).toContain('6 epochs (stopped early)');
  const ended = { ...result, stoppedEarly: true, endedBy: 'seconds' as const };
  expect(summarize(ended, 'r')).toContain('6 epochs (stopped early: budget of seconds)');
  expect(text).toContain('files     r/report.html, r/result.json\n');
});
