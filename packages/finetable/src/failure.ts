/** Exit codes, and how an error is told. */
import { isFinetableError, toPlainError, type ErrorCode } from '@finetable/core';
import type { Io } from './io.ts';

export const exitStatus = { done: 0, failed: 1, badInput: 2, interrupted: 130 } as const;

/** What the person who typed the command can put right. */
const badInput: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'INVALID_ARGUMENT',
  'INVALID_JOB',
  'INVALID_DATA',
  'INVALID_FILE',
  'ID_OUT_OF_RANGE',
  'NON_FINITE',
  'MISMATCH',
  'NOT_FOUND',
  'EXISTS',
  'LOCKED',
  'DOES_NOT_FIT',
  'UNSUPPORTED',
]);

export function statusOf(error: unknown): number {
  if (!isFinetableError(error)) return exitStatus.failed;
  if (error.code === 'INTERRUPTED') return exitStatus.interrupted;
  return badInput.has(error.code) ? exitStatus.badInput : exitStatus.failed;
}

/**
 * One message on stderr; the stack only of errors that are not ours, or with FINETABLE_DEBUG=1. With `json`, the error as
 * the last object on stdout too.
 * @returns the exit status
 */
export function reportFailure(error: unknown, io: Io, json: boolean): number {
  const { code, message, details, stack } = toPlainError(error);
  const withStack = code === null || process.env.FINETABLE_DEBUG === '1';
  io.stderr.write(`finetable: ${withStack && stack ? stack : message}\n`);
  if (json) writeJson(io, { error: { code: code ?? 'UNEXPECTED', message, details } });
  return statusOf(error);
}

/** One object, one line. */
export function writeJson(io: Io, value: unknown): void {
  io.stdout.write(`${JSON.stringify(value)}\n`);
}
