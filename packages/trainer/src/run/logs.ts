/** What a run writes of its events: `metrics.jsonl`, and where the job asks for it, files for TensorBoard. */
import { join } from 'node:path';
import type { TrainingEvent } from '../fit.ts';
import { MetricsLog } from './metrics-log.ts';
import { EventFile } from './tensorboard.ts';

export class RunLogs {
  readonly #folder: string;
  readonly #tensorboard: boolean;
  #metrics: MetricsLog | null = null;
  #events: EventFile | null = null;

  constructor(folder: string, tensorboard: boolean) {
    this.#folder = folder;
    this.#tensorboard = tensorboard;
  }

  /** @throws IO */
  write(event: TrainingEvent): void {
    if (event.type === 'start') {
      // It tells where a resumed run goes on.
      this.#metrics = new MetricsLog(join(this.#folder, 'metrics.jsonl'), event.step);
      if (this.#tensorboard) this.#events = new EventFile(join(this.#folder, 'tensorboard'), event.step);
    } else if (event.type === 'step' || event.type === 'evaluation') {
      this.#metrics!.write({ ...event });
      this.#events?.scalars(event.step, scalarsOf(event));
    } else if (event.type === 'checkpoint') {
      this.#metrics!.sync();
    }
  }

  async close(): Promise<void> {
    await this.#metrics?.close();
    await this.#events?.close();
  }
}

function scalarsOf(event: Extract<TrainingEvent, { type: 'step' | 'evaluation' }>): Record<string, number> {
  const part = event.type === 'step' ? 'train' : 'validation';
  const metrics = Object.fromEntries(Object.entries(event.metrics).map(([name, value]) => [`${part}/${name}`, value]));
  if (event.type === 'evaluation') return metrics;
  const { examplesPerSecond, waitSeconds, touchedRows, memoryBytes } = event;
  return {
    ...metrics,
    'speed/examples_per_second': examplesPerSecond,
    'speed/wait_seconds': waitSeconds,
    'memory/touched_rows': touchedRows,
    'memory/rss_bytes': memoryBytes,
  };
}
