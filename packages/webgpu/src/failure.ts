/** What WebGPU reports, as errors of ours. */
import { FinetableError, isFinetableError } from '@finetable/core';

/** @returns OUT_OF_MEMORY where that is what it says, else IO */
export function failure(device: string, what: string, error: unknown): FinetableError {
  if (isFinetableError(error)) return error;
  const message = (error instanceof Error ? error.message : String((error as GPUError).message)).trim();
  const full = (error as object).constructor.name === 'GPUOutOfMemoryError' || /out of memory|OUT_OF_.*MEMORY/i.test(message); // prettier-ignore
  const remedy = full ? '; less fits: a smaller memoryBytes (deviceMemory of a job), or smaller batches' : '';
  return new FinetableError(full ? 'OUT_OF_MEMORY' : 'IO', `device "${device}": ${what}: ${message}${remedy}`, { device }, { cause: error }); // prettier-ignore
}

/** A device that is gone: its driver was reset or updated, the GPU was unplugged, or a shader ran too long. */
export function lostDevice(device: string, { message }: GPUDeviceLostInfo): FinetableError {
  return new FinetableError(
    'IO',
    `device "${device}" is lost: ${message.trim() || 'no reason given'}; what lay on it is gone: open it and its tables again, or resume the run`,
    { device },
  );
}

/**
 * What was asked of the GPU and may still fail. Nothing waits for it until something is read, so that a batch's work can be prepared while
 * the GPU is at the one before.
 */
export class Checks {
  readonly #open = new Set<Promise<FinetableError | null>>();
  #error: FinetableError | null = null;

  add(check: Promise<FinetableError | null>): void {
    this.#open.add(check);
    void check.then((error) => {
      this.#error ??= error;
      this.#open.delete(check);
    });
  }

  /** @throws the first of what has failed */
  async settle(): Promise<void> {
    await Promise.all(this.#open);
    if (this.#error) throw this.#error;
  }
}
