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

test('without validation or adapters their lines are absent', () => {
  const text = summarize({ ...result, validation: null, adapters: {}, stoppedEarly: true }, 'r');
  expect(text).not.toContain('validation');
  expect(text).not.toContain('adapter');
  expect(text).toContain('6 epochs (stopped early)');
  const ended = { ...result, stoppedEarly: true, endedBy: 'seconds' as const };
  expect(summarize(ended, 'r')).toContain('6 epochs (stopped early: budget of seconds)');
  expect(text).toContain('files     r/report.html, r/result.json\n');
});
