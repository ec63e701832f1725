/**
 * Finetable in one import: the public names of all its packages.
 *
 * @example
 * ```ts
 * import { adamw, classification, createAdapter, openLoader, openTable, saveAdapters, Trainer } from 'finetable';
 *
 * const words = await openTable('vectors.safetensors', { name: 'words' });
 * const adapter = createAdapter(words, { rank: 8, alpha: 16 });
 * const loader = await openLoader(
 *   {
 *     source: { file: 'train.jsonl' },
 *     features: { text: { table: 'words', column: 'text', tokens: { vocabulary: 'words.txt' } } },
 *     labels: { intent: { column: 'intent' } },
 *     tables: { words: { rows: words.rows } },
 *   },
 *   { batchSize: 256, shuffle: true },
 * );
 * const trainer = new Trainer({
 *   adapters: { words: adapter },
 *   objective: classification({ input: 'text', label: 'intent' }),
 *   optimizer: adamw({ learningRate: 0.001 }),
 * });
 * await trainer.fit(loader, { epochs: 5 });
 * await saveAdapters('adapters/intents', [adapter]);
 * ```
 * @module
 */
export * from '@finetable/core';
export * from '@finetable/kernels';
export * from '@finetable/formats';
export * from '@finetable/placement';
export * from '@finetable/lora';
export * from '@finetable/data';
export * from '@finetable/trainer';
