/**
 * Checkpoints: folders that are complete or absent. Each holds every adapter with its optimiser rows, the objective's
 * weights with theirs, the progress (loader position included) and a manifest of checksums that is verified when read.
 *
 *     checkpoints/step-00000120/{adapter-<table>.safetensors, objective.safetensors, progress.json, manifest.json}
 *
 * The one that was written after the best evaluation stays until a better one is there.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import {
  ioError,
  removeFolderAtomic,
  removeLeftovers,
  verifyManifest,
  writeFileAtomic,
  writeFolderAtomic,
  writeManifest,
} from '@finetable/formats';
import { loadAdapterState, saveAdapterState } from '@finetable/lora';
import type { Model } from './model.ts';
import type { MetricSums } from './objective.ts';
import type { ParameterGroup } from './parameters.ts';
import type { BestEvaluation, FitOptions } from './fit.ts';

/** How far a training is: everything beside the model that going on needs. JSON. */
export interface TrainingProgress {
  readonly step: number;
  /** The next batch: its epoch and its index there. */
  readonly epoch: number;
  readonly batch: number;
  readonly examples: number;
  readonly epochSums: MetricSums;
  readonly epochExamples: number;
  /** Since the last `step` event. */
  readonly loggedSums: MetricSums;
  readonly loggedExamples: number;
  readonly train: Readonly<Record<string, number>>;
  readonly best: BestEvaluation | null;
  readonly evaluationsSinceBest: number;
  /** Stopped early. */
  readonly done: boolean;
  readonly seconds: number;
  readonly waitSeconds: number;
}

type Identity = Readonly<Record<string, string | number | boolean>>;

/** What `stepName` makes. */
const stepPattern = /^step-(\d{8,})$/;

export class Checkpoints {
  readonly #model: Model;
  readonly #group: ParameterGroup;
  readonly #options: FitOptions['checkpoints'] | null;
  readonly #identity: Identity;
  /** Holds the best state where no checkpoints are kept. */
  #temporary: string | null = null;

  /** @param data what its batches depend on: a checkpoint must have been made with the same, and with the options' identity */
  constructor(model: Model, group: ParameterGroup, options: FitOptions['checkpoints'] | null, data: Identity) {
    this.#model = model;
    this.#group = group;
    this.#options = options;
    this.#identity = { ...data, ...options?.identity };
  }

  /**
   * Writes a checkpoint, then removes the oldest beyond `keep`, except that of the best evaluation.
   * @returns its folder; null where no checkpoints are kept
   */
  async save(progress: TrainingProgress): Promise<string | null> {
    if (!this.#options) return null;
    await this.#save(this.#options.folder, progress, this.#options.keep ?? 2);
    return join(this.#options.folder, stepName(progress.step));
  }

  /** Keeps the state of an evaluation that was the best; where checkpoints are kept, `save` of the same progress has. */
  async saveBest(progress: TrainingProgress): Promise<void> {
    if (this.#options) return;
    this.#temporary ??= await mkdtemp(join(tmpdir(), 'finetable-'));
    await this.#save(this.#temporary, progress, 0);
  }

  /**
   * For a training that starts anew: checkpoints of an earlier one would outlive its own, and be resumed instead of them.
   * @throws EXISTS
   */
  async expectNone(): Promise<null> {
    if (!this.#options) return null;
    const { folder } = this.#options;
    const newest = (await stepFolders(folder))[0];
    if (!newest) return null;
    throw new FinetableError(
      'EXISTS',
      `${folder} holds checkpoints of an earlier training, up to ${newest.name}; resume it, remove them, or name another folder`,
      { file: folder },
    );
  }

  /**
   * Reads the newest checkpoint into the model. @returns its progress, or null where there is none
   * @throws INVALID_FILE where it is damaged; MISMATCH where it belongs to other data or another model
   */
  async restore(): Promise<TrainingProgress | null> {
    if (!this.#options) throw new FinetableError('INVALID_ARGUMENT', 'fit: resume needs checkpoints');
    const { folder } = this.#options;
    await recover(folder);
    const newest = (await stepFolders(folder))[0];
    if (!newest) return null;
    return await this.#read(join(folder, newest.name));
  }

  /** Puts the state of the best evaluation back. */
  async restoreBest({ step }: BestEvaluation): Promise<void> {
    await this.#read(join(this.#options?.folder ?? this.#temporary!, stepName(step)));
  }

  /** Removes what is needed only while training. */
  async close(): Promise<void> {
    if (this.#temporary) await rm(this.#temporary, { recursive: true, force: true });
    this.#temporary = null;
  }

  async #save(folder: string, progress: TrainingProgress, keep: number): Promise<void> {
    await writeFolderAtomic(
      join(folder, stepName(progress.step)),
      async (path) => {
        for (const [name, adapter] of this.#model.adapters)
          await saveAdapterState(join(path, adapterFile(name)), adapter);
        await this.#group.saveState(join(path, 'objective.safetensors'));
        const saved = { progress, identity: this.#identity };
        await writeFileAtomic(join(path, 'progress.json'), `${JSON.stringify(saved, null, 2)}\n`);
        await writeManifest(path);
      },
      { replace: true },
    );
    for (const { name, step } of (await stepFolders(folder)).slice(keep)) {
      if (step === progress.best?.step) continue;
      await removeFolderAtomic(join(folder, name));
    }
  }

  async #read(path: string): Promise<TrainingProgress> {
    await verifyManifest(path);
    const file = join(path, 'progress.json');
    const saved = JSON.parse(await readFile(file, 'utf8')) as { progress: TrainingProgress; identity: Identity };
    for (const [key, value] of Object.entries(this.#identity)) {
      const found = saved.identity[key];
      if (found !== value) {
        throw new FinetableError(
          'MISMATCH',
          `${path}: it was made with ${key} ${String(found)}, now it is ${String(value)}; start again, or put back what it was`,
          { file, field: key },
        );
      }
    }
    for (const [name, adapter] of this.#model.adapters) await loadAdapterState(join(path, adapterFile(name)), adapter);
    await this.#group.loadState(join(path, 'objective.safetensors'));
    return saved.progress;
  }
}

const stepName = (step: number): string => `step-${String(step).padStart(8, '0')}`;

/** Encoded: a table's name may hold what a file's name may not. */
const adapterFile = (table: string): string => `adapter-${encodeURIComponent(table)}.safetensors`;

/** Newest first. */
async function stepFolders(folder: string): Promise<{ name: string; step: number }[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw ioError(error, 'reading', folder);
  });
  return names
    .map((name) => ({ name, step: Number(stepPattern.exec(name)?.[1] ?? -1) }))
    .filter(({ step }) => step >= 0)
    .sort((a, b) => b.step - a.step);
}

/** Repairs what a kill may have left: temporary folders, and a folder moved aside while its successor took its place. */
async function recover(folder: string): Promise<void> {
  if (existsSync(folder)) await removeLeftovers(folder);
}
