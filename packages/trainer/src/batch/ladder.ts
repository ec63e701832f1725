/** Jobs that climb from rung to rung of successive halving. */
import { resolve } from 'node:path';
import type { FinetableError } from '@finetable/core';
import type { LoadedJob } from '../job/read.ts';
import { runFolder } from '../run/run.ts';
import { evaluatedAt, rungsOf, survivors, type HalvingOptions, type Rung } from './halving.ts';
import type { BatchEvent, JobOutcome, RunJobsOptions } from './run-jobs.ts';
import { RunningBatch } from './running-batch.ts';

export class Ladder {
  readonly #workerUrl: string;
  readonly #jobs: readonly LoadedJob[];
  readonly #options: RunJobsOptions;
  readonly #halving: HalvingOptions;
  readonly #metric: string;
  readonly #rungs: readonly Rung[];
  /** Of jobs that will not train any more. */
  readonly #outcomes = new Map<number, JobOutcome>();
  /** Of the others, as the last rung left them. */
  readonly #waiting = new Map<number, JobOutcome>();
  #existing: RunJobsOptions['existing'];

  constructor(workerUrl: string, jobs: readonly LoadedJob[], options: RunJobsOptions, halving: HalvingOptions) {
    this.#workerUrl = workerUrl;
    this.#jobs = jobs;
    this.#options = options;
    this.#halving = halving;
    this.#metric = halving.metric ?? jobs[0]?.job.train.metric ?? 'loss';
    this.#rungs = rungsOf(halving, jobs);
    this.#existing = options.existing;
  }

  async run(): Promise<JobOutcome[]> {
    let left = this.#jobs.map((_, i) => i);
    for (const rung of this.#rungs) {
      // Whoever is alone has nobody to be compared with.
      if (left.length < 2) break;
      await this.#train(left, rung);
      left = await this.#compare(left, rung);
      if (this.#ended) return this.#all();
    }
    await this.#train(left, null);
    return this.#all();
  }

  get #ended(): boolean {
    const failed = [...this.#outcomes.values()].some(({ status }) => status === 'failed');
    return this.#options.signal?.aborted === true || (failed && this.#options.stopOnFailure === true);
  }

  /** Trains those that are not there yet. */
  async #train(jobs: readonly number[], rung: Rung | null): Promise<void> {
    const missing: number[] = [];
    for (const i of jobs) {
      if (this.#outcomes.has(i)) continue;
      const there = rung && this.#existing !== 'overwrite' && (await this.#evaluated(i, rung));
      if (!there) missing.push(i);
    }
    if (missing.length === 0) return;
    const outcomes = await new RunningBatch(
      this.#workerUrl,
      missing.map((i) => this.#jobs[i]!),
      { ...this.#options, existing: this.#existing, onEvent: (event) => this.#tell(event, missing, rung) },
      rung,
    ).run();
    this.#existing = 'resume';
    outcomes.forEach((outcome, at) => {
      const left = rung !== null && (outcome.status === 'interrupted' || outcome.status === 'waiting');
      (left ? this.#waiting : this.#outcomes).set(missing[at]!, outcome);
    });
  }

  #tell(event: BatchEvent, jobs: readonly number[], rung: Rung | null): void {
    const job = jobs[event.job]!;
    const waits = rung && event.type === 'end' && event.status === 'interrupted';
    if (waits) this.#options.onEvent?.({ type: 'rung', job, name: event.name, rung });
    else this.#options.onEvent?.({ ...event, job });
  }

  /** @returns those that go on */
  async #compare(jobs: readonly number[], rung: Rung): Promise<number[]> {
    const compared: { readonly i: number; readonly metrics: Readonly<Record<string, number>> }[] = [];
    for (const i of jobs) {
      if (this.#outcomes.get(i)?.status === 'failed') continue;
      const metrics = await this.#evaluated(i, rung);
      if (metrics) compared.push({ i, metrics });
    }
    const unfinished = jobs.length > compared.length && this.#ended;
    if (unfinished) return [];
    const values = compared.map(({ metrics }) => metrics[this.#metric]!);
    const chosen = survivors(values, this.#metric, this.#halving.keep);
    compared.forEach(({ i, metrics }, at) => {
      if (chosen.includes(at) || this.#outcomes.has(i)) return;
      this.#end(i, { ...this.#outcome(i, 'stopped'), stopped: { after: rung, metrics } });
    });
    return chosen.map((at) => compared[at]!.i);
  }

  /** Null where it is not there yet, and where it cannot be: then it has failed. */
  async #evaluated(i: number, rung: Rung): Promise<Readonly<Record<string, number>> | null> {
    const loaded = this.#jobs[i]!;
    try {
      return await evaluatedAt(resolve(runFolder(loaded)), loaded, rung, this.#metric);
    } catch (error) {
      this.#end(i, { ...this.#outcome(i, 'failed'), error: error as FinetableError });
      return null;
    }
  }

  #all(): JobOutcome[] {
    return this.#jobs.map((_, i) => this.#outcomes.get(i) ?? this.#waiting.get(i) ?? this.#outcome(i, 'interrupted'));
  }

  #outcome(i: number, status: JobOutcome['status']): JobOutcome {
    const loaded = this.#jobs[i]!;
    return { name: loaded.job.name, folder: resolve(runFolder(loaded)), status, result: null, error: null };
  }

  #end(i: number, outcome: JobOutcome): void {
    this.#outcomes.set(i, outcome);
    this.#options.onEvent?.({ type: 'end', job: i, ...outcome });
  }
}
