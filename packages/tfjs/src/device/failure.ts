/** What tfjs throws, as an error of ours. */
import { FinetableError, isFinetableError } from '@finetable/core';

/** @returns OUT_OF_MEMORY where that is what the message says, else IO */
export function failure(device: string, what: string, error: unknown): FinetableError {
  if (isFinetableError(error)) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = /memory|alloc|\bOOM\b/i.test(message) ? 'OUT_OF_MEMORY' : 'IO';
  return new FinetableError(code, `device "${device}": ${what}: ${message}`, { device }, { cause: error });
}
