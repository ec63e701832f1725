/**
 * Checkpoints: folders that are complete or absent. Each holds every adapter with its optimiser rows, the objective's
 * weights with theirs, the progress (loader position included) and a manifest of checksums that is verified when read.
 *
 *     checkpoints/step-00000120/{adapter-<table>.safetensors, objective.safetensors, progress.json, manifest.json}
 *
 * The one that was written after the best evaluation stays until a better one is there. They are written while training goes on: rows
 * are copied as steps are about to change them (see `AdapterSnapshot`), the small rest at once.
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
import { AdapterSnapshot, loadAdapterState } from '@finetable/lora';
import type { Model } from './model.ts';
import type { ParameterGroup } from './parameters.ts';
import type { BestEvaluation, FitOptions } from './fit.ts';
import { startProgress, type TrainingProgress } from './progress.ts';

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
  #writing: Promise<void> | null = null;
  #failure: { readonly error: unknown } | null = null;
  readonly #written: { readonly step: number; readonly folder: string }[] = [];

  /** @param data what its batches depend on: a checkpoint must have been made with the same, and with the options' identity */
  constructor(model: Model, group: ParameterGroup, options: FitOptions['checkpoints'] | null, data: Identity) {
    this.#model = model;
    this.#group = group;
    this.#options = options;
    this.#identity = { ...data, ...options?.identity };
  }

  /**
   * Begins to write a checkpoint, once the one before is written; when it is, the oldest beyond `keep` go, except that of the best
   * evaluation. Where no checkpoints are kept, it is written for the best evaluation alone.
   * @throws what ended the writing of the one before
   */
  async save(progress: TrainingProgress): Promise<void> {
    if (!this.#options && progress.best?.step !== progress.step) return;
    await this.settle();
    const folder = this.#options?.folder ?? (this.#temporary ??= await mkdtemp(join(tmpdir(), 'finetable-')));
    const keep = this.#options ? (this.#options.keep ?? 2) : 0;
    const saveObjective = await this.#group.copyState();
    const adapters = [...this.#model.adapters].map(
      ([name, adapter]) => [adapterFile(name), new AdapterSnapshot(adapter)] as const,
    );
    const write = async (path: string): Promise<void> => {
      for (const [file, snapshot] of adapters) await snapshot.save(join(path, file));
      await saveObjective(join(path, 'objective.safetensors'));
      const saved = { progress, identity: this.#identity };
      await writeFileAtomic(join(path, 'progress.json'), `${JSON.stringify(saved, null, 2)}\n`);
      await writeManifest(path);
    };
    const writing = this.#write(folder, progress, keep, write).finally(() => {
      for (const [, snapshot] of adapters) snapshot.release();
    });
    // Whoever asks next is told; until then a failure is not unhandled.
    writing.catch((error: unknown) => (this.#failure = { error }));
    this.#writing = writing;
  }

  /** Checkpoints that have been written since the last call. @throws what ended the writing of one */
  takeWritten(): readonly { readonly step: number; readonly folder: string }[] {
    if (this.#failure) throw this.#failure.error;
    return this.#written.splice(0);
  }

  /** Waits until nothing is being written. @throws what ended it */
  async settle(): Promise<void> {
    await this.#writing;
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

  /** Waits until nothing is being written, whatever comes of it, and removes what is needed only while training. */
  async close(): Promise<void> {
    await this.#writing?.catch(() => undefined);
    if (this.#temporary) await rm(this.#temporary, { recursive: true, force: true });
    this.#temporary = null;
  }

  async #write(
    folder: string,
    progress: TrainingProgress,
    keep: number,
    write: (path: string) => Promise<void>,
  ): Promise<void> {
    const path = join(folder, stepName(progress.step));
    await writeFolderAtomic(path, write, { overwrite: true });
    for (const { name, step } of (await stepFolders(folder)).slice(keep)) {
      if (step === progress.best?.step) continue;
      await removeFolderAtomic(join(folder, name));
    }
    if (this.#options) this.#written.push({ step: progress.step, folder: path });
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
    return { ...startProgress, ...saved.progress };
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
